"""What the run runs on: the device asked for, and a description of it for the record."""

import contextlib
import importlib.metadata
import math
import os
import pathlib
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psutil

from common.files import PROJECT
from runtime import gpu

if TYPE_CHECKING:
    import tensorflow as tf


CPU_INFO = pathlib.Path("/proc/cpuinfo")
THREADS = "TF_NUM_INTRAOP_THREADS"  # TensorFlow's own variable


def hide_gpus(asked: str) -> None:
    """Keeps CUDA out of a TensorFlow that is not yet imported if `asked` is cpu."""
    if asked == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def choose(
    asked: str,
    tf32: bool,
    among: Sequence[str] = (),
    one_thread: bool = False,
    deterministic: bool = False,
) -> "tf.config.LogicalDevice":
    """Returns the first device to train on, one of `among` if given.

    On a CPU each operation has one thread if asked. Where TensorFlow runs already, as with
    --strategy, and where the user has set its threads, they stay as they are.
    Raises InputError if `asked` is gpu and there is none.
    """
    import tensorflow as tf

    kind = "GPU" if gpu.usable(asked) else "CPU"
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if kind == "CPU" and one_thread and THREADS not in os.environ:
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    found = tf.config.list_logical_devices(kind)
    return next(
        device for device in found if not among or any(name.endswith(device.name) for name in among)
    )


def describe(device: "tf.config.LogicalDevice") -> str:
    """Returns the name of a device as its maker calls it."""
    if device.device_type != "GPU":
        return cpu_model()
    import tensorflow as tf

    # of all that TensorFlow found, it may not use each
    gpu = tf.config.get_visible_devices("GPU")[int(device.name.rsplit(":", 1)[1])]
    return tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")


def cpu_model() -> str:
    """Returns the CPU's model, from /proc/cpuinfo where there is one."""
    with contextlib.suppress(OSError):
        if found := re.search("^model name.*?:(.*)", CPU_INFO.read_text(), re.MULTILINE):
            return " ".join(found[1].split())
    return platform.processor() or platform.machine()


def most_bytes(source: str, device: "tf.config.LogicalDevice | None" = None) -> float:
    """Returns how many bytes of images --input=`source` keeps in memory: auto, a quarter of it."""
    return memory(device) / 4 if source == "auto" else {"memory": math.inf, "stream": -1}[source]


def memory(device: "tf.config.LogicalDevice | None" = None) -> float:
    """Returns the bytes of memory that a device has; for a CPU, that this process may use."""
    if device and device.device_type == "GPU":
        return gpu.memory_bytes()
    limits = [psutil.virtual_memory().total]
    with contextlib.suppress(OSError, ValueError):  # a container's own limit; "max" if it has none
        limits.append(int(pathlib.Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits)


def cores() -> int:
    """Returns the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(device: "tf.config.LogicalDevice", mode: str, tf32: bool) -> dict[str, Any]:
    """Returns what a reader of a record must know to compare its figures with others."""
    version = importlib.metadata.version
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "tensorflow": version("tensorflow"),
        "tensorflow_datasets": version("tensorflow-datasets"),
        "device_kind": device.device_type,
        "device_name": describe(device),
        "cpu_model": cpu_model(),
        "cores": cores(),
        "intra_op_threads": threads(),
        "os": platform.platform(),
        "git_commit": git_commit(),
        "xla": mode == "xla",
        "tf32": tf32,
    }


def threads() -> int:
    """Returns how many threads share an operation: as set here, or by the user, or one a core."""
    import tensorflow as tf

    asked = os.environ.get(THREADS, "")
    set_here = tf.config.threading.get_intra_op_parallelism_threads()
    return set_here or (int(asked) if asked.isdigit() else 0) or cores()


def git_commit(digits: int = 40) -> str | None:
    """Returns this project's commit, `-dirty` if files differ; None without a checkout."""
    command = ["git", "describe", "--always", "--dirty", f"--abbrev={digits}", "--exclude=*"]
    # git does not look for a checkout above this folder
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(PROJECT.parent)}
    try:
        found = subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, text=True
        )
    except OSError:
        return None
    return found.stdout.strip() or None
