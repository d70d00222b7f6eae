"""What an NVIDIA GPU does during a measurement: its clock, its heat, what slows it, and who else is on it.

No GPU has run this yet: it is unmeasured. Without nvidia-ml-py, or without a GPU, it tells nothing.
"""

import contextlib
import os
from typing import Any

from runtime import gpu

BUSY = 5  # per cent
SLOW = 0.9  # share of the best clock seen in the run
WARM_SECONDS = 1.0  # of work before the clock: a GPU at rest has a low clock
FIELDS = (
    "name",
    "driver_version",
    "clocks.sm",
    "clocks.max.sm",
    "temperature.gpu",
    "utilization.gpu",
)
# What is no fault of the machine: at rest, or held to a clock by its owner.
SLOWED = {0x4: "power cap", 0x8: "slowdown", 0x20: "heat", 0x40: "heat", 0x80: "power brake"}


def state() -> dict[str, Any] | None:
    """Returns the SM clock in MHz, degrees Celsius, watts, what slows it, and how many others compute on the GPU."""
    # whatever NVML lacks here: a driver, a right, the package itself
    with contextlib.suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0]
        by_name = pynvml.nvmlDeviceGetHandleByUUID, first
        by_place = pynvml.nvmlDeviceGetHandleByIndex, int(first) if first.isdecimal() else 0
        find, which = by_name if first.startswith("GPU-") else by_place
        device = find(which)
        slowed = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(device)
        return {
            "sm_mhz": pynvml.nvmlDeviceGetClockInfo(device, pynvml.NVML_CLOCK_SM),
            "celsius": pynvml.nvmlDeviceGetTemperature(device, pynvml.NVML_TEMPERATURE_GPU),
            "watts": pynvml.nvmlDeviceGetPowerUsage(device) / 1000,
            "slowed_by": sorted({name for bit, name in SLOWED.items() if slowed & bit}),
            # one is this process
            "others": max(0, len(pynvml.nvmlDeviceGetComputeRunningProcesses(device)) - 1),
        }
    return None


def listed() -> list[dict[str, str]]:
    """Returns name, driver, clocks and use of each GPU before the first measurement; [] without nvidia-smi."""
    return gpu.smi(*FIELDS)


def warnings(found: list[dict[str, str]], states: list[dict[str, Any]]) -> list[str]:
    """Returns a sentence for each way in which GPUs were not left alone, as they were `listed` or in some `state`s."""
    shares = [(each["name"], each.get("utilization.gpu", "").removesuffix(" %")) for each in found]
    busy = [(name, share) for name, share in shares if share.isdecimal() and int(share) > BUSY]
    told = [
        f"Busy GPU: {name} was in use, {share} %, before the first measurement."
        for name, share in busy
    ]
    best, count = max((each["sm_mhz"] for each in states), default=0), len(states)
    slow = [each["sm_mhz"] for each in states if each["sm_mhz"] < SLOW * best]
    if slow:
        told.append(
            f"Slowing GPU: in {len(slow)} of {count} looks its clock was down to {min(slow)} of {best} MHz."
        )
    if reasons := sorted({reason for each in states for reason in each["slowed_by"]}):
        told.append(f"Throttled GPU: it was slowed down by {', '.join(reasons)}.")
    if others := max((each["others"] for each in states), default=0):
        told.append(f"Shared GPU: up to {others} other processes computed on it.")
    return told
