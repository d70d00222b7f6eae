"""What is asked of NVIDIA's GPUs: are they there, seen, and of use to TensorFlow. Unmeasured: none was there."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from common.errors import InputError
from runtime import signals

# The CUDA that knows GPUs from a compute capability on: an older one's XLA ends the process there (tensorflow#111958).
LEAST_CUDA = {12: (12, 8), 10: (12, 8), 9: (11, 8), 8: (11, 0)}
CURE = "Run `python -m pip install -r requirements/gpu.txt` and check nvidia-smi"


def smi(*fields: str) -> list[dict[str, str]]:
    """Returns fields of each GPU as nvidia-smi prints them; [] where it is not there, does not answer, or fails."""
    if not (program := shutil.which("nvidia-smi")):
        return []
    command = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        lines = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout.splitlines()
        return [dict(zip(fields, map(str.strip, line.split(",")), strict=False)) for line in lines]
    return []


def unseen(seen: int) -> str | None:
    """Returns a line on GPUs that nvidia-smi lists while TensorFlow sees none, with the cure."""
    listed = [each["name"] for each in smi("name")]
    if seen or not listed or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    return f"nvidia-smi lists {', '.join(listed)}, and TensorFlow sees no GPU. {CURE}"


def too_new(name: str, details: Mapping[str, Any], build: Mapping[str, Any]) -> str | None:
    """Returns why a GPU of such `get_device_details` is not for TensorFlow of this `get_build_info`; None if it is."""
    capability, cuda = details.get("compute_capability"), build.get("cuda_version")
    if not capability or not cuda:
        return None
    built = tuple(int(part) for part in str(cuda).split(".")[:2])
    least = next((needed for major, needed in LEAST_CUDA.items() if capability[0] >= major), (0, 0))
    if built >= least:
        return None
    return (
        f"{name} has compute capability {'.'.join(map(str, capability))}, which needs a TensorFlow built with CUDA "
        f"{'.'.join(map(str, least))} or later; this one is built with {cuda}. Install such a TensorFlow"
    )


def usable(asked: str) -> list[Any]:
    """Returns the GPUs to use by --device=`asked`, made ready; says on stderr why there are none, if there is a reason.

    Raises InputError if `asked` is gpu and there is none that can be used.
    """
    import tensorflow as tf

    if asked == "cpu":
        tf.config.set_visible_devices([], "GPU")  # of a TensorFlow that was imported before
        return []
    found = tf.config.list_physical_devices("GPU")
    build = tf.sysconfig.get_build_info()
    faults = [
        too_new(gpu.name, tf.config.experimental.get_device_details(gpu), build) for gpu in found
    ]
    good = [gpu for gpu, fault in zip(found, faults, strict=True) if not fault]
    why = next(filter(None, faults), None) or unseen(len(found))
    if asked == "gpu" and not good:
        raise InputError(
            f"--device=gpu: {why or f'TensorFlow sees no GPU. {CURE}'}, or use --device=cpu"
        )
    if why and asked == "auto" and not good:
        signals.say(f"--device=auto takes the CPU: {why}")
    tf.config.set_visible_devices(good, "GPU")
    for gpu in good:
        tf.config.experimental.set_memory_growth(gpu, True)
    return good


def memory_bytes(number: int) -> float:
    """Returns the memory of the GPU that TensorFlow counts as `number`; infinite where nvidia-smi does not tell.

    TensorFlow counts what CUDA_VISIBLE_DEVICES names, by UUID or by CUDA's own count. That is nvidia-smi's only by
    CUDA_DEVICE_ORDER; without it, it may be any of them, and the least memory counts.
    """
    listed, visible = (
        smi("index", "uuid", "memory.total"),
        os.environ.get("CUDA_VISIBLE_DEVICES", "").split(","),
    )
    name = visible[number].strip() if any(visible) and number < len(visible) else str(number)
    if not name.isdecimal():
        listed = [each for each in listed if each["uuid"].startswith(name)]
    elif os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        listed = [each for each in listed if each["index"] == name]
    totals = [each.get("memory.total", "") for each in listed]
    return min((int(total) * 2**20 for total in totals if total.isdecimal()), default=float("inf"))
