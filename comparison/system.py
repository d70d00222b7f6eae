"""The machine around a measurement: environment, cores, who else uses it, its facts, and its GPU.

No GPU has run this yet: what is here of GPUs is unmeasured.
"""

import contextlib
import functools
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any

import psutil

from common.errors import InputError
from runtime import devices, gpu

# All that a contender gets to see of the user's environment. Everything else could make one of them
# slower or faster in silence: OMP_NUM_THREADS, OPENBLAS_CORETYPE, XLA_FLAGS, TF_*, KERAS_BACKEND,
# ...
ALLOWED = (
    "PATH HOME USER LOGNAME LANG LC_ALL LC_CTYPE TZ CC TMPDIR TEMP TMP SYSTEMROOT VIRTUAL_ENV "
    "XDG_CACHE_HOME LD_LIBRARY_PATH CUDA_HOME CUDA_PATH CUDA_DEVICE_ORDER "
    "NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES"
)
PACKAGES = ("tensorflow", "keras", "numpy", "jax", "jaxlib", "torch")
# Asked of any Python, since a contender may have one of its own.
INSTALLED = (
    "import importlib.metadata as m, json; "
    "print(json.dumps({each.name.lower(): each.version for each in m.distributions()}))"
)
BUSY = 0.1  # cores that others or a host take; a quiet desktop or server stays below
GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
# NVIDIA's bits for a power cap, a slowdown, heat (two) and the power brake. What is no fault of the
# machine is left out: at rest, or held to a clock by its owner.
SLOWED = 0x4 | 0x8 | 0x20 | 0x40 | 0x80


def environment(
    device: str, index: int, folder: pathlib.Path, keep: Collection[str]
) -> dict[str, str]:
    """Returns the variables of a contender: those that are allowed or kept, and the device alone.

    Keras's settings are its defaults: it looks for them in `folder`, where there are none.
    """
    found = {name: os.environ[name] for name in (*ALLOWED.split(), *keep) if name in os.environ}
    found |= {"KERAS_HOME": str(folder), "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if device == "gpu":
        return found | {"CUDA_VISIBLE_DEVICES": visible_gpu(index)}
    return found | {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}


def visible_gpu(index: int) -> str:
    """Returns what CUDA calls the GPU of this number among those that the user lets be seen."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").replace(" ", "").split(",")
    return visible[index] if any(visible[index : index + 1]) else str(index)


def check_devices(asked: Collection[str], index: int) -> dict[str, str]:
    """Returns the devices to measure on and their names; raises InputError if one is missing."""
    found, listed = {"cpu": devices.cpu_model()}, gpu.listed()
    if index < len(listed):
        found["gpu"] = listed[index]
    elif "gpu" in asked:
        raise InputError(
            f"--devices=gpu: nvidia-smi lists {len(listed)} GPUs, so that there is none with "
            f"--device_index={index}: leave it out, or install NVIDIA's driver"
        )
    return {name: found[name] for name in asked or found}


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


def kernel_file(path: str) -> str:
    """Returns the text of one of the kernel's files; "" where it has no such file."""
    with contextlib.suppress(OSError):
        return pathlib.Path(path).read_text().strip()
    return ""


def peak_mib(pid: int) -> float:
    """Returns the peak of the memory of a process and its children in MiB; 0 but on Linux."""
    family = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    # getrusage would begin with the peak of who started it
    texts = "".join(kernel_file(f"/proc/{each}/status") for each in family)
    return sum(map(int, re.findall(r"VmHWM:\s*(\d+)", texts))) / 2**10


def watch() -> Callable[[], float]:
    """Returns what tells how many cores other processes and the host have taken together since now.

    What is measured must have ended when it is called.
    """
    psutil.cpu_percent()  # which the next call counts from
    before = os.times()

    def other_cores() -> float:
        busy, now = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1), os.times()
        # and of the children that this process has waited for
        own = sum(now[:4]) - sum(before[:4])
        return max(0.0, busy - own / (now.elapsed - before.elapsed))

    return other_cores


def facts(keep: Collection[str]) -> dict[str, str | int]:
    """Returns what a reader must know of machine and versions, in pyperf's names if it has any."""
    installed, quota = versions(sys.executable), devices.quota()
    found: dict[str, str | int] = {
        "cpu_model_name": devices.cpu_model(),
        "cpu_count": devices.cores(),
        "platform": platform.platform(),
        "python_version": platform.python_version(),
        **{name: installed.get(name, "") for name in PACKAGES},
        "quota": f"{quota:g} cores" if quota else "",
        "governor": kernel_file(GOVERNOR),
        "kept": ", ".join(f"{name}={os.environ[name]}" for name in keep if name in os.environ),
        "commit": devices.git_commit(digits=12) or "",
    }
    return {name: value for name, value in found.items() if value}


@functools.cache
def versions(python: str) -> dict[str, str]:
    """Returns the versions of what is installed beside this Python, by name in lower case."""
    options: dict[str, Any] = {"stderr": subprocess.DEVNULL, "text": True, "timeout": 60}
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        return json.loads(subprocess.check_output([python, "-c", INSTALLED], **options))
    return {}


def gpu_state(device: str, index: int) -> dict[str, Any]:
    """Returns what NVIDIA's library says of the GPU that contenders see; {} if the device is a CPU.

    gpu_peak_mib: its memory in use. disturbed: 1 if it is slowed now, or others compute on it.
    joules: the energy since its driver was loaded. What the library lacks is left out, and
    everything without nvidia-ml-py or a driver.
    """
    found: dict[str, Any] = {}
    if device == "cpu":
        return found
    with contextlib.suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        name = visible_gpu(index)
        if name.isdecimal():
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(name))
        else:
            handle = pynvml.nvmlDeviceGetHandleByUUID(name)
        found["gpu_peak_mib"] = pynvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20
        slowed = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        if slowed & SLOWED or len(pynvml.nvmlDeviceGetComputeRunningProcesses(handle)) > 1:
            found["disturbed"] = 1
        found["joules"] = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
    return found
