"""The device of a run, and a description of it for the record."""

import contextlib
import importlib.metadata
import math
import os
import pathlib
import platform
import re
import time
from collections.abc import Iterator
from typing import Any

import psutil

import flags
from common import children
from runtime import gpu, startup

OWN_GROUPS = pathlib.Path("/proc/self/cgroup")
GROUPS = pathlib.Path("/sys/fs/cgroup")
SHARED_BATCH = 500  # all cores share batches of this size or more: docs/performance.md
THREADS = "TF_NUM_INTRAOP_THREADS"  # TensorFlow's own variable


@startup.quiet()
def choose(config: flags.Config) -> str:
    """Configures TensorFlow before it uses a device; returns where to train: CPU:0 or GPU:0.

    On a CPU each operation of a small batch has one thread, because sharing it costs more than it
    saves. Others have one for each core, and all as many as the user has set. A TensorFlow that has
    started keeps its number of threads.
    Raises InputError if --device is gpu and there is none.
    """
    import tensorflow as tf

    device = "GPU:0" if gpu.usable(config.device) else "CPU:0"
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    tf.config.experimental.enable_tensor_float_32_execution(config.tf32)
    usual = cores()
    if device == "CPU:0" and config.strategy == "none" and config.batch_size < SHARED_BATCH:
        usual = 1
    asked = os.environ.get(THREADS, "")
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(
            int(asked) if asked.isdecimal() else usual
        )
    return device


def describe(device: str) -> str:
    """Returns the maker's name of a device."""
    if device == "CPU:0":
        return cpu_model()
    import tensorflow as tf

    # some of the GPUs that TensorFlow found may be hidden
    gpu = tf.config.get_visible_devices("GPU")[0]
    return tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")


def cpu_model() -> str:
    """Returns the CPU's model, from /proc/cpuinfo where there is one."""
    if found := re.search("^model name.*?: (.*)", kernel_file("/proc/cpuinfo"), re.MULTILINE):
        return found[1]
    return platform.processor() or platform.machine()


def kernel_file(path: str | pathlib.Path) -> str:
    """Returns the text of one of the kernel's files; "" where it has no such file."""
    with contextlib.suppress(OSError):
        return pathlib.Path(path).read_text().strip()
    return ""


def most_bytes(source: str, device: str) -> float:
    """Returns how many bytes of images --input=`source` keeps in memory; for auto, a quarter."""
    return memory(device) / 4 if source == "auto" else {"memory": math.inf, "stream": 0}[source]


def memory(device: str) -> float:
    """Returns the bytes of memory that this process may use on a device.

    Of several GPUs it is the memory of the smallest; infinite if nvidia-smi does not say.
    """
    if device == "GPU:0":
        sizes = [int(mib) * 2**20 for mib in gpu.smi("memory.total") if mib.isdecimal()]
        return min(sizes, default=math.inf)
    limits = group_limits("memory", "memory.max", "memory.limit_in_bytes")
    return min([psutil.virtual_memory().total, *(limit for (limit,) in limits)])


def group_limits(controller: str, *files: str) -> Iterator[list[int]]:
    """Yields the numbers in a controller's `files` of this process's control group and its parents,
    where they set a limit. Linux's versions 1 and 2 of such groups have different files."""
    # such as 0::/a of version 2, which names no controller, and 4:cpu,cpuacct:/a
    line = rf"^\d+:(?:|[^:]*\b({controller})\b[^:]*):(.*)"
    for named, name in re.findall(line, kernel_file(OWN_GROUPS), re.MULTILINE):
        group = GROUPS / named / name.strip("/")
        for folder in (group, *group.parents):
            text = " ".join(kernel_file(folder / file) for file in files)
            if re.match(r" *\d", text):  # without a limit it begins with "max" or -1
                yield list(map(int, text.split()))


def quota() -> float | None:
    """Returns how many cores' time the control groups allow this process; None if all."""
    limits = group_limits("cpu", "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
    return min((allowed / period for allowed, period in limits), default=None)


def cores() -> int:
    """Returns the number of cores this process may use; a quota is rounded up."""
    affinity = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    return min(count, math.ceil(quota() or count))


def environment(device: str) -> dict[str, Any]:
    """Returns the facts that a comparison of this record with others needs."""
    version = importlib.metadata.version
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "tensorflow": version("tensorflow"),
        "tensorflow_datasets": version("tensorflow-datasets"),
        "device_kind": device[:3],
        "device_name": describe(device),
        "cpu_model": cpu_model(),
        "cores": cores(),
        "cpu_quota": quota(),
        "intra_op_threads": threads(),
        "os": platform.platform(),
        "git_commit": git_commit(),
    }


def threads() -> int:
    """Returns how many threads share an operation, as `choose` has set it."""
    import tensorflow as tf

    return tf.config.threading.get_intra_op_parallelism_threads() or cores()


def git_commit() -> str | None:
    """Returns this project's commit, with `-dirty` if files differ; None if git tells none."""
    # With --git-dir, git accepts any owner and does not look for a checkout above this folder.
    command = "git --git-dir=.git describe --always --dirty --exclude=* --abbrev=12"
    return children.printed(command.split()).strip() or None
