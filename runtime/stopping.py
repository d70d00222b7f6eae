"""Ctrl-C and SIGTERM: the first ends a training run after its block; a second, or one at any other time, at once."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from common.errors import Stopped

SHOW_CURSOR = b"\x1b[?25h"  # the live line hides it


class _State:
    """Whether a signal may wait for the end of a block, the one that waits, where stderr is, and the last deed."""

    deferring = False
    waiting: int | None = None
    stderr = 2
    before_leaving: Callable[[], None] | None = None


def install() -> None:
    """Takes over SIGINT and SIGTERM, but not where they are ignored, as under nohup."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def _handle(number: int, _frame: Any) -> None:
    if not _State.deferring or _State.waiting is not None:
        _leave(number)
    _State.waiting = number


def _leave(number: int) -> NoReturn:
    """Ends the process as SIGKILL would, so that no library can turn it into a traceback or wait for threads."""
    if os.isatty(1):
        os.write(1, SHOW_CURSOR)
    if _State.before_leaving:
        _State.before_leaving()
    say(f"stopped by {signal.Signals(number).name}")
    os._exit(128 + number)


@contextlib.contextmanager
def at_block_ends() -> Iterator[None]:
    """Inside, a first signal only makes `asked` true; one that nobody asked about ends the process at the end."""
    _State.deferring = True
    try:
        yield
    finally:
        _State.deferring = False
    if _State.waiting is not None:
        _leave(_State.waiting)


def speak_on(descriptor: int, before_leaving: Callable[[], None] | None = None) -> None:
    """Says where stderr is, while something else has its place, and what is done before a signal ends the process."""
    _State.stderr, _State.before_leaving = descriptor, before_leaving


def say(line: str) -> None:
    """Writes a line to stderr, wherever it is now."""
    os.write(_State.stderr, f"{line}\n".encode())


def asked() -> bool:
    """Says whether a signal waits for the end of the block."""
    return _State.waiting is not None


def stopped(reached: str) -> Stopped:
    """Returns the exception that ends the run with the code of the signal that waits, saying what was `reached`."""
    number = signal.Signals(_State.waiting or 0)
    return Stopped(f"stopped by {number.name} {reached}", 128 + number)
