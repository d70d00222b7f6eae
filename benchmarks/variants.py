"""What the program's comments rest on: a step written otherwise, in one run.

python -m benchmarks.variants --rounds=20 --write
"""

import itertools
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from benchmarks import runs
from runtime import devices, startup

with startup.quiet():
    import numpy as np
    import tensorflow as tf

    import data
    import flags
    import model
    from runtime import modes

Config = runs.Config
STEPS, EXAMPLES = 2_000, 55_000
Call = Callable[[], object]


def classes_last(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The summed cross-entropy as model.cross_entropy computes it, but along rows of classes."""
    y = tf.one_hot(labels, logits.shape[1])
    return tf.reduce_sum(tf.reduce_logsumexp(logits, axis=1)) - tf.reduce_sum(y * logits)


def fused(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The summed cross-entropy as TensorFlow's own operation computes it."""
    return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def as_it_is(target: tf.Module, source: tf.Module) -> None:
    """What model.assign_transposed does, without a transpose."""
    for variable, value in zip(target.variables, source.variables, strict=True):
        variable.assign(value)


def call(batch_size: int = 10, **changes: Any) -> Call:
    """Returns a call that takes steps on random images, compiled with `changes` to the module `model`."""
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(256, size=(EXAMPLES, 784), dtype=np.uint8))
    labels = tf.constant(rng.integers(10, size=EXAMPLES, dtype=np.int32))
    order = tf.constant(data.epoch_order(EXAMPLES, 0, 0))
    mode = modes.InXla(model.SoftmaxRegression(784, 10), STEPS, on_gpu=False)
    block = data.Block(images, labels, order, 0, STEPS, batch_size, False)
    config = flags.training_config(batch_size=batch_size, loss_reduction="mean")
    with mock.patch.multiple(model, **changes or {"Transposed": model.Transposed}):
        mode(block, config)
    return lambda: mode(block, config)


def measured(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Returns us/step of each call, all taken in turn in each round."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _, (name, take) in itertools.product(range(rounds), calls.items()):
        start = time.perf_counter()
        take()
        samples[name].append((time.perf_counter() - start) / STEPS * 1e6)
    return samples


def step_table(rounds: int) -> list[str]:
    """Returns the table of the ways to write a step."""
    calls = {
        "as it is": call(),
        "W stored [features, classes]": call(
            Transposed=model.SoftmaxRegression, assign_transposed=as_it_is
        ),
        "the loss along rows of classes": call(cross_entropy=classes_last),
        "TensorFlow's fused sparse cross-entropy": call(cross_entropy=fused),
        "the rows of two steps gathered at a time": call(BATCHES_PER_GATHER=2),
        "the rows of 50 steps gathered at a time": call(BATCHES_PER_GATHER=50),
    }
    samples = measured(calls, rounds)
    lines = ["| the step | us | over the step as it is |", "|---|--:|--:|"]
    for name, values in samples.items():
        ratios = np.divide(values, samples["as it is"]).tolist()
        lines.append(f"| {name} | {runs.middle(values)} | {runs.middle(ratios)} |")
    return lines


def measure(config: Config) -> None:
    """Measures every variant on random images: a step's time does not depend on what they show."""
    devices.choose("cpu", tf32=False, one_thread=True)
    runs.publish(
        "variants",
        config,
        step_table(config.rounds),
        "docs/performance.md",
    )


if __name__ == "__main__":
    runs.main(Config, measure, __doc__)
