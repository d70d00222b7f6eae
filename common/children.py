"""Child processes, which end with the process that started them and after a time limit."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil

from common.errors import RunError


@contextlib.contextmanager
def started(command: Sequence[str], timeout: float, **options: Any) -> Iterator[subprocess.Popen]:
    """Yields a started process; at the end of the block, and after `timeout` seconds, it and its
    children are ended.

    It leads a session of its own: Ctrl-C on a terminal reaches its parent alone, which ends it.
    Raises RunError if the time was over: what the block does with a process that is gone should
    wait until after it.
    """
    over = threading.Event()

    def give_up() -> None:
        over.set()
        _end(process)

    timer = threading.Timer(timeout, give_up)
    timer.daemon = True
    with subprocess.Popen(command, start_new_session=True, **options) as process:
        try:
            timer.start()
            yield process
        finally:
            timer.cancel()
            _end(process)
    if over.is_set():
        raise RunError(f"--timeout={timeout:g}: ended after {timeout:g} s: {shlex.join(command)}")


def run(
    command: Sequence[str],
    timeout: float,
    meanwhile: Callable[[subprocess.Popen], object] | None = None,
    **options: Any,
) -> subprocess.CompletedProcess:
    """Returns a process that has ended, with what it printed; calls `meanwhile` as it runs."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(command, timeout, **pipes | options) as process:
        if meanwhile:
            meanwhile(process)
        stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def _end(process: subprocess.Popen) -> None:
    """Kills a process that still runs, and all that it has started, which may have outlived it."""
    if process.returncode is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            itself = psutil.Process(process.pid)
            for each in [itself, *itself.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
    # it leads a group, whose number the system gives to no other while anybody is left in it
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left
            os.killpg(process.pid, signal.SIGKILL)


def end_on_signals() -> None:
    """Lets SIGTERM and SIGHUP unwind this process and end its children, as Ctrl-C does."""
    for number in filter(None, (signal.SIGTERM, getattr(signal, "SIGHUP", None))):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda received, _: sys.exit(128 + received))
