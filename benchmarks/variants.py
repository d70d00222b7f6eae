"""What was tried to make a step faster, each measured against the step as it is, in one run.

python -m benchmarks.variants --rounds=20 --write
"""

import dataclasses
import sys
import time
from collections.abc import Callable

from benchmarks import runs
from common import flagging
from common.errors import exit_with_one_line
from runtime import devices

with devices.quiet():
    import numpy as np
    import tensorflow as tf

    import data
    import model

STEPS, BATCH = 2_000, 10
SOME = data.GATHERED // BATCH
Step = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # images, labels -> loss
Gather = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]  # row numbers -> images, labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of the benchmark."""

    rounds: int = flagging.flag(20, flagging.COUNT, "Times each variant is measured, all in turn.")
    data_dir: str | None = flagging.flag(None, flagging.TEXT, "Prepared datasets; default: tfds's own.")
    write: bool = flagging.flag(False, flagging.SWITCH, "Write the table into docs/performance.md.")


class BatchMajor(model.SoftmaxRegression):
    """Logits computed as x @ transpose(stored) + b, rows of 10."""

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        return tf.matmul(x, self.W_transposed, transpose_b=True) + self.b


class Untransposed(model.SoftmaxRegression):
    """W stored [features, classes]."""

    def __init__(self, num_features: int, num_classes: int):
        super().__init__(num_features, num_classes)
        self.W_transposed = tf.Variable(tf.zeros([num_features, num_classes]))

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        return x @ self.W_transposed + self.b


def log_softmax_loss(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The summed cross-entropy from the logarithm of the softmax."""
    log_probabilities = tf.nn.log_softmax(tf.transpose(logits), axis=0)
    return -tf.reduce_sum(tf.one_hot(labels, log_probabilities.shape[0], axis=0) * log_probabilities)


def loss_by_rows_of_classes(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The summed cross-entropy as model.cross_entropy computes it, but along rows of 10 classes."""
    y = tf.one_hot(labels, logits.shape[1])
    return tf.reduce_sum(tf.reduce_logsumexp(logits, axis=1) - tf.reduce_sum(y * logits, axis=1))


def library_loss(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The summed cross-entropy as TensorFlow's own fused operation computes it."""
    return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def tape_step(made: tf.Module, loss_of: Callable[..., tf.Tensor] = model.cross_entropy) -> Step:
    """Returns the step with another model or loss, as model.sgd_step writes it."""

    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(made.logits(model.scale(images)), labels)
        variables = (made.W_transposed, made.b)
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(0.01 * gradient)
        return loss

    return step


def by_hand(made: model.SoftmaxRegression) -> Step:
    """Returns the step with the gradient softmax - one_hot written out, and no loss computed."""

    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        x = model.scale(images)
        scores = tf.matmul(made.W_transposed, x, transpose_b=True) + made.b[:, tf.newaxis]
        error = 0.01 * (tf.nn.softmax(scores, axis=0) - tf.one_hot(labels, 10, axis=0))
        made.W_transposed.assign_sub(error @ x)
        made.b.assign_sub(tf.reduce_sum(error, axis=1))
        return tf.constant(0.0)

    return step


def program(step: Step, gather: Gather, some: int = SOME, a_round: int = 2) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the block's XLA program over `step`: `some` steps' batches gathered at a time, `a_round` in a round."""

    def run(order: tf.Tensor) -> tf.Tensor:
        def take_some(i: tf.Tensor) -> tf.Tensor:
            images, labels = gather(tf.gather(order, i * some + tf.range(some)))
            return model.stacked(lambda j: step(images[j], labels[j]), some, a_round)

        return tf.reshape(model.stacked(take_some, STEPS // some), [STEPS])

    return run


def variants(images: tf.Tensor, labels: tf.Tensor, order: tf.Tensor) -> dict[str, Callable[[], tf.Tensor]]:
    """Returns each variant as a compiled call that takes STEPS steps on the rows of `order` [STEPS, BATCH]."""

    def new(kind: type[model.SoftmaxRegression] = model.SoftmaxRegression) -> model.SoftmaxRegression:
        return kind(784, 10)

    def rows(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.gather(images, indices), tf.gather(labels, indices)

    floats = model.scale(images)

    def float_rows(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.gather(floats, indices), tf.gather(labels, indices)

    programs = {
        "as it is": program(tape_step(new()), rows),
        "one step a round of the loop": program(tape_step(new()), rows, a_round=1),
        "the rows of the whole block gathered at once": program(tape_step(new()), rows, some=STEPS),
        "ten rows gathered for each step": program(tape_step(new()), rows, some=1, a_round=1),
        "the logarithm of the softmax": program(tape_step(new(), log_softmax_loss), rows),
        "the loss along rows of 10 classes": program(tape_step(new(BatchMajor), loss_by_rows_of_classes), rows),
        "TensorFlow's own sparse cross-entropy": program(tape_step(new(BatchMajor), library_loss), rows),
        "W stored [features, classes]": program(tape_step(new(Untransposed), library_loss), rows),
        "images kept as float32": program(tape_step(new()), float_rows),
        "the gradient by hand, no loss": program(by_hand(new()), rows),
    }
    compiled = {name: model.compiled(run, order) for name, run in programs.items()}
    return {name: lambda run=run: run(order) for name, run in compiled.items()}


def measure(calls: dict[str, Callable[[], tf.Tensor]], rounds: int) -> dict[str, list[float]]:
    """Returns us/step of each call, all taken in turn in each round, after one round of warm-up."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call().numpy()
            if round_number:
                samples[name].append((time.perf_counter() - start) / STEPS * 1e6)
    return samples


def main() -> None:
    """Measures every variant on random images; a step's time does not depend on what they show."""
    config = flagging.parse(Config, sys.argv, __doc__)
    devices.choose("cpu", tf32=False, batch_size=BATCH)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(256, size=(55_000, 784), dtype=np.uint8))
    labels = tf.constant(rng.integers(10, size=55_000).astype(np.int32))
    order = tf.constant(data.epoch_order(55_000, 0, 0)[: STEPS * BATCH].reshape(STEPS, BATCH))
    samples = measure(variants(images, labels, order), config.rounds)
    lines = ["| the step | us | over the step as it is |", "|---|---|---|"]
    for name, values in samples.items():
        ratios = np.divide(values, samples["as it is"]).tolist()
        lines.append(f"| {name} | {runs.middle(values)} | {runs.middle(ratios, 2)} |")
    where = runs.where(config.data_dir)
    lines += ["", runs.conditions(runs.together([*where, "--max_steps=1"]), config.rounds)]
    runs.publish("variants", lines, ("docs/performance.md",) if config.write else ())


if __name__ == "__main__":
    exit_with_one_line(main)
