"""Training on several devices or machines, on tf.distribute: the same steps, each replica with its share of a batch."""

import contextlib
import faulthandler
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

import data
import flags
import model
from common.errors import InputError, RunError
from runtime import devices, modes
from runtime.cluster import Cluster
from runtime.state import State


class OneDevice:
    """Training on one device: what the others are measured by."""

    is_chief = True
    device_names: tuple[str, ...] = ()  # the names of those of this process; none: whatever --device says

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which the model is made."""
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

    def __init__(self, strategy: tf.distribute.Strategy, timeout: int = 0, cluster: Cluster | None = None):
        self.strategy, self.timeout, self.cluster = strategy, timeout, cluster
        self.count, self.device_names = strategy.num_replicas_in_sync, strategy.extended.worker_devices
        self.first = cluster.index * len(self.device_names) if cluster else 0
        self.is_chief = self.first == 0

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Makes variables that are kept equal on all replicas; what replicas assign is summed."""

        def summed(make: Callable[..., tf.Variable], **options: object) -> tf.Variable:
            return make(**options | {"aggregation": tf.VariableAggregation.SUM})

        with self.strategy.scope(), tf.variable_creator_scope(summed):
            yield

    def barrier(self) -> None:
        """Waits for nothing where TensorFlow would ask other machines: each block ends with reading its losses."""
        if not self.cluster:
            super().barrier()

    def taker(self, net: model.SoftmaxRegression, config: flags.Config) -> modes.Take:
        """Returns what takes the steps of a block, every replica on its share of each batch."""

        @functools.cache
        def program(batch_size: int) -> Callable[..., tf.Tensor]:
            divisor = batch_size if config.loss_reduction == "mean" else 1
            return tf.function(functools.partial(self._steps, net, batch_size, divisor), autograph=False)

        def take(block: data.Block, learning_rate: float) -> np.ndarray:
            *rows, first, steps, batch_size, _ = block
            with meeting(self.timeout, self.cluster):  # reading the losses notices a worker that is lost
                return program(batch_size)(*rows, *map(tf.constant, (first, steps, learning_rate))).numpy()

        return take

    def _steps(
        self,
        net: model.SoftmaxRegression,
        batch_size: int,
        divisor: int,
        images: tf.Tensor,
        labels: tf.Tensor,
        order: tf.Tensor,
        first: tf.Tensor,
        steps: tf.Tensor,
        learning_rate: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the losses [steps] of all replicas together."""

        def share(i: tf.Tensor) -> tf.Tensor:
            rank = self.first + self._local()
            start, stop = (batch_size * each // self.count for each in (rank, rank + 1))
            with tf.device("CPU"):  # no GPU gathers uint8 outside XLA
                rows = tf.gather(order, first + i * batch_size + tf.range(start, stop))
                batch = tf.gather(images, rows), tf.gather(labels, rows)
            return model.sgd_step(net, *batch, learning_rate, divisor)

        def step(i: tf.Tensor, losses: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            of_replicas = self.strategy.experimental_local_results(self.strategy.run(share, (i,)))
            return i + 1, losses.write(i, tf.add_n(of_replicas))

        _, losses = tf.while_loop(lambda i, _: i < steps, step, (0, tf.TensorArray(tf.float32, steps)))
        here = losses.stack()  # this worker's; summed over workers once a block, not once a step
        shared = self.strategy.run(lambda: here if self._local() == 0 else tf.zeros_like(here))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, shared, axis=None)

    def follow_chief(self, state: State) -> None:
        """Lets the runs of all workers start where the chief's observers have put its own."""
        if not self.cluster:
            return
        at, accuracy = state.accuracies[-1] if state.accuracies else (0, 0.0)
        figures = self._from_chief(np.array([state.step, state.examples, at, accuracy])).numpy()
        for variable in (state.model.W_transposed, state.model.b):
            variable.assign(self._from_chief(variable.numpy()))
        if not self.is_chief:
            state.step, state.examples, at = map(int, figures[:3])
            state.accuracies = [[at, float(figures[3])]] if at else []

    def _from_chief(self, value: np.ndarray) -> tf.Tensor:
        """Returns, on every worker, the `value` that the chief gives; those of the others only have its shape."""
        mine = tf.convert_to_tensor(value)

        @tf.function(autograph=False)
        def summed() -> tf.Tensor:
            shared = self.strategy.run(lambda: mine if self.is_chief and self._local() == 0 else tf.zeros_like(mine))
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, shared, axis=None)

        with meeting(self.timeout, self.cluster):
            return tf.constant(summed().numpy())  # a worker that is lost is noticed here

    def _local(self) -> int:
        """Returns the place among this worker's replicas of the one that runs."""
        context = tf.distribute.get_replica_context()
        return int(tf.get_static_value(context.replica_id_in_sync_group)) - self.first


@contextlib.contextmanager
def meeting(timeout: int, cluster: Cluster | None) -> Iterator[None]:
    """Ends the process with one line if the workers do not get through the `with` block together within `timeout`."""
    if not cluster:
        yield
        return

    def give_up() -> None:  # nothing else ends a thread that waits inside TensorFlow
        silent = ", ".join(cluster.silent()) or "nobody, but one does not go on"
        print(f"error: --timeout={timeout}: waited {timeout} s for other workers; silent: {silent}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(RunError.exit_code)

    timer = threading.Timer(timeout, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except tf.errors.OpError as error:
        silent = ", ".join(cluster.silent()) or "none by now"
        raise RunError(
            f"--strategy=multi_worker: lost a worker ({type(error).__name__}); silent: {silent}. Start all again"
        ) from None
    finally:
        timer.cancel()


def start(config: flags.Config) -> OneDevice:
    """Returns what trains, by --strategy; call it before TensorFlow has touched a device.

    Raises InputError if a batch is smaller than the number of replicas, or there are fewer devices than --replicas.
    """
    if config.strategy == "none":
        return OneDevice()
    replicas = _mirrored(config) if config.strategy == "mirrored" else _multi_worker(config)
    if config.batch_size < replicas.count:
        raise InputError(
            f"--batch_size={config.batch_size}: {replicas.count} replicas cannot share it; at least one each"
        )
    return replicas


def _mirrored(config: flags.Config) -> Replicas:
    gpus = devices.gpus(config.device)
    if gpus and config.replicas > len(gpus):
        raise InputError(f"--replicas={config.replicas}: there are {len(gpus)} GPUs; or use --device=cpu")
    if not gpus:
        parts = [tf.config.LogicalDeviceConfiguration()] * (config.replicas or 1)
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    kind = "GPU" if gpus else "CPU"
    names = [device.name for device in tf.config.list_logical_devices(kind)]
    return Replicas(tf.distribute.MirroredStrategy(names[: config.replicas or None]))


def _multi_worker(config: flags.Config) -> Replicas:
    if not devices.gpus(config.device):
        tf.config.set_visible_devices([], "GPU")
    cluster = Cluster.from_environment()
    _wait_no_longer_than(config.timeout, cluster)
    cluster.gather(config.timeout)
    # TensorFlow's leader stops Python while it waits for a worker that died since: only faulthandler gets through.
    faulthandler.dump_traceback_later(config.timeout, exit=True)
    with meeting(config.timeout, cluster):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    faulthandler.cancel_dump_traceback_later()
    return Replicas(strategy, config.timeout, cluster)


def _wait_no_longer_than(timeout: int, cluster: Cluster) -> None:
    """Sets how long TensorFlow waits for other workers: an hour by default, and deaf to signals while it does."""
    from tensorflow.python.eager import context

    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{next(iter(cluster.jobs))}/replica:0/task:0",
        cluster_register_timeout_in_ms=timeout * 1000,
        heartbeat_timeout_in_ms=timeout * 1000,
        shutdown_barrier_timeout_in_ms=timeout * 1000,
        coordinated_jobs=[
            context.coordination_config_pb2.CoordinatedJob(name=name, num_tasks=count)
            for name, count in cluster.jobs.items()
        ],
    )
