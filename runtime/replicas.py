"""The replicas of a tf.distribute strategy: the same steps, each replica with its share of a batch."""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

import data
import flags
import model
from runtime import modes
from runtime.state import State


class OneDevice:
    """Training on one device: what the others are measured by."""

    is_chief = True
    count = 1  # replicas
    # the names of those of this process; none: whatever --device says
    device_names: tuple[str, ...] = ()

    def scope(self, dataset: data.Dataset) -> contextlib.AbstractContextManager:
        """Returns the context in which the model for a dataset is made."""
        return contextlib.nullcontext()

    def barrier(self) -> None:
        """Waits until the devices have done their work."""
        tf.test.experimental.sync_devices()

    def taker(self, net: model.SoftmaxRegression, config: flags.Config) -> modes.Take:
        """Returns what takes the steps of a block."""
        return modes.taker(net, config)

    def follow_chief(self, state: State) -> None:
        """Lets the runs of all workers start where the chief's observers have put its own."""


class Replicas(OneDevice):
    """Training on the replicas of a strategy. Replica r takes rows [r n / R, (r + 1) n / R) of a batch of n."""

    first = 0  # the rank of the first replica of this process

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy, self.count = strategy, strategy.num_replicas_in_sync
        self.device_names = strategy.extended.worker_devices

    @contextlib.contextmanager
    def scope(self, dataset: data.Dataset) -> Iterator[None]:
        """Makes variables that are kept equal on all replicas; what replicas assign is summed."""

        def summed(make: Callable[..., tf.Variable], **options: object) -> tf.Variable:
            return make(**options | {"aggregation": tf.VariableAggregation.SUM})

        with self.strategy.scope(), tf.variable_creator_scope(summed):
            yield

    def taker(self, net: model.SoftmaxRegression, config: flags.Config) -> modes.Take:
        """Returns what takes the steps of a block, every replica on its share of each batch: in mode xla or graph."""
        compiled = config.mode == "xla"

        @functools.cache
        def program(batch_size: int, steps: int) -> Callable[..., tf.Tensor]:
            divisor = batch_size if config.loss_reduction == "mean" else 1
            if not compiled:
                return tf.function(
                    functools.partial(self._steps, net, batch_size, divisor), autograph=False
                )
            one = functools.partial(self._steps_of_one, net, batch_size, divisor, steps)
            return self._on_all(tf.function(one, autograph=False, jit_compile=True))

        def take(block: data.Block, learning_rate: float) -> np.ndarray:
            *inputs, first, steps, batch_size, _ = block
            inputs += [tf.constant(first), tf.constant(learning_rate)]
            if compiled:  # a GPU's program must know the number of its steps
                return program(batch_size, steps)(*inputs).numpy()
            return program(batch_size, 0)(*inputs, tf.constant(steps)).numpy()

        take.known = compiled  # type: ignore[attr-defined] # whether there is a program for each number of steps
        return take

    def _on_all(self, one: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
        """Returns what runs `one` on all replicas, at once as in any graph, and returns the result of the first."""
        return tf.function(
            lambda *inputs: self.strategy.experimental_local_results(
                self.strategy.run(one, inputs)
            )[0],
            autograph=False,
        )

    def _share(self, batch_size: int) -> tuple[int, int]:
        """Returns where the rows begin and end that the replica that runs takes of a batch."""
        rank = self.first + self._local()
        return batch_size * rank // self.count, batch_size * (rank + 1) // self.count

    def _steps(
        self,
        net: model.SoftmaxRegression,
        batch_size: int,
        divisor: int,
        images: tf.Tensor,
        labels: tf.Tensor,
        order: tf.Tensor,
        first: tf.Tensor,
        learning_rate: tf.Tensor,
        steps: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the losses [steps] of all replicas together."""

        def share(i: tf.Tensor) -> tf.Tensor:
            with tf.device("CPU"):  # no GPU gathers uint8 outside XLA
                rows = tf.gather(order, first + i * batch_size + tf.range(*self._share(batch_size)))
                batch = tf.gather(images, rows), tf.gather(labels, rows)
            return model.sgd_step(net, *batch, learning_rate, divisor)

        def step(i: tf.Tensor, losses: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            of_replicas = self.strategy.experimental_local_results(self.strategy.run(share, (i,)))
            return i + 1, losses.write(i, tf.add_n(of_replicas))

        _, losses = tf.while_loop(
            lambda i, _: i < steps, step, (0, tf.TensorArray(tf.float32, steps))
        )
        return self._summed(losses.stack())  # over workers once a block, not once a step

    def _steps_of_one(
        self,
        net: model.SoftmaxRegression,
        batch_size: int,
        divisor: int,
        steps: int,
        *inputs: tf.Tensor,
    ) -> tf.Tensor:
        """Takes the steps of the replica that runs, on a GPU as one XLA program; returns the losses [steps] of all.

        Loss and gradients go through one all-reduce a step. No GPU has run this yet: it is unmeasured.
        """
        images, labels, order, first, learning_rate = inputs
        here, (start, stop) = copy.copy(net), self._share(batch_size)
        here.W_transposed, here.b = (
            self.strategy.experimental_local_results(variable)[self._local()]
            for variable in (net.W_transposed, net.b)
        )

        def take(
            i: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, losses: tf.TensorArray
        ) -> tf.TensorArray:
            parts = model.loss_and_gradients(here, images[start:stop], labels[start:stop], divisor)
            joined = tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)
            summed = tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, joined
            )
            cut = tf.split(summed, [part.shape.num_elements() for part in parts])
            loss, *gradients = (
                tf.reshape(piece, part.shape) for piece, part in zip(cut, parts, strict=True)
            )
            model.descend(here, gradients, learning_rate)
            return losses.write(i, loss)

        losses = tf.TensorArray(tf.float32, steps)
        return model.over_batches(
            take, losses, (images, labels, order, first), steps, batch_size
        ).stack()

    def _summed(self, mine: tf.Tensor) -> tf.Tensor:
        """Returns the sum of what each worker has, in a graph."""
        shared = self.strategy.run(lambda: mine if self._local() == 0 else tf.zeros_like(mine))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, shared, axis=None)

    def _local(self) -> int:
        """Returns the place among this worker's replicas of the one that runs."""
        context = tf.distribute.get_replica_context()
        return int(tf.get_static_value(context.replica_id_in_sync_group)) - self.first
