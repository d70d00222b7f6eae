"""What the run runs on: a quiet TensorFlow, the device asked for, and a description of both for the record."""

import concurrent.futures
import contextlib
import ctypes
import gc
import importlib.metadata
import importlib.util
import math
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import psutil

from common.errors import InputError
from common.files import PROJECT
from runtime import gpu, stopping

if TYPE_CHECKING:
    import tensorflow as tf


CPU_INFO = pathlib.Path("/proc/cpuinfo")
LEGACY_KERAS = "TF_USE_LEGACY_KERAS"
THREADS, LOG_LEVEL = "TF_NUM_INTRAOP_THREADS", "TF_CPP_MIN_LOG_LEVEL"  # TensorFlow's own variables


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Lets TensorFlow be imported inside, and a terminal know; its library is loaded in a thread from the start.

    Ends the process with one line where TensorFlow is not installed.
    """
    if not _tensorflow():
        sys.exit("error: tensorflow is not installed: python -m pip install -r requirements.txt")
    with quiet("TensorFlow is being started ..."), without_keras(), without_collecting():
        if path := library():  # where this fails, the import does too, and says why
            concurrent.futures.ThreadPoolExecutor(1).submit(ctypes.CDLL, str(path))
        yield


def library() -> pathlib.Path | None:
    """Returns TensorFlow's library, by its name on Linux; None where it is not."""
    path = (folder := _tensorflow()) and folder / "libtensorflow_cc.so.2"
    return path if path and path.is_file() else None


def _tensorflow() -> pathlib.Path | None:
    """Returns the folder that TensorFlow is installed in, without importing it; None if it is not."""
    found = importlib.util.find_spec("tensorflow")
    return pathlib.Path(found.origin).parent if found and found.origin else None


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """Lets Python look for no garbage meanwhile, nor later among what is there then: what an import makes stays."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def without_keras() -> Iterator[None]:
    """Lets TensorFlow, imported inside, leave Keras and pyplot alone, which take long; they come when asked for."""
    before = os.environ.get(LEGACY_KERAS)
    # TensorFlow then looks for tf_keras, and imports none if there is none
    os.environ[LEGACY_KERAS] = "1"
    try:
        yield
    finally:
        del os.environ[LEGACY_KERAS]
        os.environ |= {LEGACY_KERAS: before} if before is not None else {}


@contextlib.contextmanager
def quiet(waiting: str = "") -> Iterator[None]:
    """Keeps TensorFlow's start-up notices off the screen; shows them if TensorFlow fails, or ends the process.

    TF_CPP_MIN_LOG_LEVEL alone does not: some are written before the logger is set up. Who sets it lower sees them all.
    Meanwhile `waiting` is shown on a terminal, and is gone afterwards.
    """
    if os.environ.setdefault(LOG_LEVEL, "3") < "3":
        yield
        return
    sys.stderr.flush()
    saved, terminal = os.dup(2), waiting if os.isatty(2) else ""
    os.write(saved, terminal.encode())
    with (
        tempfile.NamedTemporaryFile(delete=os.name != "posix") as notices,
        _shown_after_an_abort(notices.name) as well,
    ):
        stopping.speak_on(saved, well)
        os.dup2(notices.fileno(), 2)
        try:
            yield
        except InputError:
            raise
        except BaseException:
            notices.seek(0)
            os.write(saved, notices.read())
            raise
        finally:
            os.write(saved, f"\r{' ' * len(terminal)}\r".encode() if terminal else b"")
            os.dup2(saved, 2)
            stopping.speak_on(2)
            os.close(saved)


@contextlib.contextmanager
def _shown_after_an_abort(path: str) -> Iterator[Callable[[], None]]:
    """Has a shell show the file `path` if this process ends before it has called what is yielded.

    TensorFlow ends the process where the CPU lacks AVX or a library does not fit, and nothing in it can tell why.
    The shell removes the file at the end, whatever happens.
    """
    if os.name != "posix" or not shutil.which("sh"):
        yield lambda: None
        return
    command = ["sh", "-c", 'trap "" INT TERM; read -r well || cat "$0"; rm "$0"', path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2) as shell:
        stdin = shell.stdin
        assert stdin

        def well() -> None:
            with contextlib.suppress(BrokenPipeError):
                os.write(stdin.fileno(), b"well\n")

        try:
            yield well
        finally:
            well()


def hide_gpus(asked: str) -> None:
    """Keeps GPUs out of a TensorFlow that is not yet imported if `asked` is cpu, so that nothing of CUDA is loaded."""
    if asked == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def choose(
    asked: str,
    tf32: bool,
    among: Sequence[str] = (),
    one_thread: bool = False,
    deterministic: bool = False,
) -> "tf.config.LogicalDevice":
    """Returns the first device to train on, one of `among` if given; on a CPU, each operation with one thread if asked.

    Where TensorFlow runs already, as with --strategy, and where the user has set its threads, they stay as they are.
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
    if device.device_type == "GPU":
        import tensorflow as tf

        return tf.config.experimental.get_device_details(_physical(device)).get(
            "device_name", "GPU"
        )
    return cpu_model()


def _physical(device: "tf.config.LogicalDevice") -> "tf.config.PhysicalDevice":
    """Returns the GPU that a device is, of all that TensorFlow found: it may not use each of them."""
    import tensorflow as tf

    return tf.config.get_visible_devices("GPU")[int(device.name.rsplit(":", 1)[1])]


def cpu_model() -> str:
    """Returns the CPU's model, from /proc/cpuinfo where there is one."""
    for line in cpu_info():
        if line.startswith("model name"):
            return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()


def cpu_info() -> list[str]:
    """Returns the lines of /proc/cpuinfo; none where there is no such file."""
    with contextlib.suppress(OSError):
        return CPU_INFO.read_text().splitlines()
    return []


def most_bytes(source: str, device: "tf.config.LogicalDevice | None" = None) -> float:
    """Returns how many bytes of training images --input=`source` keeps in memory: auto, a quarter of the device's."""
    return memory(device) / 4 if source == "auto" else {"memory": math.inf, "stream": -1}[source]


def memory(device: "tf.config.LogicalDevice | None" = None) -> float:
    """Returns the bytes of memory that a device has; for a CPU, that this process may use."""
    if device and device.device_type == "GPU":
        return gpu.memory_bytes(int(_physical(device).name.rsplit(":", 1)[1]))
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
        "git_commit": _git_commit(),
        "xla": mode == "xla",
        "tf32": tf32,
    }


def threads() -> int:
    """Returns how many threads share an operation on the CPU: as was set here, or by the user, or one for each core."""
    import tensorflow as tf

    asked = os.environ.get(THREADS, "")
    set_here = tf.config.threading.get_intra_op_parallelism_threads()
    return set_here or (int(asked) if asked.isdigit() else 0) or cores()


def _git_commit() -> str | None:
    """Returns this project's commit, `-dirty` behind it if files differ; None outside a checkout of its own."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        if not PROJECT.samefile(git("rev-parse", "--show-toplevel")):
            return None
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None
