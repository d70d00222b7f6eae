"""The work that every contender does, the float64 run that checks it, and what makes two jobs the same."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

# A longer measurement tells nothing more: it is cut where steps times batch would pass this many images.
MAX_IMAGES = 200_000
REFERENCE_BATCH = 10  # --lr is meant for this batch
BLOCK_BYTES = 4 * 2**20  # of uint8: as float32 it still fits in a CPU's last cache
# float32 against float64 differs by 1e-6; half the steps or a mean for a sum by 0.3 and more
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Job:
    """What must be equal for two times to be comparable."""

    dataset: str
    data_sha256: str
    num_features: int
    num_classes: int
    num_examples: int
    batch_size: int
    steps: int
    lr: float
    seed: int
    order: str = "shuffled"
    loss: str = "sum"
    dtype: str = "float32"
    tf32: bool = False


def steps_of(batch_size: int, max_steps: int) -> int:
    """Returns the steps of a measurement."""
    return max(1, min(max_steps, MAX_IMAGES // batch_size))


def lr_of(batch_size: int, lr: float) -> float:
    """Returns the learning rate, which falls as the batch grows beyond 10.

    The loss is a sum over the batch: with the same rate the weights would explode, and rounding with them.
    """
    return lr * min(1, REFERENCE_BATCH / batch_size)


@dataclasses.dataclass(frozen=True)
class Work:
    """Plain SGD on the summed cross-entropy from W = b = 0: `steps` batches of `order`, each epoch's last one smaller.

    images [n, features] uint8, labels [n] int32, order [epochs, n] int32: the rows of each epoch; the test split alike.
    """

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    order: np.ndarray
    num_classes: int
    batch_size: int
    steps: int
    lr: float
    seed: int

    @property
    def num_features(self) -> int:
        return self.images.shape[1]

    def epochs(self) -> Iterator[np.ndarray]:
        """Yields the rows [n] int32 of each epoch in their order; the last epoch ends with the last step."""
        steps_per_epoch = -(-len(self.labels) // self.batch_size)
        for epoch, first in enumerate(range(0, self.steps, steps_per_epoch)):
            yield self.order[epoch, : (self.steps - first) * self.batch_size]

    def blocks(self, most_steps: int = 500) -> Iterator[np.ndarray]:
        """Yields the same rows as blocks [steps, batch] of equal batches, for who converts many batches at once."""
        most = max(1, min(most_steps, BLOCK_BYTES // (self.batch_size * self.num_features)))
        for rows in self.epochs():
            full = len(rows) // self.batch_size
            for step in range(0, full, most):
                stop = min(step + most, full)
                yield rows[step * self.batch_size : stop * self.batch_size].reshape(
                    stop - step, self.batch_size
                )
            if len(rows) % self.batch_size:
                yield rows[full * self.batch_size :][np.newaxis]


ARRAYS = ("images", "labels", "test_images", "test_labels", "order")
TAKEN_FROM_JOB = ("num_classes", "batch_size", "steps", "lr", "seed")


def load(folder: pathlib.Path, job: Job | None = None) -> Work:
    """Returns the work of a job, by default that in job.json, on the examples that the survey left in `folder`."""
    known = dataclasses.asdict(job) if job else json.loads((folder / "job.json").read_text())
    examples: dict[str, Any] = {name: np.load(folder / f"{name}.npy") for name in ARRAYS}
    return Work(**examples, **{name: known[name] for name in TAKEN_FROM_JOB})


def reference(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Returns W [features, classes] and b [classes] after the work's steps, in float64."""
    W, b = np.zeros((work.num_features, work.num_classes)), np.zeros(work.num_classes)
    for rows in (batch for block in work.blocks() for batch in block):
        x = work.images[rows] / 255
        logits = x @ W + b
        gradient = np.exp(logits - logits.max(axis=1, keepdims=True))
        gradient /= gradient.sum(axis=1, keepdims=True)
        gradient[np.arange(len(rows)), work.labels[rows]] -= 1
        W -= work.lr * (x.T @ gradient)
        b -= work.lr * gradient.sum(axis=0)
    return W, b


def difference(
    weights: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]
) -> float:
    """Returns the largest difference of W or b from what is expected, relative to the largest weight; inf for NaN."""
    differences = []
    for found, right in zip(weights, expected, strict=True):
        if found.shape != right.shape or not np.isfinite(found).all():
            return float("inf")
        differences.append(float(np.abs(found - right).max() / np.abs(right).max()))
    return max(differences)
