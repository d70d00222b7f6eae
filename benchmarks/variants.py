"""Six variants of the compiled step of mode xla; the first is that of model.py."""

import os
import timeit
from collections.abc import Callable
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

import model
from benchmarks.common import in_rounds

EXAMPLES, FEATURES, CLASSES, BATCH = 55_000, 784, 10, 10
STEPS, LR = 2_000, 1e-4
Weights = tuple[tf.Tensor, tf.Tensor]  # W or its transpose, b


def along_classes(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of model.py, computed along the classes instead of the batch."""
    return -tf.reduce_sum(tf.one_hot(labels, CLASSES) * tf.nn.log_softmax(logits))


def fused(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the same by TensorFlow's own operation."""
    return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


class Way(NamedTuple):
    """A variant: whether the loop carries W transposed, its loss, and the batches in a gather."""

    transposed: bool = True
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = model.cross_entropy
    gathered: int = 10


WAYS = {
    "as it is": Way(),
    "W itself in the loop, not its transpose": Way(transposed=False),
    "the loss along rows of classes": Way(loss=along_classes),
    "TensorFlow's fused sparse cross-entropy": Way(loss=fused),
    "the rows of two batches gathered at a time": Way(gathered=2),
    "the rows of the whole block gathered at once": Way(gathered=STEPS),
}


def update(way: Way, weights: Weights, images: tf.Tensor, labels: tf.Tensor) -> Weights:
    """Returns the weights after a step of SGD on a batch [batch, features] uint8."""
    with tf.GradientTape() as tape:
        tape.watch(weights)
        x = tf.cast(images, tf.float32) / 255
        logits = tf.matmul(x, weights[0], transpose_b=way.transposed) + weights[1]
        loss = way.loss(logits, labels)
    dW, db = tape.gradient(loss, weights)
    return weights[0] - LR * dW, weights[1] - LR * db


def block(way: Way) -> Callable[[tuple[tf.Tensor, ...]], Weights]:
    """Returns a function that takes STEPS steps from zeros on images, labels and an order."""

    @tf.function(jit_compile=True, autograph=False)
    def steps(rows: tuple[tf.Tensor, ...]) -> Weights:
        images, labels, order = rows

        def step(weights: Weights, batch: tuple[tf.Tensor, tf.Tensor]) -> Weights:
            return update(way, weights, *batch)

        def part(weights: Weights, indices: tf.Tensor) -> Weights:
            batches = tf.gather(images, indices), tf.gather(labels, indices)
            return tf.foldl(step, batches, weights)

        shape = [CLASSES, FEATURES] if way.transposed else [FEATURES, CLASSES]
        parts = tf.reshape(order[: STEPS * BATCH], [-1, way.gathered, BATCH])
        return tf.foldl(part, parts, (tf.zeros(shape), tf.zeros([CLASSES])))

    return steps


def random_rows() -> tuple[tf.Tensor, ...]:
    """Returns random images, labels and order. Their values do not change a step's time."""
    images = tf.random.uniform([EXAMPLES, FEATURES], 0, 256, tf.int32)
    labels = tf.random.uniform([EXAMPLES], 0, CLASSES, tf.int32)
    return tf.cast(images, tf.uint8), labels, tf.random.shuffle(tf.range(EXAMPLES))


def measure() -> dict[str, list[float]]:
    """Returns the microseconds per step on one thread; each round measures all variants in turn."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    rows = random_rows()
    blocks = {f"{name}, µs/step": block(way) for name, way in WAYS.items()}

    def us_per_step(steps: Callable[[tuple[tf.Tensor, ...]], Weights]) -> float:
        return timeit.timeit(lambda: steps(rows)[0].numpy(), number=1) / STEPS * 1e6

    def measure_each() -> dict[str, float]:
        return {name: us_per_step(steps) for name, steps in blocks.items()}

    measure_each()  # compiles
    return in_rounds(measure_each, rounds=20)
