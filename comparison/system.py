"""The machine of a measurement: environment, cores, other load, facts, and GPU.

The parts for GPUs have not been run on a GPU yet.
"""

import contextlib
import os
import pathlib
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import psutil

from common import children
from common.errors import InputError
from comparison.peers import Contender
from comparison.worker import LIBRARIES
from runtime import devices, gpu

# The only variables of this process that contenders get. Others could change the speed of one of
# them unnoticed: OMP_NUM_THREADS, OPENBLAS_CORETYPE, XLA_FLAGS, TF_*, KERAS_BACKEND, ...
ALLOWED = (
    "PATH HOME USER LOGNAME LANG LC_ALL LC_CTYPE TZ CC TMPDIR TEMP TMP SYSTEMROOT VIRTUAL_ENV "
    "XDG_CACHE_HOME LD_LIBRARY_PATH CUDA_HOME CUDA_PATH "
    "CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES"
)
# Keras's default, silence, GPUs with the numbers of nvidia-smi, and GPU memory that is only taken
# when it is used, because a table shows each contender's use.
FIXED = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}
# Run in any Python, since a contender may have its own.
VERSION = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"
BUSY = 0.1  # cores that other processes or the host use; a quiet desktop or server stays below
GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
# NVIDIA's bits for a power cap (0x4), a slowdown (0x8), heat (0x20, 0x40) and the power brake
# (0x80). The bits for rest and for a clock limit set by the owner are left out.
SLOWED = 0xEC


def environment(device: str, folder: pathlib.Path, keep: list[str]) -> dict[str, str]:
    """Returns the variables of a contender: those fixed, allowed and kept; a CPU hides the GPU.

    Keras uses its defaults, because it looks for settings in `folder`, which has none.
    """
    found = FIXED | {"KERAS_HOME": str(folder)}
    for name in (*ALLOWED.split(), *keep):
        if name in os.environ:
            found[name] = os.environ[name]
    if device == "cpu":
        found |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    return found


def choose_devices(asked: list[str], index: str | None) -> list[str]:
    """Returns the devices to measure on; raises InputError if one is missing.

    From now on this process, and the contenders with it, see one GPU: that with the number `index`,
    or the first of those that were visible.
    """
    visible = (index or os.environ.get("CUDA_VISIBLE_DEVICES", "0")).split(",")[0]
    os.environ["CUDA_VISIBLE_DEVICES"] = visible
    if gpu_name():
        return asked or ["cpu", "gpu"]
    if index or "gpu" in asked:
        raise InputError(
            f"--devices, --device_index: nvidia-smi lists no GPU {visible}: leave the GPU out, "
            "give another --device_index or CUDA_VISIBLE_DEVICES, or install NVIDIA's driver"
        )
    return ["cpu"]


def gpu_name() -> str:
    """Returns the name of the GPU that contenders see; "" if there is none."""
    return " ".join(gpu.listed(f"--id={os.environ['CUDA_VISIBLE_DEVICES']}"))


@contextlib.contextmanager
def pinned(cores: int) -> Iterator[None]:
    """Pins processes that are started in the block to the first `cores` cores of this process."""
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
    """Says whether this system can pin a process to cores; macOS cannot."""
    return hasattr(psutil.Process, "cpu_affinity")


def peak_mib() -> float:
    """Returns the peak memory of all that this process has started, in MiB; 0 except on Linux."""
    started = psutil.Process().children(recursive=True)
    # getrusage would include the peak of this process
    texts = "".join(devices.kernel_file(f"/proc/{each.pid}/status") for each in started)
    return sum(map(int, re.findall(r"VmHWM:\s*(\d+)", texts))) / 1024


def watch() -> Callable[[], float]:
    """Returns a function that says how many cores others, and the host, have used since this call.

    Call it when the measured process has ended.
    """
    psutil.cpu_percent(percpu=True)  # starts the interval of the next call
    before = os.times()

    def other_cores() -> float:
        busy = sum(psutil.cpu_percent(percpu=True)) / 100
        # includes the children that this process has waited for
        *own, elapsed = np.subtract(os.times(), before)
        return max(0.0, busy - sum(own) / elapsed)

    return other_cores


def facts(keep: list[str], contenders: Iterable[Contender]) -> dict[str, str | float]:
    """Returns the machine and versions that a speed depends on, by pyperf's names if they exist.

    Contenders may have a Python of their own. What there is none of is "none".
    """
    return {
        "cpu_model_name": devices.cpu_model(),
        "device gpu": gpu_name() or "none",
        "cpu_count": devices.cores(),
        "platform": platform.platform(),
        "python_version": platform.python_version(),
        **{name: version(sys.executable, name) for name in LIBRARIES},
        **{
            one.package: version(one.python, one.package)
            for one in contenders
            if one.python != sys.executable
        },
        "quota": devices.quota() or "none",  # in cores
        "governor": devices.kernel_file(GOVERNOR) or "none",
        "kept": ", ".join(f"{name}={os.environ.get(name)!r}" for name in keep) or "none",
    }


def version(python: str, package: str) -> str:
    """Returns the version of a package of a Python; "none" if that Python lacks it."""
    return children.printed([python, "-c", VERSION, package]).strip() or "none"


def gpu_state(device: str) -> dict[str, Any]:
    """Returns figures of the contenders' GPU, from NVIDIA's library; {} if the device is a CPU.

    gpu_peak_mib: its memory in use. disturbed: 1 if it is throttled now, or other processes compute
    on it. joules: the energy since its driver was loaded. Figures that the library lacks are left
    out; without nvidia-ml-py or a driver, or if CUDA_VISIBLE_DEVICES has no numbers, all are.
    """
    found: dict[str, Any] = {}
    if device == "cpu":
        return found
    with contextlib.suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(os.environ["CUDA_VISIBLE_DEVICES"]))
        found["gpu_peak_mib"] = pynvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20
        slowed = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        if slowed & SLOWED or len(pynvml.nvmlDeviceGetComputeRunningProcesses(handle)) > 1:
            found["disturbed"] = 1
        found["joules"] = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
    return found
