"""NVIDIA's GPUs: whether there are any, and whether TensorFlow can use them."""

import os
from typing import TYPE_CHECKING

from common import children
from common.errors import InputError
from runtime import signals

if TYPE_CHECKING:
    import tensorflow as tf

# A TensorFlow built with an older CUDA ends the process on such a GPU (tensorflow#111958).
BLACKWELL, ITS_CUDA = (10, 0), "12.8"


def smi(field: str, *options: str) -> list[str]:
    """Returns a field of each GPU as nvidia-smi prints it; [] where it does not answer."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits", *options]
    return children.printed(command).splitlines()


def listed(*options: str) -> list[str]:
    """Returns the names of the GPUs that nvidia-smi lists; [] where they are hidden from CUDA."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return [] if hidden else smi("name", *options)


def too_new(gpu: "tf.config.PhysicalDevice") -> bool:
    """Says whether a GPU needs a TensorFlow that is built with a newer CUDA than this one."""
    import tensorflow as tf
    from packaging import version

    capability = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
    cuda = tf.sysconfig.get_build_info().get("cuda_version", ITS_CUDA)
    return capability >= BLACKWELL and version.parse(cuda) < version.parse(ITS_CUDA)


def usable(asked: str) -> "list[tf.config.PhysicalDevice]":
    """Returns the GPUs for --device=`asked`, configured; says on stderr why there are none.

    Raises InputError if `asked` is gpu and no GPU can be used.
    """
    import tensorflow as tf

    found = [] if asked == "cpu" else tf.config.list_physical_devices("GPU")
    good = [gpu for gpu in found if not too_new(gpu)]
    if asked != "cpu" and not good:
        why = (
            "TensorFlow sees no GPU. Run `python -m pip install -r requirements/gpu.txt` "
            "and check nvidia-smi"
        )
        if found:
            why = f"{found[0].name} needs a TensorFlow built with CUDA {ITS_CUDA} or later"
        if asked == "gpu":
            raise InputError(f"--device=gpu: {why}, or use --device=cpu")
        if found or listed():
            signals.say_at_once(f"--device=auto uses the CPU: {why}")
    tf.config.set_visible_devices(good, "GPU")
    for gpu in good:
        tf.config.experimental.set_memory_growth(gpu, True)
    return good
