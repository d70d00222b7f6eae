"""The clock: divides the seconds of a run into parts that add up to the wall clock."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

START = time.perf_counter()  # a command imports this first
PARTS = ("import", "data", "compile", "train", "evaluate", "paused")
BEAT, LONG_BEAT = 0.05, 0.2  # seconds; a beat longer than LONG_BEAT may be a pause
CONTINUED = getattr(signal, "SIGCONT", None)


class Ledger:
    """Seconds of each part of a run. The rest is `other`.

    A device computes in the background, so `barrier` is called before each reading of the clock.
    """

    def __init__(
        self, start: float | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.clock = clock
        self.start = clock() if start is None else start
        self.continued = False  # by SIGCONT, in this part
        self.newest_beat = self.long_beats = 0.0
        self.barrier: Callable[[], None] = lambda: None
        self.parts = dict.fromkeys(PARTS, 0.0)

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Charges the time of the `with` block, without pauses, to `part`. Blocks do not nest."""
        began = self._now()
        self.continued = False
        self.newest_beat, self.long_beats = began, 0.0
        try:
            yield
        finally:
            now = self._now()
            self.beat(now)
            paused = self.long_beats if self.continued else 0.0
            self.parts["paused"] += paused
            self.parts[part] += now - began - paused

    @contextlib.contextmanager
    def watching_pauses(self) -> Iterator[None]:
        """Measures in the `with` block for how long this process is stopped (SIGSTOP, Ctrl-Z).

        A thread beats. A busy machine delays a beat too, so long beats are pauses only if SIGCONT
        came. The clock stops while the machine sleeps.
        """
        over = threading.Event()

        def beat_on() -> None:
            while not over.wait(BEAT):
                self.beat(self.clock())

        threading.Thread(target=beat_on, daemon=True).start()
        if CONTINUED:
            signal.signal(CONTINUED, self._note_pause)
        try:
            yield
        finally:
            over.set()

    def _note_pause(self, number: int, frame: FrameType | None) -> None:
        self.continued = True

    def beat(self, now: float) -> None:
        """Notes that this process was running at `now`."""
        beat = now - self.newest_beat
        self.long_beats += beat if beat > LONG_BEAT else 0.0
        self.newest_beat = now

    def _now(self) -> float:
        self.barrier()
        return self.clock()

    def seconds(self) -> dict[str, float]:
        """Returns the seconds of each part, of `other`, and `total`, since the start."""
        total = self._now() - self.start
        return self.parts | {"other": total - sum(self.parts.values()), "total": total}
