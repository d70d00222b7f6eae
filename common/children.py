"""Child processes, which end with the process that started them or after a time limit."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psutil

from common.errors import RunError


@contextlib.contextmanager
def started(command: Sequence[str], timeout: float, **options: Any) -> Iterator[subprocess.Popen]:
    """Yields a started process, and kills it and its children at the end of the block or after
    `timeout` seconds.

    It leads its own session, so Ctrl-C on a terminal reaches only its parent, which ends it. Raises
    RunError after the block if the timeout was reached. Handle the end of the process after the
    block, because an error inside the block would hide this one.
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


def _end(process: subprocess.Popen) -> None:
    """Kills a process that still runs, and its descendants, which may have outlived it."""
    if process.returncode is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            itself = psutil.Process(process.pid)
            for each in [itself, *itself.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
    # it leads a group, whose number the system does not reuse while a member is left
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):  # no member is left
            os.killpg(process.pid, signal.SIGKILL)


def end_on_signals() -> None:
    """Makes SIGTERM and SIGHUP unwind this process and end its children, as Ctrl-C does."""
    for number in filter(None, (signal.SIGTERM, getattr(signal, "SIGHUP", None))):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda received, _: sys.exit(128 + received))
