"""What is asked of NVIDIA's GPUs: are they there, seen, and of use to TensorFlow."""

import math
import os
import subprocess
from typing import TYPE_CHECKING

from common.errors import InputError
from runtime import signals

if TYPE_CHECKING:
    import tensorflow as tf

# A TensorFlow built with an older CUDA ends the process on such a GPU (tensorflow#111958).
BLACKWELL, ITS_CUDA = (10, 0), (12, 8)
CURE = "Run `python -m pip install -r requirements/gpu.txt` and check nvidia-smi"


def smi(*fields: str) -> list[dict[str, str]]:
    """Returns fields of each GPU as nvidia-smi prints them; [] where it does not answer."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    options = {"capture_output": True, "text": True, "timeout": 10, "check": True}
    try:
        printed = subprocess.run(command, **options).stdout  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [map(str.strip, line.split(",")) for line in printed.splitlines()]
    return [dict(zip(fields, row, strict=False)) for row in rows]


def memory_bytes() -> float:
    """Returns the memory of the smallest GPU; infinite where nvidia-smi does not tell."""
    totals = [found["memory.total"] for found in smi("memory.total")]
    return min((int(total) * 2**20 for total in totals if total.isdecimal()), default=math.inf)


def unseen() -> str | None:
    """Returns a line on GPUs that nvidia-smi lists while TensorFlow sees none, with the cure."""
    listed = [found["name"] for found in smi("name")]
    if not listed or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    return f"nvidia-smi lists {', '.join(listed)}, and TensorFlow sees no GPU. {CURE}"


def too_new(gpu: "tf.config.PhysicalDevice") -> str | None:
    """Returns why a GPU is not for the CUDA that this TensorFlow is built with; None if it is."""
    import tensorflow as tf

    capability = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
    cuda = tf.sysconfig.get_build_info().get("cuda_version", "99.0")
    built = tuple(int(part) for part in cuda.split(".")[:2])
    if capability < BLACKWELL or built >= ITS_CUDA:
        return None
    return (
        f"{gpu.name} has compute capability {capability[0]}.{capability[1]}, which needs a "
        f"TensorFlow built with CUDA 12.8 or later; this one is built with {cuda}. "
        "Install such a TensorFlow"
    )


def usable(asked: str) -> "list[tf.config.PhysicalDevice]":
    """Returns the GPUs to use by --device=`asked`, made ready; says on stderr why there are none.

    Raises InputError if `asked` is gpu and there is none that can be used.
    """
    import tensorflow as tf

    found = [] if asked == "cpu" else tf.config.list_physical_devices("GPU")
    good = [gpu for gpu in found if not too_new(gpu)]
    if asked != "cpu" and not good:
        why = too_new(found[0]) if found else unseen()
        if asked == "gpu":
            why = why or f"TensorFlow sees no GPU. {CURE}"
            raise InputError(f"--device=gpu: {why}, or use --device=cpu")
        if why:
            signals.say(f"--device=auto takes the CPU: {why}")
    tf.config.set_visible_devices(good, "GPU")
    for gpu in good:
        tf.config.experimental.set_memory_growth(gpu, True)
    return good
