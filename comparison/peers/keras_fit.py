"""Keras `fit`: on arrays with its defaults, or with the best settings found."""

from collections.abc import Callable

import keras
import numpy as np

from comparison.peers import scaled
from comparison.peers.in_tensorflow import pipeline, prepare
from comparison.worker import Train, Work

GATHERED = 500  # rows that the best pipeline gathers and converts at once


def contender(work: Work) -> Train:
    """Returns a function that does the job with Keras's defaults, on the arrays of an epoch."""
    prepare(work)

    def examples(rows: np.ndarray) -> tuple:
        return scaled(work.images[rows]), work.labels[rows]

    return _trained(work, examples, steps_per_execution=1)


def best(work: Work) -> Train:
    """Returns a function that does the job with 500 steps in a call, fed by a pipeline.

    Allocating an epoch of floats would take a time that varies between processes. Longer calls were
    not faster. Arrays instead of the pipeline, and `jit_compile=True`, were slower.
    """
    prepare(work)
    batches = pipeline(work, max(GATHERED, work.batch_size))

    def examples(rows: np.ndarray) -> tuple:
        return (batches(rows).rebatch(work.batch_size),)

    return _trained(work, examples, steps_per_execution=500)


def _trained(
    work: Work, examples: Callable[[np.ndarray], tuple], steps_per_execution: int
) -> Train:
    """Returns a function that fits a model on the examples of each epoch, in the order of their
    rows."""
    dense = keras.layers.Dense(work.num_classes, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input([work.num_features]), dense])
    model.compile(
        optimizer=keras.optimizers.SGD(work.lr),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
        steps_per_execution=steps_per_execution,
    )
    zeros = model.get_weights()

    def train() -> tuple[np.ndarray, np.ndarray]:
        model.set_weights(zeros)
        for rows in work.epochs():
            # Keras ignores the size of a batch for a Dataset
            model.fit(*examples(rows), batch_size=work.batch_size, shuffle=False, verbose=0)
        return tuple(model.get_weights())

    train()
    return train
