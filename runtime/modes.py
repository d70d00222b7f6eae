"""The ways to take the steps of a block: from the pipeline, in one XLA program, or in one for each core."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

import data
import flags
import model
from runtime import devices, plan

SHARED_BATCH = 500  # from here on, all cores share the rows of a batch: docs/performance.md
AHEAD = 10  # batches on their way to a GPU
PIECE = 125  # rows whose gradients are taken at a time; their floats stay in a core's cache


class Take(Protocol):
    """Takes the steps of a block at a learning rate, and returns their losses [steps] float32."""

    def __call__(self, block: data.Block, learning_rate: float) -> np.ndarray: ...


def taker(net: model.SoftmaxRegression, config: flags.Config) -> Take:
    """Returns what takes steps on one device, by --mode and by the size of a batch."""
    mean = config.loss_reduction == "mean"
    if config.mode in ("eager", "graph"):
        return FromPipeline(net, mean, eager=config.mode == "eager")
    if "CPU" in net.b.device and config.batch_size >= SHARED_BATCH:
        return OnAllCores(net, mean, devices.cores())
    return InXla(net, mean)


def one_thread(config: flags.Config) -> bool:
    """Says whether an operation is best left to one core of a CPU: sharing out a small one costs more than it saves."""
    return config.mode not in ("eager", "graph") or config.batch_size < SHARED_BATCH


def warm(take: Take, block: data.Block, lengths: Iterable[int]) -> None:
    """Compiles and calls all that blocks like `block` of these lengths need; a learning rate of 0 moves no weight."""
    for steps in sorted(lengths) if getattr(take, "known", False) else [1]:
        take(block._replace(first=0, steps=steps), 0.0)


class FromPipeline:
    """Modes eager and graph: a step on each batch that the pipeline hands out."""

    def __init__(self, net: model.SoftmaxRegression, mean: bool, eager: bool):
        self.net, self.mean, self.eager = net, mean, eager
        self.train_steps = tf.function(model.train_steps, autograph=False)
        self.next: tuple[int, ...] = ()

    def __call__(self, block: data.Block, learning_rate: float) -> np.ndarray:
        if self.next != (id(block.order), block.first, block.batch_size):
            rows = block.order[block.first :]
            batches = data.batches(block.images, block.labels, rows, block.batch_size)
            if "GPU" in self.net.b.device:
                batches = batches.apply(
                    tf.data.experimental.prefetch_to_device(self.net.b.device, AHEAD)
                )
            self.batches = iter(batches)
        self.next = id(block.order), block.first + block.steps * block.batch_size, block.batch_size
        if self.eager:
            divisor, some = (
                block.batch_size if self.mean else 1,
                itertools.islice(self.batches, block.steps),
            )
            return np.array(
                [model.sgd_step(self.net, x, y, learning_rate, divisor) for x, y in some]
            )
        steps = tf.constant(block.steps)
        return self.train_steps(
            self.net, self.batches, steps, tf.constant(learning_rate), self.mean
        ).numpy()


class InXla:
    """Mode xla: one program for any number of steps; on a GPU, where XLA must know it, one for each number."""

    def __init__(self, net: model.SoftmaxRegression, mean: bool):
        self.net, self.mean = net, mean
        self.known = "GPU" in net.b.device
        self.programs: dict[tuple[int, int], Callable[..., tf.Tensor]] = {}

    def __call__(self, block: data.Block, learning_rate: float) -> np.ndarray:
        inputs = [
            block.images,
            block.labels,
            block.order,
            tf.constant(block.first),
            tf.constant(learning_rate),
        ]
        if not self.known:
            inputs.append(tf.constant(block.steps))
        key = block.batch_size, block.steps if self.known else 0
        if key not in self.programs:
            self.programs[key] = self._program(block, inputs)
        return self.programs[key](*inputs).numpy()[: block.steps]

    def _program(self, block: data.Block, inputs: Sequence[tf.Tensor]) -> Callable[..., tf.Tensor]:
        net = self.net if self.known or block.batch_size > 1 else OneRow(self.net)

        def take(images, labels, order, first, learning_rate, steps=block.steps):
            job = images, labels, order, first, steps, learning_rate
            return model.take_steps(net, *job, block.batch_size, self.mean, plan.MOST_STEPS)

        # Without AutoGraph: converting the loop takes longer than compiling it. A concrete function checks nothing.
        return tf.function(take, autograph=False, jit_compile=True).get_concrete_function(*inputs)


class OneRow(model.SoftmaxRegression):
    """The same weights for batches of one image on a CPU, whose product with W XLA would turn around at each step."""

    def __init__(self, net: model.SoftmaxRegression):
        tf.Module.__init__(self)
        self.W_transposed, self.b = net.W_transposed, net.b

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        return tf.transpose(model.logits_by_class(self, x))


class OnAllCores:
    """Mode xla with large batches on a CPU: each core sums the gradients of its share in an XLA program of its own."""

    def __init__(self, net: model.SoftmaxRegression, mean: bool, cores: int):
        self.net, self.mean, self.cores = net, mean, cores
        self.programs: dict[int, Callable[..., tf.Tensor]] = {}

    def __call__(self, block: data.Block, learning_rate: float) -> np.ndarray:
        first, steps, rate = map(tf.constant, (block.first, block.steps, learning_rate))
        inputs = (block.images, block.labels, block.order, first, steps, rate)
        if block.batch_size not in self.programs:
            self.programs[block.batch_size] = self._program(block.batch_size, inputs)
        return self.programs[block.batch_size](*inputs).numpy()

    def _program(self, batch_size: int, inputs: Sequence[tf.Tensor]) -> Callable[..., tf.Tensor]:
        # a share has a row at least
        cuts = sorted({batch_size * core // self.cores for core in range(self.cores + 1)})
        divisor = batch_size if self.mean else 1

        @tf.function(autograph=False, jit_compile=True)
        def share(*rows: tf.Tensor, count: int) -> list[tf.Tensor]:
            return sum_of_gradients(self.net, rows, count, divisor)

        def take(images, labels, order, first, steps, learning_rate):
            def step(i: tf.Tensor, losses: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
                at = first + i * batch_size
                shares = [
                    share(images, labels, order, at + start, count=stop - start)
                    for start, stop in itertools.pairwise(cuts)
                ]
                loss, *gradients = map(tf.add_n, zip(*shares, strict=True))
                model.descend(self.net, gradients, learning_rate)
                return i + 1, losses.write(i, loss)

            _, losses = tf.while_loop(
                lambda i, _: i < steps, step, (0, tf.TensorArray(tf.float32, steps))
            )
            return losses.stack()

        return tf.function(take, autograph=False).get_concrete_function(*inputs)


def sum_of_gradients(
    net: model.SoftmaxRegression, rows: Sequence[tf.Tensor], count: int, divisor: int
) -> list[tf.Tensor]:
    """Returns loss and gradients of `count` rows (images, labels, order, first), summed over PIECE at a time."""

    def add(
        i: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, sums: list[tf.Tensor]
    ) -> list[tf.Tensor]:
        parts = model.loss_and_gradients(net, images, labels, divisor)
        return [total + part for total, part in zip(sums, parts, strict=True)]

    images, labels, order, first = rows
    pieces = count // PIECE if count >= 2 * PIECE else 0  # two at least are gathered
    sums = [tf.zeros([]), tf.zeros_like(net.W_transposed), tf.zeros_like(net.b)]
    if pieces:
        sums = model.over_batches(add, sums, rows, tf.constant(pieces), PIECE)
    if rest := count - pieces * PIECE:
        indices = tf.gather(order, first + pieces * PIECE + tf.range(rest))
        sums = add(pieces, tf.gather(images, indices), tf.gather(labels, indices), sums)
    return sums
