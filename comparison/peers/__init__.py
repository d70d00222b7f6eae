"""Who can take part, and what contenders in Python share; docs/comparison.md has the door."""

import dataclasses
import os
import pathlib
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np

from common.files import PROJECT
from comparison.worker import CannotUse, Work

if TYPE_CHECKING:
    import jax
    import torch

SHARED_BATCH = 500  # from here on it pays to share a batch among the cores
HERE = pathlib.Path(__file__).parent
DEFAULT = ("xla", "c", "jax_best", "torch_best", "numpy_best", "graph", "keras_best")


@dataclasses.dataclass(frozen=True)
class Contender:
    """A function of a module, MODULE:FUNCTION, or a command of its own; and what it is in words.

    package, tool: what must be installed. many_threads: it can use more than one core. slow: it
    takes seconds for an epoch, and gets a shorter job. place: where its command runs.
    """

    words: str
    function: str = ""
    command: tuple[str, ...] = ()
    package: str = "numpy"
    tool: str = ""
    devices: tuple[str, ...] = ("cpu", "gpu")
    many_threads: bool = True
    slow: bool = False
    python: str = sys.executable
    place: pathlib.Path | None = PROJECT

    def argv(self, folder: pathlib.Path) -> list[str]:
        """Returns the command that starts the contender on what is in `folder`."""
        own = (self.python, "-m", "comparison.worker", self.function)
        return [*(self.command or own), str(folder)]

    def lacks_tool(self) -> bool:
        """Says whether the tool that this contender needs is not there."""
        return bool(self.tool) and not shutil.which(self.tool)


def _tensorflow(words: str, function: str, slow: bool = False) -> Contender:
    return Contender(words, f"comparison.peers.{function}", package="tensorflow", slow=slow)


CONTENDERS = {
    "xla": _tensorflow("this project, xla", "ours:xla"),
    "graph": _tensorflow("this project, graph", "ours:graph"),
    "eager": _tensorflow("this project, eager", "ours:eager", slow=True),
    "usual": _tensorflow("tf.function a batch", "usual:contender", slow=True),
    "article": _tensorflow("TF1 Session", "article_tf1:contender"),
    "keras": _tensorflow("Keras fit", "keras_fit:contender", slow=True),
    "keras_best": _tensorflow("Keras fit, 500 steps a call", "keras_fit:best"),
    "numpy_best": Contender("NumPy", "comparison.peers.numpy_sgd:best", devices=("cpu",)),
    "torch": Contender(
        "PyTorch autograd", "comparison.peers.torch_autograd:contender", package="torch"
    ),
    "torch_best": Contender(
        "PyTorch compiled", "comparison.peers.torch_best:contender", package="torch"
    ),
    "jax": Contender("JAX scan", "comparison.peers.jax_scan:contender", package="jax"),
    "jax_best": Contender("JAX, classes first", "comparison.peers.jax_best:best", package="jax"),
    "c": Contender(
        "plain C",
        command=("sh", str(HERE / "softmax.sh")),
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


def tensorflow_device(work: Work) -> str:
    """Returns the name of the device; sets TensorFlow's threads and precision."""
    import tensorflow as tf

    if work.device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise CannotUse("TensorFlow sees no GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads(work))
    tf.config.experimental.enable_tensor_float_32_execution(work.precision == "tf32")
    return f"/{work.device}:0"


def torch_device(work: Work) -> "torch.device":
    """Returns the device; sets PyTorch's threads and precision."""
    import torch

    if work.device == "gpu" and not torch.cuda.is_available():
        raise CannotUse("PyTorch sees no GPU")
    torch.set_num_threads(threads(work))
    torch.set_float32_matmul_precision("high" if work.precision == "tf32" else "highest")
    return torch.device("cuda" if work.device == "gpu" else "cpu")


def jax_device(work: Work) -> "jax.Device":
    """Returns the device; sets JAX's precision, and as many CPU devices as threads suit."""
    import jax

    precision = "tensorfloat32" if work.precision == "tf32" else "highest"
    jax.config.update("jax_default_matmul_precision", precision)
    jax.config.update("jax_num_cpu_devices", threads(work))
    try:
        return jax.devices(work.device)[0]
    except RuntimeError:
        raise CannotUse("JAX sees no GPU") from None
