"""Runs files of this project as commands, in forks of a process that has imported TensorFlow and
run nothing of it.

That import is most of what a command of a test takes. What belongs to a start is tested on real
ones.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from unittest import mock

# Nothing of the project is imported here: a fork would have it already.
PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tensorflow", "psutil", "absl.flags", __name__])


class Forked:
    """A file, or -m and a module, with arguments: what subprocess.Popen with pipes is, as far as
    the tests need it."""

    def __init__(
        self, argv: Sequence[object], cwd: object = "", env: Mapping[str, str] = os.environ
    ):
        from runtime import startup  # not at the top, where it would be imported before the fork

        self.args = [*map(str, argv)]
        readers, writers = zip(*(CONTEXT.Pipe(duplex=False) for _ in range(2)), strict=True)
        given = self.args, str(cwd) or os.getcwd(), dict(env), *writers
        self._process = CONTEXT.Process(target=_become, args=given, daemon=True)
        with mock.patch.dict(os.environ, {startup.LEGACY_KERAS: "1"}):
            self._process.start()
        self.pid = self._process.pid
        for writer in writers:
            writer.close()
        self.stdout, self.stderr = (
            os.fdopen(os.dup(reader.fileno()), errors="replace") for reader in readers
        )
        self._errors: list[str] = []
        self._reading = threading.Thread(
            target=lambda: self._errors.append(self.stderr.read()), daemon=True
        )
        self._reading.start()

    @property
    def returncode(self) -> int | None:
        """The exit code, or a signal's number below 0; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """Returns the rest of what it prints, and its errors; one that takes longer is killed."""
        limit = threading.Timer(timeout, self._process.kill)
        limit.start()
        try:
            output = self.stdout.read()
            self._reading.join()
            self._process.join()
        finally:
            limit.cancel()
        self.stdout.close()
        self.stderr.close()
        return output, self._errors[0]


def run(argv: Sequence[object], **options: object) -> subprocess.CompletedProcess:
    """Runs a file to its end."""
    process = Forked(argv, **options)
    output, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def _become(argv: list[str], cwd: str, env: dict[str, str], *pipes: Connection) -> None:
    """Turns this process into the one that `python *argv` starts."""
    for number, pipe in enumerate(pipes, 1):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    encoding = env.get("PYTHONIOENCODING")
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(
        2, "w", buffering=1, encoding=encoding, errors="backslashreplace", closefd=False
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    first = [
        cwd if argv[0] == "-m" else os.path.dirname(argv[0]),
        *env.get("PYTHONPATH", "").split(os.pathsep),
    ]
    sys.path[:] = filter(None, [*first, *(path for path in sys.path if path not in ("", PROJECT))])
    sys.argv[:] = argv[argv[0] == "-m" :]
    if argv[0] == "-m":
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(argv[0], run_name="__main__")
