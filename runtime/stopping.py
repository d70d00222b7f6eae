"""Ctrl-C and SIGTERM: the first ends a training run after its block; a second, or one at any other time, at once."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any, NoReturn

from common.errors import Stopped, end

SHOW_CURSOR = b"\x1b[?25h"  # the live line hides it


class _State:
    """Whether a signal may wait for the end of a block, the one that waits, 0 for none, and a descriptor of stderr.

    decided: what the workers of a run have decided about it together; None where this process decides alone.
    """

    deferring = False
    waiting = 0
    decided: int | None = None
    stderr = 2


def install() -> None:
    """Takes over SIGINT and SIGTERM, but not where they are ignored, as under nohup."""
    if _State.stderr == 2:
        with contextlib.suppress(OSError):  # stderr may be closed
            _State.stderr = os.dup(2)  # 2 itself is held while TensorFlow is imported
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def _handle(number: int, _frame: Any) -> None:
    if not _State.deferring or _State.waiting:
        _leave(number)
    _State.waiting = number


def _leave(number: int) -> NoReturn:
    """Ends the process as SIGKILL would, so that no library can turn it into a traceback or wait for threads."""
    if os.isatty(1):
        os.write(1, SHOW_CURSOR)
    say(f"stopped by {signal.Signals(number).name}")
    end(128 + number, at_once=True)


@contextlib.contextmanager
def at_block_ends() -> Iterator[None]:
    """Inside, a first signal only makes `asked` true; one that nobody asked about ends the process at the end."""
    _State.deferring = True
    try:
        yield
    finally:
        _State.deferring = False
    if _State.waiting:
        _leave(_State.waiting)


def say(line: str) -> None:
    """Writes a line to stderr, at once even where `startup.quiet` holds what is written there."""
    with contextlib.suppress(OSError):  # a full disk fails nothing
        os.write(_State.stderr, f"{line}\n".encode())


def waiting() -> int:
    """Returns the signal that came to this process and waits for the end of the block; 0 for none."""
    return _State.waiting


def decide(number: int) -> None:
    """Lets this process stop by signal `number` at the end of its block, or with 0 go on, whatever came to it since."""
    _State.decided = number


def asked() -> int:
    """Returns the signal by which the run is to stop at the end of the block; 0 for none."""
    return _State.waiting if _State.decided is None else _State.decided


def stopped(reached: str) -> Stopped:
    """Returns the exception that ends the run with the code of the signal that asked, saying what was `reached`."""
    return Stopped(f"stopped by {signal.Signals(asked()).name} {reached}", 128 + asked())
