"""The honest clock: where the seconds of a run went, in parts that add up to the wall clock."""

import contextlib
import time
from collections.abc import Callable, Iterator

from runtime import signals

START = time.perf_counter()  # a command imports this first
PARTS = ("import", "data", "compile", "train", "evaluate", "paused")


class Ledger:
    """Seconds of each part of a run. What no part claims is `other`.

    A device computes behind the program's back, so `barrier` is called before each reading of the
    clock. What has passed since `start` is charged to the part `first`, if there is one.
    """

    def __init__(
        self,
        start: float | None = None,
        first: str = "",
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self.clock, self.cpu_clock = clock, cpu_clock
        self.start = clock() if start is None else start
        self.barrier: Callable[[], None] = lambda: None
        self.parts = dict.fromkeys(PARTS, 0.0)
        if first:
            self.parts[first] = clock() - self.start

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Charges the time of the `with` block to `part`. Blocks do not nest.

        If the process was stopped in it (SIGSTOP, Ctrl-Z), the part has the CPU time that the block
        took, and the rest was a pause. The clock itself stands still while the machine sleeps.
        """
        pauses, cpu_seconds = signals.pauses(), self.cpu_clock()
        began = self._now()
        try:
            yield
        finally:
            seconds = self._now() - began
            if signals.pauses() > pauses:
                paused = max(0.0, seconds - (self.cpu_clock() - cpu_seconds))
                self.parts["paused"] += paused
                seconds -= paused
            self.parts[part] += seconds

    def _now(self) -> float:
        self.barrier()
        return self.clock()

    def seconds(self) -> dict[str, float]:
        """Returns the seconds of each part, of `other`, and `total`, since the start."""
        total = self._now() - self.start
        return self.parts | {"other": total - sum(self.parts.values()), "total": total}
