"""Child processes, which end with the process that started them or after a time limit."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from common.files import PROJECT


@contextlib.contextmanager
def started(command: Sequence[str], timeout: float, **options: Any) -> Iterator[subprocess.Popen]:
    """Yields a started process, and kills it and its children at the end of the block or after
    `timeout` seconds.

    It leads its own session, so Ctrl-C on a terminal reaches only its parent, which ends it.
    """
    with subprocess.Popen(command, start_new_session=True, **options) as process:
        timer = threading.Timer(timeout, _end, [process])
        try:
            timer.start()
            yield process
        finally:
            timer.cancel()
            _end(process)


def _end(process: subprocess.Popen) -> None:
    """Kills a process that still runs, and its group, which may have outlived it."""
    process.kill()
    # the system does not reuse the number of a group while a member is left
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):  # no member is left
            os.killpg(process.pid, signal.SIGKILL)


def printed(command: Sequence[str]) -> str:
    """Returns what a program prints, run in the project's folder; "" if it fails or hangs."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.check_output(
            command, cwd=PROJECT, stderr=subprocess.DEVNULL, text=True, timeout=10
        )
    return ""
