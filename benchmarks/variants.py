"""Six ways to write the compiled step of mode xla, of which model.py has the first."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from benchmarks.common import Samples, in_rounds

EXAMPLES, FEATURES, CLASSES, BATCH = 55_000, 784, 10, 10
STEPS, LR = 2_000, 1e-4
Rows = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # images, labels, order
Weights = tuple[tf.Tensor, tf.Tensor]  # W or its transpose, b


def classes_last(logits: tf.Tensor, labels: tf.Tensor, axis: int = 1) -> tf.Tensor:
    """Returns the summed cross-entropy of logits whose classes are along `axis`."""
    y = tf.one_hot(labels, CLASSES, axis=axis)
    return tf.reduce_sum(tf.reduce_logsumexp(logits, axis=axis)) - tf.reduce_sum(y * logits)


def classes_first(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the same, taken along rows of the batch."""
    return classes_last(tf.transpose(logits), labels, axis=0)


def fused(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the same, by TensorFlow's own operation."""
    return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


@dataclasses.dataclass(frozen=True)
class Way:
    """One way: what W the loop carries, how the loss is taken, how many batches are gathered at a
    time."""

    transposed: bool = True
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = classes_first
    gathered: int = 10


WAYS = {
    "as it is": Way(),
    "W itself in the loop, not its transpose": Way(transposed=False),
    "the loss along rows of classes": Way(loss=classes_last),
    "TensorFlow's fused sparse cross-entropy": Way(loss=fused),
    "the rows of two batches gathered at a time": Way(gathered=2),
    "the rows of the whole block gathered at once": Way(gathered=STEPS),
}


def update(way: Way, weights: Weights, images: tf.Tensor, labels: tf.Tensor) -> Weights:
    """Returns the weights after a step of SGD on a batch [batch, features] uint8."""
    with tf.GradientTape() as tape:
        tape.watch(weights)
        W = tf.transpose(weights[0]) if way.transposed else weights[0]
        loss = way.loss(tf.cast(images, tf.float32) / 255 @ W + weights[1], labels)
    dW, db = tape.gradient(loss, weights)
    return weights[0] - LR * dW, weights[1] - LR * db


def block(way: Way) -> Callable[[Rows], Weights]:
    """Returns what takes STEPS steps in one compiled call."""
    numbers = tf.reshape(tf.range(way.gathered * BATCH), [way.gathered, BATCH])

    @tf.function(jit_compile=True, autograph=False)
    def steps(rows: Rows) -> Weights:
        """Returns the weights after STEPS steps from zeros."""
        shape = [CLASSES, FEATURES] if way.transposed else [FEATURES, CLASSES]
        weights = tf.zeros(shape), tf.zeros([CLASSES])
        images, labels, order = rows

        def part(first: tf.Tensor, weights: Weights) -> tuple[tf.Tensor, Weights]:
            indices = tf.gather(order, first * way.gathered * BATCH + numbers)
            some_images, some_labels = tf.gather(images, indices), tf.gather(labels, indices)

            def step(i: tf.Tensor, weights: Weights) -> tuple[tf.Tensor, Weights]:
                return i + 1, update(way, weights, some_images[i], some_labels[i])

            return first + 1, tf.while_loop(lambda i, _: i < way.gathered, step, (0, weights))[1]

        parts = STEPS // way.gathered
        return tf.while_loop(lambda first, _: first < parts, part, (0, weights))[1]

    return steps


def random_rows() -> Rows:
    """Returns images, labels and an order by lot: a step's time does not depend on what they
    show."""
    images = tf.random.uniform([EXAMPLES, FEATURES], 0, 256, tf.int32)
    labels = tf.random.uniform([EXAMPLES], 0, CLASSES, tf.int32)
    return tf.cast(images, tf.uint8), labels, tf.random.shuffle(tf.range(EXAMPLES))


def measure() -> Samples:
    """Returns the microseconds of a step, each way taken in turn in each round, one thread."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    rows = random_rows()
    calls = {name: functools.partial(block(way), rows) for name, way in WAYS.items()}
    for call in calls.values():
        call()  # compiles

    def measure_each() -> dict[str, float]:
        found = {}
        for name, call in calls.items():
            started = time.perf_counter()
            call()[0].numpy()
            found[f"{name}, µs/step"] = (time.perf_counter() - started) / STEPS * 1e6
        return found

    return in_rounds(measure_each, rounds=20)()
