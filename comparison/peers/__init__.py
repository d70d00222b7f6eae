"""The contenders, and code that those in Python share; docs/comparison.md has the protocol."""

import dataclasses
import pathlib
import sys

import numpy as np

from comparison.worker import Work

SHARED_BATCH = 500  # minimum batch that is worth sharing among the cores
SLOW_STEPS = 1_000  # maximum for a contender that takes seconds for an epoch


@dataclasses.dataclass(frozen=True)
class Contender:
    """A function of a module, MODULE:FUNCTION, or a command, and its name in words for charts.

    package: its version is reported. cores_from: the minimum batch for more than one core.
    max_steps: its job has no more steps. A command runs in the user's current directory.
    """

    words: str
    function: str = ""
    command: tuple[str, ...] = ()
    package: str = "tensorflow"
    devices: tuple[str, ...] = ("cpu", "gpu")
    cores_from: int = 1
    max_steps: int = sys.maxsize
    python: str = sys.executable

    def argv(self, folder: pathlib.Path) -> list[str]:
        """Returns the command that starts the contender on the job in `folder`."""
        own = (self.python, "-m", "comparison.worker", f"comparison.peers.{self.function}")
        return [*(self.command or own), str(folder)]


CONTENDERS = {
    "xla": Contender("this project, xla", "ours:contender", cores_from=SHARED_BATCH),
    "graph": Contender("this project, graph", "ours:contender"),
    "eager": Contender("this project, eager", "ours:contender", max_steps=SLOW_STEPS),
    "usual": Contender("tf.function a batch", "in_tensorflow:usual", max_steps=SLOW_STEPS),
    "article": Contender("TF1 Session", "in_tensorflow:article", cores_from=SHARED_BATCH),
    "keras": Contender("Keras fit", "keras_fit:contender", max_steps=SLOW_STEPS),
    "keras_best": Contender("Keras fit, 500 steps a call", "keras_fit:best"),
    "numpy_best": Contender(
        "NumPy", "numpy_sgd:best", package="numpy", devices=("cpu",), cores_from=100
    ),
    "torch": Contender(
        "PyTorch autograd", "in_torch:contender", package="torch", cores_from=SHARED_BATCH
    ),
    "torch_best": Contender(
        "PyTorch compiled", "in_torch:best", package="torch", cores_from=SHARED_BATCH
    ),
    "jax": Contender("JAX scan", "in_jax:contender", package="jax", cores_from=100),
    "jax_best": Contender("JAX, classes first", "in_jax:best", package="jax", cores_from=100),
    "c": Contender(
        "plain C",
        command=("sh", str(pathlib.Path(__file__).with_name("softmax.sh"))),
        devices=("cpu",),
        cores_from=100,
    ),
}


def scaled(images: np.ndarray) -> np.ndarray:
    """Returns uint8 images as float32 in [0, 1]."""
    return np.multiply(images, np.float32(1 / 255), dtype=np.float32)


def threads(work: Work) -> int:
    """Returns the number of threads. Sharing a small batch would cost more than it gains."""
    return work.cores if work.batch_size >= SHARED_BATCH else 1
