"""The work of every contender, and reference runs in NumPy that check its weights."""

import itertools
import math
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from common.commandline import Config
from common.errors import InputError, RunError, reason
from comparison.worker import Task
from runtime import startup
from storage.dataset import Dataset

REFERENCE_BATCH = 10  # the batch size for which --lr is meant
CLOSE = 5  # maximum error, over NumPy's own error in the same precision
TOO_CLOSE = 6e-8  # float64 rounded once has a smaller error, float32 a larger one from TEN_STEPS on
TEN_STEPS = 10
MIN_STEPS = 300  # of a job, in whole epochs; long enough to time a fast GPU

Weights = tuple[np.ndarray, np.ndarray]  # W [features, classes], b [classes]
# W and b after a job in float64, and the lowest and highest relative error of a contender's.
Reference = tuple[Weights, float, float]


def as_tf32(array: np.ndarray) -> np.ndarray:
    """Returns float32 numbers rounded to the 10 bits of the fraction that TF32 keeps."""
    bits = array.view(np.uint32)
    return ((bits + 0x1000) & 0xFFFFE000).view(np.float32)


def weights_after(
    task: Task,
    examples: Sequence[np.ndarray],
    dtype: type,
    rounded: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Weights:
    """Returns W and b after the steps of a task, from W = b = 0.

    examples: images [n, features] uint8, labels [n] int32, order [epochs, n] int32. The last batch
    of an epoch may be smaller. The factors of each matrix product are `rounded`. Sums are of
    `dtype`, over each batch first.
    """
    from scipy import special  # compare.py says later that SciPy is missing

    images, labels, order = examples
    W: np.ndarray = np.zeros((task.num_features, task.num_classes), dtype)
    b: np.ndarray = np.zeros(task.num_classes, dtype)
    one_hot: np.ndarray = np.eye(task.num_classes, dtype=dtype)
    starts = range(0, task.num_examples, task.batch_size)
    batches = (rows[first : first + task.batch_size] for rows in order for first in starts)
    for rows in itertools.islice(batches, task.steps):
        x = rounded(images[rows].astype(dtype) / 255)
        delta = special.softmax(x @ rounded(W) + b, axis=1) - one_hot[labels[rows]]
        W -= task.lr * (x.T @ rounded(delta))
        b -= task.lr * delta.sum(axis=0)
    return W, b


def relative_error(found: Sequence[np.ndarray], expected: Weights) -> float:
    """Returns the largest difference of W or b, as a share of the largest weight; nan for nan."""
    here, there = map(np.vstack, (found, expected))
    return np.abs(here - there).max() / np.abs(there).max()


def reference(task: Task, examples: Sequence[np.ndarray]) -> Reference:
    """Returns the reference of a task; examples as in `weights_after`."""
    exact = weights_after(task, examples, np.float64)
    rounded = as_tf32 if task.precision == "tf32" else np.asarray
    error = relative_error(weights_after(task, examples, np.float32, rounded), exact)
    low = TOO_CLOSE if task.steps >= TEN_STEPS else 0
    return exact, low, CLOSE * error


def load(config: Config) -> Dataset:
    """Returns the dataset; raises InputError if it cannot be loaded."""
    warnings.simplefilter("ignore")  # TensorFlow's own would raise under PYTHONWARNINGS=error
    with startup.starting():
        import tensorflow as tf

        import data

        tf.config.set_visible_devices([], "GPU")  # the contenders need all of its memory
    return data.load(config.dataset, config.data_dir, config.manual_dir)


def job_of(dataset: Dataset, config: Config, batch_size: int, max_steps: int) -> dict[str, Any]:
    """Returns the job at a batch size, as fields of a Task; raises InputError if a batch is larger
    than the training split.

    It has the steps of as many whole epochs as have MIN_STEPS, at most `max_steps`.
    """
    count = len(dataset.train)
    if batch_size > count:
        raise InputError(
            f"--batch_sizes={batch_size}: must be at most the {count} training images of "
            f"{dataset.name}"
        )
    epoch = math.ceil(count / batch_size)
    steps = epoch * math.ceil(MIN_STEPS / epoch)
    return {
        "dataset": config.dataset,
        "data_sha256": dataset.checksum,
        "num_examples": count,
        "num_features": dataset.num_features,
        "num_classes": len(dataset.class_names),
        "batch_size": batch_size,
        "steps": min(steps, config.max_steps or steps, max_steps),
        # the loss is a sum, so the same rate would make the weights of a large batch explode
        "lr": config.lr * min(1, REFERENCE_BATCH / batch_size),
        "seed": config.seed,
    }


def prepare(
    dataset: Dataset, tasks: Sequence[Task], folder: pathlib.Path
) -> dict[tuple[str, str], Reference]:
    """Writes the examples to `folder`; returns references by job and precision."""
    import data  # imports TensorFlow, which `load` has started

    first = tasks[0]
    # or a few more, where the last batch of an epoch is smaller
    epochs = max(math.ceil(task.steps * task.batch_size / task.num_examples) for task in tasks)
    order = [data.epoch_order(first.num_examples, first.seed, epoch) for epoch in range(epochs)]
    examples = dataset.train.images, dataset.train.labels, np.stack(order)
    try:
        for name, array in zip(("images", "labels", "order"), examples, strict=True):
            np.save(folder / f"{name}.npy", array)
    except OSError as error:  # the error of a full disk does not name the file
        raise RunError(f"{folder}: {reason(error)}") from None
    different = {(task.job, task.precision): task for task in tasks}
    return {key: reference(task, examples) for key, task in different.items()}
