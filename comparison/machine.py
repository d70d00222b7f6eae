"""Whether the machine was left alone: what others took from it during a measurement."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import psutil

from runtime import devices

BUSY = 0.1  # cores that others keep busy; a quiet desktop or server stays below
STOLEN = 0.02  # share of the time that a hypervisor or a quota may take
THROTTLED_FILES = ("/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat")


@dataclasses.dataclass(frozen=True)
class Quiet:
    """What was seen during a measurement.

    other_cores: cores kept busy by processes other than the measured one; stolen: share of the time taken by the
    hypervisor or a quota.
    """

    other_cores: float
    stolen: float


class Watch:
    """Looks at the machine from its making to `seen`; the measured process must have ended in between."""

    def __init__(self) -> None:
        self.before = self._state()

    def _state(self) -> tuple[float, float, float, float]:
        times = psutil.cpu_times()
        own = psutil.Process().cpu_times()  # and of the children it has waited for
        busy = sum(
            getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq")
        )
        used = own.user + own.system + own.children_user + own.children_system
        return time.perf_counter(), busy - used, getattr(times, "steal", 0.0), _throttled_seconds()

    def seen(self) -> Quiet:
        """Returns what happened since the watch was made."""
        wall, others, stolen, throttled = (
            now - then for now, then in zip(self._state(), self.before, strict=True)
        )
        return Quiet(max(0.0, others / wall), (stolen / devices.cores() + throttled) / wall)


def _throttled_seconds() -> float:
    """Returns for how long this container's CPU quota has held it back; 0 where there is none."""
    for path in map(pathlib.Path, THROTTLED_FILES):
        if path.exists():
            for key, value in (line.split() for line in path.read_text().splitlines()):
                if key in ("throttled_usec", "throttled_time"):
                    return int(value) / (1e6 if key == "throttled_usec" else 1e9)
    return 0.0


def peak_mib() -> float:
    """Returns the peak of this process's resident memory in MiB; what it has now where the system keeps no peak."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/self/status").read_text().splitlines():
            # getrusage would begin with the peak of who started this process
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    memory = psutil.Process().memory_info()
    return getattr(memory, "peak_wset", memory.rss) / 2**20


@contextlib.contextmanager
def held(cores: int | None) -> Iterator[None]:
    """Lets processes that are started inside run on the first so many of this one's cores; None: on all of them."""
    if cores is None:
        yield
        return
    process = psutil.Process()
    before = process.cpu_affinity()
    process.cpu_affinity(before[:cores])
    try:
        yield
    finally:
        process.cpu_affinity(before)


def can_hold() -> bool:
    """Says whether this system lets a process be held to cores; macOS does not."""
    return hasattr(psutil.Process, "cpu_affinity")


def clocks() -> dict[str, float]:
    """Returns the CPU's clock in MHz now, and its bounds, where the system tells."""
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return (
        {name: round(value) for name, value in frequency._asdict().items() if value}
        if frequency
        else {}
    )


def warnings(seen: list[dict[str, Any]]) -> list[str]:
    """Returns a sentence for each way in which the machine was not left alone, [] if it was."""
    sentences = []
    busy = [each["other_cores"] for each in seen if each["other_cores"] > BUSY]
    stolen = [each["stolen"] for each in seen if each["stolen"] > STOLEN]
    if busy:
        taken = f"other processes kept up to {max(busy):.1f} cores busy"
        sentences.append(
            f"Busy machine: in {len(busy)} of {len(seen)} measurements {taken}. Repeat on a quiet one."
        )
    if stolen:
        taken = f"up to {max(stolen):.0%} of the time was taken by the host or a CPU quota"
        sentences.append(
            f"Throttled machine: in {len(stolen)} of {len(seen)} measurements {taken}."
        )
    return sentences
