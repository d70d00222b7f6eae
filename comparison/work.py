"""The work of every contender, and reference runs in NumPy that check its weights."""

import dataclasses
import hashlib
import itertools
import math
import pathlib
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from common.commandline import Config
from common.errors import InputError, RunError, reason
from runtime import startup

if TYPE_CHECKING:
    import data

REFERENCE_BATCH = 10  # the batch size for which --lr is meant
MIN_STEPS = 300  # of a job, in whole epochs; long enough to time a fast GPU
SLOW_STEPS = 1_000  # of a contender that takes seconds for an epoch

Weights = tuple[np.ndarray, np.ndarray]  # W [features, classes], b [classes]
References = dict[tuple[int, int], "Reference"]  # by batch size and steps
Rounding = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Job:
    """The facts that must be equal in two times to compare, besides device, cores, precision."""

    dataset: str
    data_sha256: str
    num_examples: int
    num_features: int
    num_classes: int
    batch_size: int
    steps: int
    lr: float
    seed: int

    def __str__(self) -> str:
        data = f"{self.dataset} {self.data_sha256[:8]}, seed {self.seed}, lr {self.lr:g}"
        return f"batch {self.batch_size:,}, {self.steps:,} steps, {data}"

    def cut(self) -> "Job":
        """Returns the job of a slow contender."""
        return dataclasses.replace(self, steps=min(self.steps, SLOW_STEPS))


def steps_of(batch_size: int, num_examples: int, max_steps: int) -> int:
    """Returns the steps of a job: as many whole epochs as have MIN_STEPS, or max_steps if not 0."""
    steps_per_epoch = math.ceil(num_examples / batch_size)
    steps = steps_per_epoch * math.ceil(MIN_STEPS / steps_per_epoch)
    return min(steps, max_steps or steps)


def lr_of(batch_size: int, lr: float) -> float:
    """Returns the learning rate, which falls as the batch grows beyond 10.

    The loss is a sum over the batch, so the same rate would make the weights explode.
    """
    return lr * min(1, REFERENCE_BATCH / batch_size)


def as_tf32(array: np.ndarray) -> np.ndarray:
    """Returns float32 numbers rounded to the 10 bits of the fraction that TF32 keeps."""
    bits = array.view(np.uint32)
    return ((bits + 0x1000) & 0xFFFFE000).view(np.float32)


def weights_after(
    job: Job,
    examples: Sequence[np.ndarray],
    dtype: type,
    rounded: Rounding = np.asarray,
) -> Weights:
    """Returns W and b after the steps of a job, from W = b = 0.

    examples: images [n, features] uint8, labels [n] int32, order [epochs, n] int32. The last batch
    of an epoch may be smaller. The factors of each matrix product are `rounded`. Sums are of
    `dtype`, over each batch first.
    """
    images, labels, order = examples
    W: np.ndarray = np.zeros((job.num_features, job.num_classes), dtype)
    b: np.ndarray = np.zeros(job.num_classes, dtype)
    one_hot: np.ndarray = np.eye(job.num_classes, dtype=dtype)
    starts = range(0, job.num_examples, job.batch_size)
    batches = (rows[first : first + job.batch_size] for rows in order for first in starts)
    for rows in itertools.islice(batches, job.steps):
        x = rounded(images[rows].astype(dtype) / dtype(255))
        logits = x @ rounded(W) + b
        delta = np.exp(logits - logits.max(axis=1, keepdims=True))
        delta /= delta.sum(axis=1, keepdims=True)
        delta -= one_hot[labels[rows]]
        W -= dtype(job.lr) * (x.T @ rounded(delta))
        b -= dtype(job.lr) * delta.sum(axis=0)
    return W, b


def relative_error(found: Weights, expected: Weights) -> float:
    """Returns the largest difference of W or b, as a share of the largest weight; nan for nan."""
    here, there = (np.concatenate([*W, b]) for W, b in (found, expected))
    return float(np.abs(here - there).max() / np.abs(there).max())


@dataclasses.dataclass(frozen=True)
class Reference:
    """W and b after a job in float64, and by precision the relative error of NumPy in float32."""

    weights: Weights
    errors: dict[str, float]


def reference(job: Job, examples: Sequence[np.ndarray], precisions: Collection[str]) -> Reference:
    """Returns the reference of a job; examples as in `weights_after`."""
    exact = weights_after(job, examples, np.float64)
    rounding: dict[str, Rounding] = {"float32": np.asarray, "tf32": as_tf32}
    errors = {
        name: relative_error(weights_after(job, examples, np.float32, rounding[name]), exact)
        for name in precisions
    }
    return Reference(exact, errors)


def jobs_of(dataset: "data.Dataset", config: Config) -> list[Job]:
    """Returns the job at each batch size; raises InputError if one exceeds the training split."""
    images, labels = dataset.train.images, dataset.train.labels
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    count, jobs = len(labels), []
    for size in map(int, config.batch_sizes):
        if size > count:
            raise InputError(
                f"--batch_sizes={size}: must be at most the {count} training images of "
                f"{dataset.name}"
            )
        job = Job(
            dataset=config.dataset,
            data_sha256=digest,
            num_examples=count,
            num_features=dataset.num_features,
            num_classes=len(dataset.class_names),
            batch_size=size,
            steps=steps_of(size, count, config.max_steps),
            lr=lr_of(size, config.lr),
            seed=config.seed,
        )
        jobs.append(job)
    return jobs


def prepare(config: Config, folder: pathlib.Path) -> tuple[list[Job], References]:
    """Writes the examples to `folder`; returns the job at each batch size, and the references of
    these jobs and of their cuts, by batch size and steps.

    Raises InputError if the dataset cannot be loaded, or a batch exceeds its training split.
    """
    warnings.simplefilter("ignore")  # TensorFlow's own would raise under PYTHONWARNINGS=error
    with startup.starting():
        import tensorflow as tf

        import data

        tf.config.set_visible_devices([], "GPU")  # the contenders need all of its memory
    dataset = data.load(config.dataset, config.data_dir, config.manual_dir)
    jobs = jobs_of(dataset, config)
    count = jobs[0].num_examples
    epochs = max(-(-job.steps // -(-count // job.batch_size)) for job in jobs)
    order = [data.epoch_order(count, config.seed, epoch) for epoch in range(epochs)]
    examples = np.asarray(dataset.train.images), np.asarray(dataset.train.labels), np.stack(order)
    try:
        for name, array in zip(("images", "labels", "order"), examples, strict=True):
            np.save(folder / f"{name}.npy", array)
    except OSError as error:  # the error of a full disk does not name the file
        raise RunError(f"{folder}: {reason(error)}") from None
    return jobs, {
        (job.batch_size, job.steps): reference(job, examples, config.precision)
        for full in jobs
        for job in {full, full.cut()}  # often the same
    }
