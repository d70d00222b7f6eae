"""Six variants of mode xla; the first is that of train.py."""

import functools
import timeit
from typing import Any
from unittest import mock

import tensorflow as tf

import data
import flags
import model
from benchmarks.common import in_rounds
from runtime import modes

STEPS = 2_000


def along_classes(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of model.py, computed along the classes instead of the batch."""
    return -tf.reduce_sum(tf.one_hot(labels, 10) * tf.nn.log_softmax(logits))


def fused(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the same by TensorFlow's own operation."""
    return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def assign(target: model.SoftmaxRegression, source: model.SoftmaxRegression) -> None:
    """Assigns the parameters of a model to those of another, which stores W in the same way."""
    for variable, value in zip(target.parameters, source.parameters, strict=True):
        variable.assign(value)


# What each variant has in place of classes, functions or numbers of model.py. The first has the
# class that is there, because a patch must replace something.
WAYS: dict[str, dict[str, Any]] = {
    "as it is": {"Transposed": model.Transposed},
    "W itself in the loop, not its transpose": {
        "Transposed": model.SoftmaxRegression,
        "assign_transposed": assign,
    },
    "the loss along rows of classes": {"cross_entropy": along_classes},
    "TensorFlow's fused sparse cross-entropy": {"cross_entropy": fused},
    "the rows of two batches gathered at a time": {"BATCHES_PER_GATHER": 2},
    "the rows of the whole block gathered at once": {
        "BATCHES_PER_GATHER": STEPS,
        "MAX_ROWS_PER_GATHER": 10 * STEPS,
    },
}


def compiled(way: dict[str, Any], block: data.Block, config: flags.Config) -> modes.InXla:
    """Returns mode xla, compiled as a variant, after the steps of a block from zeros."""
    mode = modes.InXla(model.SoftmaxRegression(784, 10))
    with mock.patch.multiple(model, **way):
        mode(block, config)
    return mode


def measure() -> dict[str, list[float]]:
    """Returns the microseconds per step on one thread; each round measures all variants in turn."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    config = flags.training_config(max_steps=STEPS, eval_every=0)
    block = next(data.blocks(data.load("mnist").train, config))
    ways = {f"{name}, µs/step": compiled(way, block, config) for name, way in WAYS.items()}

    def us_per_step(mode: modes.InXla) -> float:
        return timeit.timeit(functools.partial(mode, block, config), number=1) / STEPS * 1e6

    return in_rounds(lambda: {name: us_per_step(mode) for name, mode in ways.items()}, rounds=20)
