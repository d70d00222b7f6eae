"""Ctrl-C, SIGTERM and SIGHUP, which end a run after its block, from the first step to the end.

A second signal, or one at any other time, ends the process at once. compare.py is unwound.
"""

import contextlib
import os
import signal
import stat
import sys
from collections.abc import Iterator
from types import FrameType

from common.errors import Stopped, end, is_alone

_waiting = 0  # the signal that waits for the end of a block, 0 for none
_stderr = 2  # later a copy of descriptor 2, which is redirected while TensorFlow is imported


def install() -> None:
    """Lets a signal end the process at once with one line, except in a debugger or notebook."""
    global _stderr
    if not is_alone():
        return
    _stderr = os.dup(2)
    for number in _handled():
        signal.signal(number, _leave)


def unwind() -> None:
    """Lets SIGTERM and SIGHUP unwind this process, which ends its children, as Ctrl-C does."""
    for number in _handled() - {signal.SIGINT}:
        signal.signal(number, lambda received, _: sys.exit(128 + received))


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Defers a first signal, for `asked`, in the `with` block; then raises Stopped if one came."""
    global _waiting
    before = {number: signal.signal(number, _defer) for number in _handled()}
    try:
        yield
    finally:
        came, _waiting = _waiting, 0
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise Stopped(came)


def _handled() -> set[int]:
    """Returns the signals that end a run, except those that are ignored, as under nohup."""
    # Windows has no SIGHUP
    ending = signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGINT)
    return {number for number in ending if signal.getsignal(number) is not signal.SIG_IGN}


def _defer(number: int, frame: FrameType | None) -> None:
    global _waiting
    if _waiting:
        _leave(number, frame)
    _waiting = number
    for stream in (1, 2):
        # The terminal may be closed, and an error of printing would cost the checkpoint.
        if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def _leave(number: int, frame: FrameType | None) -> None:
    """Ends the process at once: no library shows a traceback or waits for threads."""
    if not is_alone():
        raise KeyboardInterrupt
    if os.isatty(1):
        os.write(1, b"\x1b[?25h")  # shows the cursor, which the bar hides
    stop = Stopped(number)
    say_at_once(str(stop))
    end(stop.exit_code)


def say_at_once(line: str) -> None:
    """Writes a line to stderr at once, even while `startup.quiet` redirects it."""
    with contextlib.suppress(OSError):
        os.write(_stderr, f"{line}\n".encode())


def asked() -> int:
    """Returns the signal that asks this process to stop at the end of the block; 0 for none."""
    return _waiting
