"""Who can take part, and what contenders in Python share; docs/comparison.md has the protocol."""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from comparison.worker import Work, leave_out

if TYPE_CHECKING:
    import jax
    import tensorflow as tf
    import torch

# not that of common.files: a contender's own Python may have NumPy and its library alone
PROJECT = pathlib.Path(__file__).resolve().parents[2]
SHARED_BATCH = 500  # from here on it pays to share a batch among the cores
DEFAULT = ("xla", "c", "jax_best", "torch_best", "numpy_best", "graph", "keras_best")


@dataclasses.dataclass(frozen=True)
class Contender:
    """A function of a module, MODULE:FUNCTION, or a command of its own; and what it is in words.

    package, tool: what must be installed. cores_from: the smallest batch at which it may use more
    than one core. slow: it takes seconds for an epoch, and gets a shorter job. place: where its
    command runs, by default where the user is.
    """

    words: str
    function: str = ""
    command: tuple[str, ...] = ()
    package: str = "numpy"
    tool: str = ""
    devices: tuple[str, ...] = ("cpu", "gpu")
    cores_from: int = 100
    slow: bool = False
    python: str = sys.executable
    place: pathlib.Path | None = PROJECT

    def argv(self, folder: pathlib.Path) -> list[str]:
        """Returns the command that starts the contender on what is in `folder`."""
        own = (self.python, "-m", "comparison.worker", f"comparison.peers.{self.function}")
        return [*(self.command or own), str(folder)]


def _tensorflow(words: str, function: str, cores_from: int = 1, slow: bool = False) -> Contender:
    return Contender(words, function, package="tensorflow", cores_from=cores_from, slow=slow)


CONTENDERS = {
    "xla": _tensorflow("this project, xla", "ours:xla", cores_from=SHARED_BATCH),
    "graph": _tensorflow("this project, graph", "ours:graph"),
    "eager": _tensorflow("this project, eager", "ours:eager", slow=True),
    "usual": _tensorflow("tf.function a batch", "usual:contender", slow=True),
    "article": _tensorflow("TF1 Session", "article_tf1:contender", cores_from=SHARED_BATCH),
    "keras": _tensorflow("Keras fit", "keras_fit:contender", slow=True),
    "keras_best": _tensorflow("Keras fit, 500 steps a call", "keras_fit:best"),
    "numpy_best": Contender("NumPy", "numpy_sgd:best", devices=("cpu",)),
    "torch": Contender("PyTorch autograd", "in_torch:contender", package="torch"),
    "torch_best": Contender("PyTorch compiled", "in_torch:best", package="torch", tool="g++"),
    "jax": Contender("JAX scan", "in_jax:contender", package="jax"),
    "jax_best": Contender("JAX, classes first", "in_jax:best", package="jax"),
    "c": Contender(
        "plain C",
        command=("sh", str(pathlib.Path(__file__).with_name("softmax.sh"))),
        tool=os.environ.get("CC", "cc"),
        devices=("cpu",),
    ),
}


def scaled(images: np.ndarray) -> np.ndarray:
    """Returns uint8 images as float32 in [0, 1]."""
    return np.multiply(images, np.float32(1 / 255), dtype=np.float32)


def threads(work: Work) -> int:
    """Returns how many threads suit: to share out a small batch costs more than it gains."""
    return work.cores if work.batch_size >= SHARED_BATCH else 1


def require_tensorflow_device(work: Work) -> None:
    """Leaves the contender out where TensorFlow does not see its device."""
    import tensorflow as tf

    if work.device == "gpu" and not tf.config.list_physical_devices("GPU"):
        leave_out("TensorFlow sees no GPU")


def tensorflow_device(work: Work) -> str:
    """Returns the name of the device; sets TensorFlow's threads and precision."""
    import tensorflow as tf

    require_tensorflow_device(work)
    tf.config.threading.set_intra_op_parallelism_threads(threads(work))
    tf.config.experimental.enable_tensor_float_32_execution(work.precision == "tf32")
    return f"/{work.device}:0"


def tensorflow_pipeline(work: Work) -> "Callable[[np.ndarray], tf.data.Dataset]":
    """Returns what makes the batches of rows [n], each gathered and converted as a whole."""
    import tensorflow as tf

    with tf.device("CPU"):  # where pipelines run
        images, labels = tf.constant(work.images), tf.constant(work.labels)

    def examples(rows: "tf.Tensor") -> "tuple[tf.Tensor, tf.Tensor]":
        return tf.cast(tf.gather(images, rows), tf.float32) / 255, tf.gather(labels, rows)

    def batches(rows: np.ndarray) -> "tf.data.Dataset":
        in_batches = tf.data.Dataset.from_tensor_slices(rows).batch(work.batch_size)
        return in_batches.map(examples).prefetch(tf.data.AUTOTUNE)

    return batches


def torch_device(work: Work) -> "torch.device":
    """Returns the device; sets PyTorch's threads and precision."""
    import torch

    if work.device == "gpu" and not torch.cuda.is_available():
        leave_out("PyTorch sees no GPU")
    torch.set_num_threads(threads(work))
    torch.set_float32_matmul_precision("high" if work.precision == "tf32" else "highest")
    return torch.device("cuda" if work.device == "gpu" else "cpu")


def jax_device(work: Work) -> "jax.Device":
    """Returns the device; sets JAX's precision."""
    import jax

    precision = "tensorfloat32" if work.precision == "tf32" else "highest"
    jax.config.update("jax_default_matmul_precision", precision)
    try:
        return jax.devices(work.device)[0]
    except RuntimeError:
        leave_out("JAX sees no GPU")
