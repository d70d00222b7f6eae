"""The same training written in other ways, one short file each, and the interface they share.

In the timed region of each: the rows of the batches are gathered from uint8 images and converted to float32, every
step is taken, and the device has finished. Outside: imports, moving the data set to the device, compilation, warm-up
and evaluation. A program in another language takes part by its own door: docs/comparison.md.
"""

import abc

import numpy as np

from comparison.work import Work


class Peer(abc.ABC):
    """One way to do a `Work`. The methods are called in the order they stand here, `reset` and `train` repeatedly."""

    def __init__(self, work: Work, device: str):
        """Puts the data and the parameters on the device, "cpu" or "gpu"."""
        self.work, self.device = work, device

    @abc.abstractmethod
    def compile(self) -> None:
        """Compiles and warms up all that `train` and `num_correct` call, by steps on the model if need be."""

    @abc.abstractmethod
    def reset(self) -> None:
        """Makes W = b = 0 again."""

    @abc.abstractmethod
    def train(self) -> None:
        """Takes the steps of the work. This is the time that counts."""

    @abc.abstractmethod
    def num_correct(self) -> int:
        """Returns how many of the test images are given their label."""

    @abc.abstractmethod
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns W [features, classes] and b [classes]."""

    def barrier(self) -> None:  # noqa: B027 - right as it is where calls return when they are done
        """Returns when the device has finished all it was given; called before each reading of the clock."""


def scaled(images: np.ndarray) -> np.ndarray:
    """Returns uint8 images as float32 in [0, 1]."""
    return np.multiply(images, np.float32(1 / 255), dtype=np.float32)
