"""Training by --strategy: on one device, or on replicas on several devices or machines."""

import contextlib
import functools
import os
import threading
import time
import zlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

import data
import flags
import model
from common.errors import InputError, RunError
from runtime import modes, signals
from runtime.cluster import Cluster
from runtime.state import State


class OneDevice:
    """Training on one device. The other strategies must give the same results."""

    is_chief = True
    count = 1  # replicas

    def barrier(self) -> None:
        """Waits until the devices have done their work."""
        tf.test.experimental.sync_devices()

    def mode(
        self, net: model.SoftmaxRegression, config: flags.Config, split: data.Split
    ) -> modes.Mode:
        """Returns the mode, which takes the steps of a block."""
        return modes.choose(net, config, split)

    def follow_chief(self, state: State) -> None:
        """Compares all workers, and starts their runs at the step that the chief resumes from."""


class Replicas(OneDevice):
    """Training on R replicas: replica r has rows [r n / R, (r + 1) n / R) of a batch of n."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.strategy = strategy
        self.count = strategy.num_replicas_in_sync

    def mode(
        self, net: model.SoftmaxRegression, config: flags.Config, split: data.Split
    ) -> modes.Mode:
        """Returns mode graph, in which every replica trains on its share of each batch."""
        with self.strategy.scope():  # the variables of the mode are equal on all replicas
            return modes.FromPipeline(net, config, self._sgd_step)

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
            rank = context.replica_id_in_sync_group
            size = tf.size(labels)
            rows = slice(size * rank // self.count, size * (rank + 1) // self.count)
            with tf.device("CPU"):  # where the batch is
                batch = images[rows], labels[rows]
            loss, gradients = model.loss_and_gradients(net, *batch, config, batch_size=size)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, [loss, *gradients])

        results = self.strategy.run(share)
        loss, *gradients = (self.strategy.experimental_local_results(sums)[0] for sums in results)
        model.update(net, gradients, config)
        return loss


class Workers(Replicas):
    """Training on the replicas of several workers. This process is one of them."""

    def __init__(self, strategy: tf.distribute.Strategy, is_chief: bool) -> None:
        super().__init__(strategy)
        self.is_chief = is_chief
        self._gather = tf.function(functools.partial(strategy.gather, axis=0), autograph=False)

    def barrier(self) -> None:
        """Does nothing: a block reads its losses, and TensorFlow would ask other machines."""

    def compare(self, state: State) -> None:
        """Raises InputError on all workers, with the first difference, if flags or data differ."""
        about_data = {
            "--input streams": state.dataset.train.streamed,
            "data": state.dataset.checksum,
        }
        given = (vars(state.config) | about_data).items()
        values = [f"{name}={value}" for name, value in given if name not in flags.PLACES]
        rows = self.exchange([zlib.crc32(value.encode()) for value in values])
        for value, column in zip(values, rows.T, strict=True):
            if np.ptp(column):
                raise InputError(
                    f"{value}: another worker has another; all must have the same: start all again"
                )

    def follow_chief(self, state: State) -> None:
        """Compares all workers, and starts their runs at the step that the chief resumes from.

        From then on a signal to one worker stops all of them after the same block.
        """
        self.compare(state)
        newest = (state.evaluations or [[0.0] * 4])[-1]
        step, *newest = self.exchange([state.step, *newest])[0].tolist()
        state.step = int(step)
        if newest[0] and not self.is_chief:
            state.evaluations = [newest]
        for variable in state.model.variables:
            variable.assign(self.exchange(variable.numpy())[0])
        state.asked = lambda: int(self.exchange(signals.asked()).max())

    def exchange(self, value: np.typing.ArrayLike) -> np.ndarray:
        """Returns, on every worker, the `value` of each [workers, ...] as float64."""
        own = tf.constant([value], tf.float64)
        of_replicas = self.strategy.experimental_distribute_values_from_function(lambda _: own)
        # the replicas of a worker have the same value
        return self._gather(of_replicas).numpy()[:: len(self.strategy.extended.worker_devices)]


@contextlib.contextmanager
def meeting(cluster: Cluster, timeout: float) -> Iterator[None]:
    """Ends the process with one line if a worker is lost before the `with` block ends.

    A worker that answers at its port may be slow. All are asked twice in `timeout` seconds, and a
    worker is lost if it is silent both times.
    """
    over = threading.Event()

    def lost(silent: list[str]) -> str:
        return f"--timeout={timeout}: lost a worker; silent: {', '.join(silent)}. Start all again"

    def watch() -> None:  # only this ends a thread that waits inside TensorFlow
        silent: list[str] = []
        while not over.wait(timeout / 2):
            before, silent = silent, cluster.silent()
            gone = [address for address in silent if address in before]
            if gone and not over.is_set():
                signals.say(f"error: {lost(gone)}")
                os._exit(RunError.exit_code)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except tf.errors.OpError:
        if silent := cluster.silent():
            raise RunError(lost(silent)) from None
        raise  # it is about something else, such as memory
    finally:
        over.set()
        time.sleep(0.5)  # the last message to the others may still be on its way


def start(config: flags.Config, device: str, together: contextlib.ExitStack) -> OneDevice:
    """Returns the training of --strategy, on devices of the kind of `device`.

    The workers need one another until `together` is closed.
    Raises InputError if there are fewer devices than --replicas.
    """
    if config.strategy == "mirrored":
        return _mirrored(config, device[:3])
    return _workers(config, together) if config.strategy == "multi_worker" else OneDevice()


def _mirrored(config: flags.Config, kind: str) -> Replicas:
    """Returns replicas on the GPUs, or on the parts of a CPU."""
    if kind == "CPU" and config.replicas:
        parts = [tf.config.LogicalDeviceConfiguration()] * config.replicas
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    names = [device.name for device in tf.config.list_logical_devices(kind)]
    if len(names) < config.replicas:
        raise InputError(
            f"--replicas={config.replicas}: there are {len(names)} GPUs; "
            "use fewer replicas, or --device=cpu, which splits the CPU"
        )
    return Replicas(tf.distribute.MirroredStrategy(names[: config.replicas or None]))


def _workers(config: flags.Config, together: contextlib.ExitStack) -> Workers:
    """Returns this worker once all workers have started."""
    from tensorflow.python.eager import context

    cluster = Cluster.from_environment()
    cluster.prepare()
    # TensorFlow's coordination service blocks Python's threads and signals while it waits for a
    # worker. Without the service TensorFlow checks every 30 s whether a worker was restarted.
    context.context().configure_coordination_service(service_type="", service_leader="")
    tf.get_logger().setLevel("CRITICAL")  # it prints what it raises, and advice about `exchange`
    together.enter_context(meeting(cluster, config.timeout))
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    return Workers(strategy, is_chief=cluster.index == 0)
