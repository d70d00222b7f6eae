"""The replicas of a tf.distribute strategy: the same steps, each replica with its share of a batch."""

import contextlib
import functools

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

    def mode(
        self, net: model.SoftmaxRegression, config: flags.Config, split: data.Split
    ) -> modes.Mode:
        """Returns what takes the steps of a block."""
        return modes.choose(net, config, split)

    def follow_chief(self, state: State) -> None:
        """Lets the runs of all workers start where the chief's observers have put its own."""


class Replicas(OneDevice):
    """Training on the replicas of a strategy. Replica r takes rows [r n / R, (r + 1) n / R) of a batch of n."""

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy, self.count = strategy, strategy.num_replicas_in_sync
        self.device_names = strategy.extended.worker_devices

    def scope(self, dataset: data.Dataset) -> contextlib.AbstractContextManager:
        """Makes variables that are kept equal on all replicas."""
        return self.strategy.scope()

    def mode(
        self, net: model.SoftmaxRegression, config: flags.Config, split: data.Split
    ) -> modes.Mode:
        """Returns mode graph, in which every replica takes its share of each batch."""
        return modes.FromPipeline(functools.partial(self._sgd_step, net), config)

    def _sgd_step(
        self,
        net: model.SoftmaxRegression,
        images: tf.Tensor,
        labels: tf.Tensor,
        config: flags.Config,
    ) -> tf.Tensor:
        """Takes one step of all replicas together on a batch, and returns its loss."""

        def share() -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            rank, size = context.replica_id_in_sync_group, tf.size(labels)
            rows = slice(size * rank // self.count, size * (rank + 1) // self.count)
            with tf.device("CPU"):  # where the batch is
                some = images[rows], labels[rows]
            loss, gradients = model.loss_and_gradients(net, *some, config, batch_size=size)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, [loss, *gradients])

        sums = [self._here(values) for values in self.strategy.run(share)]
        model.update(net, sums[1:], config)
        return sums[0]

    def _here(self, values: tf.Tensor) -> tf.Tensor:
        """Returns what the first replica of this process has of `values`."""
        return self.strategy.experimental_local_results(values)[0]
