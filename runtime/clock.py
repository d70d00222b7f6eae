"""The clock: divides the seconds of a run into parts that add up to the wall clock."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType


class Ledger:
    """Seconds of each part of a run. The rest is `other`.

    A device computes in the background, so `barrier` is called before each reading of the clock.
    paused: whether the process was stopped for a while, which the seconds include.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.start = clock()
        self.barrier: Callable[[], None] = lambda: None
        self.parts = dict.fromkeys(("import", "data", "compile", "train", "evaluate"), 0.0)
        self.paused = False

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Charges the time of the `with` block to `part`, unless it raises. Blocks do not nest."""
        began = self._now()
        yield
        self.parts[part] += self._now() - began

    def notice_pauses(self) -> None:
        """Notes from now on when this process goes on after a stop (SIGSTOP, Ctrl-Z).

        The clock stops by itself while the machine sleeps.
        """
        if hasattr(signal, "SIGCONT"):  # Windows has none
            signal.signal(signal.SIGCONT, self._note_pause)

    def _note_pause(self, number: int, frame: FrameType | None) -> None:
        self.paused = True

    def _now(self) -> float:
        self.barrier()
        return self.clock()

    def seconds(self) -> dict[str, float]:
        """Returns the seconds of each part, of `other`, and `total`, since the start."""
        total = self._now() - self.start
        return self.parts | {"other": total - sum(self.parts.values()), "total": total}


OF_PROCESS = Ledger()  # begins when a command imports this
