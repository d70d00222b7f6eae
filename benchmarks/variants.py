"""What the program's comments rest on: a step written otherwise, and shared out among cores otherwise, in one run.

python -m benchmarks.variants --rounds=20 --write
"""

import itertools
import os
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
    import model
    from runtime import modes

Config = runs.Config
STEPS, EXAMPLES = 2_000, 55_000
BATCHES = (10, 100, 250, 500, 1_000, 10_000)
Call = Callable[[], object]


class Untransposed(model.SoftmaxRegression):
    """W stored [features, classes]."""

    def __init__(self, num_features: int, num_classes: int):
        super().__init__(num_features, num_classes)
        self.W_transposed = tf.Variable(tf.zeros([num_features, num_classes]))

    @property
    def W(self) -> tf.Tensor:  # noqa: N802
        return tf.convert_to_tensor(self.W_transposed)


def classes_last(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The summed cross-entropy as model.cross_entropy computes it, but along rows of classes."""
    y = tf.one_hot(labels, logits.shape[1])
    return tf.reduce_sum(tf.reduce_logsumexp(logits, axis=1)) - tf.reduce_sum(y * logits)


def fused(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The summed cross-entropy as TensorFlow's own operation computes it."""
    return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def by_rows(net: model.SoftmaxRegression, x: tf.Tensor) -> tf.Tensor:
    """The logits of model.logits_by_class, from the product that the reader sees."""
    return tf.transpose(x @ net.W + net.b)


def steps_of(batch_size: int) -> int:
    """Returns the steps of a call, of one epoch at most."""
    return min(STEPS, EXAMPLES // batch_size)


def call(
    kind: type = modes.InXla,
    net: type = model.SoftmaxRegression,
    batch_size: int = 10,
    **changes: Any,
) -> Call:
    """Returns a call that takes steps on random images, compiled with `changes` to the module `model`."""
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(256, size=(EXAMPLES, 784), dtype=np.uint8))
    labels = tf.constant(rng.integers(10, size=EXAMPLES, dtype=np.int32))
    order = tf.constant(data.epoch_order(EXAMPLES, 0, 0))
    take = kind(net(784, 10), True, *([devices.cores()] if kind is modes.OnAllCores else []))
    block = data.Block(images, labels, order, 0, steps_of(batch_size), batch_size, False)
    with mock.patch.multiple(model, **changes or {"GATHERED": model.GATHERED}):
        take(block, 0.01)
    return lambda: take(block, 0.01)


def measured(calls: dict[str, tuple[Call, int]], rounds: int) -> dict[str, list[float]]:
    """Returns us/step of each call of so many steps, all taken in turn in each round."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _, (name, (take, steps)) in itertools.product(range(rounds), calls.items()):
        start = time.perf_counter()
        take()
        samples[name].append((time.perf_counter() - start) / steps * 1e6)
    return samples


def step_table(rounds: int) -> list[str]:
    """Returns the table of the ways to write a step."""
    calls = {
        "as it is": call(),
        "W stored [features, classes]": call(net=Untransposed),
        "the loss along rows of classes": call(cross_entropy=classes_last),
        "TensorFlow's fused sparse cross-entropy": call(cross_entropy=fused),
        "the rows of each step gathered by themselves": call(_at_once=lambda *_: (1, 1)),
        "the rows of two steps gathered at a time": call(GATHERED=(2, 500)),
        "the rows of 50 steps gathered at a time": call(GATHERED=(50, 500)),
        "the rows of the whole block gathered at once": call(GATHERED=(STEPS, 10 * STEPS)),
        "as it is, for a batch of one image": call(batch_size=1),
        "a batch of one image, multiplied as any other": call(
            batch_size=1, logits_by_class=by_rows
        ),
    }
    samples = measured({name: (take, STEPS) for name, take in calls.items()}, rounds)
    lines, same = (
        ["| the step | us | over the step as it is |", "|---|--:|--:|"],
        samples["as it is"],
    )
    for name, values in samples.items():
        same = values if name.startswith("as it is") else same
        ratios = np.divide(values, same).tolist()
        lines.append(f"| {name} | {runs.middle(values)} | {runs.middle(ratios)} |")
    return lines


def cores_table(config: Config) -> list[str]:
    """Returns the table of the ways to use the cores: one of them, one program each, or each operation on all."""
    lines = [
        "| batch | one core, us | a program a core, us | one over all | an operation on all cores, us |"
    ]
    lines += ["|--:|--:|--:|--:|--:|"]
    for size in BATCHES:
        calls = {
            kind.__name__: (call(kind, batch_size=size), steps_of(size))
            for kind in (modes.InXla, modes.OnAllCores)
        }
        one, all_cores = measured(calls, config.rounds).values()
        cells = [
            f"{size:,}",
            runs.middle(one),
            runs.middle(all_cores),
            runs.middle(np.divide(one, all_cores).tolist()),
        ]
        lines.append(f"| {' | '.join([*cells, operations_on_all_cores(config, size)])} |")
    return lines


def operations_on_all_cores(config: Config, batch_size: int) -> str:
    """Returns us/step of runs of train.py whose one program is given all cores; nothing where it takes several."""
    if batch_size >= modes.SHARED_BATCH:
        return ""
    job = (
        f"--batch_size={batch_size}",
        "--loss_reduction=mean",
        "--eval_every=0",
        "--device=cpu",
        "--epochs=4",
    )
    env = os.environ | {devices.THREADS: str(devices.cores())}
    return runs.middle(
        [
            runs.train(config, *job, env=env).record["us_per_step"]
            for _ in range(min(config.rounds, 3))
        ]
    )


def measure(config: Config) -> None:
    """Measures every variant on random images: a step's time does not depend on what they show."""
    devices.choose("cpu", tf32=False, one_thread=True)
    runs.publish(
        "variants",
        config,
        [*step_table(config.rounds), "", *cores_table(config)],
        "docs/performance.md",
    )


if __name__ == "__main__":
    runs.main(Config, measure, __doc__)
