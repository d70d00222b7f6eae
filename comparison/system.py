"""The machine around a measurement: environment, cores, who else uses it, its facts, and its GPU.

No GPU has run this yet: what is here of GPUs is unmeasured.
"""

import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from typing import Any

import psutil

from common.errors import InputError
from runtime import devices, gpu

# All that a contender gets to see of the user's environment. Everything else could make one of them
# slower or faster in silence: OMP_NUM_THREADS, OPENBLAS_CORETYPE, XLA_FLAGS, TF_*, KERAS_BACKEND,
# ...
ALLOWED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "CC"),
    *("TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "VIRTUAL_ENV", "XDG_CACHE_HOME"),
    *("LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "CUDA_DEVICE_ORDER"),
    *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"),
)
PACKAGES = ("tensorflow", "keras", "numpy", "jax", "jaxlib", "torch")
BUSY = 0.1  # cores that others keep busy; a quiet desktop or server stays below
STOLEN = 0.02  # share of the time that a hypervisor or a quota may take
CGROUP = pathlib.Path("/sys/fs/cgroup")
GOVERNOR = pathlib.Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
# What is no fault of the machine: at rest, or held to a clock by its owner.
SLOWED = {0x4: "power cap", 0x8: "slowdown", 0x20: "heat", 0x40: "heat", 0x80: "power brake"}


def environment(
    device: str, index: int, folder: pathlib.Path, keep: Collection[str]
) -> dict[str, str]:
    """Returns the variables of a contender: those that are allowed or kept, and the device alone.

    Keras's settings are its defaults: it looks for them in `folder`, where there are none.
    """
    found = {name: os.environ[name] for name in (*ALLOWED, *keep) if name in os.environ}
    found |= {"KERAS_HOME": str(folder), "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if device == "gpu":
        return found | {"CUDA_VISIBLE_DEVICES": visible_gpu(index)}
    return found | {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}


def visible_gpu(index: int) -> str:
    """Returns what CUDA calls the GPU of this number among those that the user lets be seen."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return visible[index] if any(visible) and index < len(visible) else str(index)


def check_devices(asked: Collection[str], index: int) -> dict[str, str]:
    """Returns the names of the devices to measure on; raises InputError if one asked for is not
    there."""
    listed = [] if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") else gpu.smi("name")
    found = {"cpu": devices.cpu_model()}
    if index < len(listed):
        found["gpu"] = listed[index]
    elif "gpu" in asked:
        raise InputError(
            f"--devices=gpu: nvidia-smi lists {len(listed)} GPUs, so that there is none with "
            f"--device_index={index}: leave it out, or install NVIDIA's driver"
        )
    return {name: found[name] for name in asked or found if name in found}


@contextlib.contextmanager
def pinned(cores: int) -> Iterator[None]:
    """Lets processes that are started inside run on the first so many of this one's cores."""
    if not can_pin():
        yield
        return
    process = psutil.Process()
    before = process.cpu_affinity()
    process.cpu_affinity(before[:cores])
    try:
        yield
    finally:
        process.cpu_affinity(before)


def can_pin() -> bool:
    """Says whether this system lets a process be held to cores; macOS does not."""
    return hasattr(psutil.Process, "cpu_affinity")


def peak_mib(pid: int) -> float:
    """Returns the peak of the memory of a process and its children in MiB, 0 if they are gone."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            total += _peak_of(each)
    return total / 2**20


def _peak_of(process: psutil.Process) -> float:
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
            # getrusage would begin with the peak of who started the process
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 2**10
    memory = process.memory_info()
    return getattr(memory, "peak_wset", memory.rss)


class Watch:
    """Looks at the machine from its making to `seen`; what is measured must have ended in
    between."""

    def __init__(self) -> None:
        self.before = self._state()

    def _state(self) -> tuple[float, float, float]:
        times, own = psutil.cpu_times(), psutil.Process().cpu_times()
        kinds = ("user", "nice", "system", "irq", "softirq")
        busy = sum(getattr(times, kind, 0.0) for kind in kinds)
        # and of the children that this process has waited for
        used = own.user + own.system + own.children_user + own.children_system
        taken = getattr(times, "steal", 0.0) / devices.cores() + _throttled_seconds()
        return time.perf_counter(), busy - used, taken

    def seen(self) -> dict[str, float]:
        """Returns the cores that others kept busy, and the share of the time taken by the host."""
        now = self._state()
        wall, others, taken = (new - old for new, old in zip(now, self.before, strict=True))
        return {"other_cores": max(0.0, others / wall), "stolen": max(0.0, taken / wall)}


def _throttled_seconds() -> float:
    """Returns for how long this container's CPU quota has held it back; 0 where there is none."""
    with contextlib.suppress(OSError):
        for line in (CGROUP / "cpu.stat").read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "throttled_usec":
                return int(value) / 1e6
    return 0.0


def quota() -> str:
    """Returns the cores' worth of time that this container may take; "" where there is no quota."""
    with contextlib.suppress(OSError, ValueError):
        allowed, period = (CGROUP / "cpu.max").read_text().split()
        return f"{int(allowed) / int(period):g} cores"
    return ""


def governor() -> str:
    """Returns how the kernel sets the CPU's clock; "" where it does not tell."""
    with contextlib.suppress(OSError):
        return GOVERNOR.read_text().strip()
    return ""


def facts(keep: Collection[str]) -> dict[str, str | int]:
    """Returns what a reader must know of machine and versions, in pyperf's names where it has
    some."""
    installed = {name: version(sys.executable, name) for name in PACKAGES}
    found: dict[str, str | int] = {
        "cpu_model_name": devices.cpu_model(),
        "cpu_count": devices.cores(),
        "platform": platform.platform(),
        "python_version": platform.python_version(),
        **{name: number for name, number in installed.items() if number},
        "quota": quota(),
        "governor": governor(),
        "kept": ", ".join(f"{name}={os.environ[name]}" for name in keep if name in os.environ),
        "commit": devices.git_commit(digits=12) or "",
    }
    return {name: value for name, value in found.items() if value}


def version(python: str, package: str) -> str:
    """Returns the version of a package in the environment of this Python; "" if it is not there."""
    if python == sys.executable:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(package)
        return ""
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.check_output(
            [python, "-c", ask], text=True, stderr=subprocess.DEVNULL, timeout=60
        ).strip()
    return ""


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU by way of NVIDIA's library; every reading is left out where the library lacks it."""

    nvml: Any
    handle: Any

    @classmethod
    def find(cls, index: int) -> "Gpu | None":
        """Returns the GPU that contenders see; None without nvidia-ml-py or a driver."""
        with contextlib.suppress(Exception):
            import pynvml

            pynvml.nvmlInit()
            name = visible_gpu(index)
            by_name = pynvml.nvmlDeviceGetHandleByUUID
            find = pynvml.nvmlDeviceGetHandleByIndex if name.isdecimal() else by_name
            return cls(pynvml, find(int(name) if name.isdecimal() else name))
        return None

    def joules(self) -> float | None:
        """Returns the energy that the GPU has taken since its driver was loaded."""
        with contextlib.suppress(self.nvml.NVMLError):
            return self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1000
        return None

    def memory_mib(self) -> float | None:
        """Returns the memory in use on the GPU."""
        with contextlib.suppress(self.nvml.NVMLError):
            return self.nvml.nvmlDeviceGetMemoryInfo(self.handle).used / 2**20
        return None

    def disturbed(self) -> str:
        """Returns what slows the GPU now, or who else computes on it; "" if nothing does."""
        with contextlib.suppress(self.nvml.NVMLError):
            slowed = self.nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self.handle)
            found = sorted({name for bit, name in SLOWED.items() if slowed & bit})
            others = len(self.nvml.nvmlDeviceGetComputeRunningProcesses(self.handle)) - 1
            return ", ".join([*found, *([f"{others} other processes"] if others > 0 else [])])
        return ""
