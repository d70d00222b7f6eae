"""Runs files of this project as commands, in forks of a process that has imported TensorFlow and
run nothing of it.

That import is most of what a command of a test takes. What belongs to a start is tested on real
ones.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from unittest import mock

# Nothing of the project is imported here: a fork would have it already.
PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tensorflow", "psutil", "absl.flags", __name__])


class Forked:
    """A file with arguments: what subprocess.Popen with pipes is, as far as the tests need it."""

    def __init__(self, argv, cwd=PROJECT, env=os.environ):
        from runtime import startup  # not at the top, where it would be imported before the fork

        self.args = [*map(str, argv)]
        reader, writer = CONTEXT.Pipe(duplex=False)
        self.stdout = os.fdopen(os.dup(reader.fileno()))
        self.stderr = tempfile.NamedTemporaryFile("r")  # noqa: SIM115
        given = self.args, str(cwd), dict(env), writer, self.stderr.name
        self._process = CONTEXT.Process(target=_become, args=given, daemon=True)
        with mock.patch.dict(os.environ, {startup.LEGACY_KERAS: "1"}):
            self._process.start()
        writer.close()
        self.kill = self._process.kill

    @property
    def returncode(self):
        """The exit code, or a signal's number below 0; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def communicate(self, timeout=120):
        """Returns the rest of what it prints, and its errors; one that takes longer is killed."""
        limit = threading.Timer(timeout, self.kill)
        limit.start()
        with self.stdout, self.stderr:
            output = self.stdout.read()
            self._process.join()
            limit.cancel()
            return output, self.stderr.read()


def run(argv, **options):
    """Runs a file to its end."""
    process = Forked(argv, **options)
    output = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, *output)


def _become(argv, cwd, env, output, errors):
    """Turns this process into the one that `python *argv` starts."""
    os.dup2(output.fileno(), 1)
    output.close()
    os.dup2(os.open(errors, os.O_WRONLY | os.O_APPEND), 2)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, closefd=False)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    first = [os.path.dirname(argv[0]), *env.get("PYTHONPATH", "").split(os.pathsep)]
    sys.path[:] = filter(None, [*first, *(path for path in sys.path if path != PROJECT)])
    sys.argv[:] = argv
    runpy.run_path(argv[0], run_name="__main__")
