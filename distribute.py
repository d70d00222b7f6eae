"""Training on several devices or machines, on tf.distribute: the same steps, each replica with its share of a batch."""

import contextlib
import dataclasses
import faulthandler
import functools
import os
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import devices
import flags
from cluster import Cluster
from errors import InputError, RunError

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    import model
    from train import Trainer


def settled(config: flags.Config) -> flags.Config:
    """Returns the flags as this process must take them; raises InputError if they do not go together.

    A strategy runs steps in a graph: TensorFlow's XLA cannot hold the exchange between CPUs. Only the chief writes.
    """
    if config.strategy == "none":
        if config.replicas:
            raise InputError(f"--replicas={config.replicas}: needs --strategy=mirrored")
        return config
    if config.strategy == "multi_worker":
        if config.replicas:
            raise InputError(
                f"--replicas={config.replicas}: a worker takes all its GPUs or its CPU; start more workers"
            )
        if Cluster.from_environment().index:
            config = dataclasses.replace(config, record=None)
    return dataclasses.replace(config, mode="graph")


class OneDevice:
    """Training on one device: what the others are measured by."""

    is_chief = True
    device_names: tuple[str, ...] = ()  # the names of those of this process; none: whatever --device says
    compile_threads = devices.cores()

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which the model is made."""
        return contextlib.nullcontext()

    def barrier(self) -> None:
        """Waits until the devices have done their work."""
        import tensorflow as tf

        tf.test.experimental.sync_devices()

    def block_runner(self, network: "model.SoftmaxRegression", mode: str, mean: bool) -> "model.RunBlock":
        """Returns what takes one SGD step on each batch of a block."""
        import model

        return model.block_runner(network, mode, mean)

    def follow_chief(self, trainer: "Trainer") -> None:
        """Lets the trainers of all workers start where the chief's observers have put its own."""


class Replicas(OneDevice):
    """Training on the replicas of a strategy. Replica r takes rows [r n / R, (r + 1) n / R) of a batch of n."""

    compile_threads = 1  # workers meet in the same order of programs

    def __init__(self, strategy: "tf.distribute.Strategy", timeout: int = 0, cluster: Cluster | None = None):
        self.strategy, self.timeout, self.cluster = strategy, timeout, cluster
        self.count, self.device_names = strategy.num_replicas_in_sync, strategy.extended.worker_devices
        self.first = cluster.index * len(self.device_names) if cluster else 0
        self.is_chief = self.first == 0

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Makes variables that are kept equal on all replicas; what replicas assign is summed."""
        import tensorflow as tf

        def summed(make: object, **options: object) -> "tf.Variable":
            return make(**options | {"aggregation": tf.VariableAggregation.SUM})

        with self.strategy.scope(), tf.variable_creator_scope(summed):
            yield

    def barrier(self) -> None:
        """Waits for nothing where TensorFlow would ask other machines: each block ends with reading its losses."""
        if not self.cluster:
            super().barrier()

    def block_runner(self, network: "model.SoftmaxRegression", mode: str, mean: bool) -> "model.RunBlock":
        """Returns what takes one SGD step on each batch of a block, every replica on its share."""
        import tensorflow as tf

        @functools.cache
        def loop(batch: int) -> "tf.types.experimental.GenericFunction":
            features, shares = network.W_transposed.shape[1], []
            for rows in self._rows(batch):  # the number of steps is left open: traced once, whatever the block
                size = rows.stop - rows.start
                images = tf.TensorSpec([None, size, features], tf.uint8)
                shares.append((images, tf.TensorSpec([None, size], tf.int32)))
            steps = functools.partial(self._steps, network, batch if mean else 1)
            return tf.function(steps, autograph=False, input_signature=(shares, tf.TensorSpec([], tf.float32)))

        def run(images: "tf.Tensor", labels: "tf.Tensor", learning_rate: "tf.Tensor") -> "tf.Tensor":
            batch, shares = images.shape[1], []
            for device, rows in zip(self.device_names, self._rows(batch), strict=True):
                with tf.device(device):
                    shares.append((tf.identity(images[:, rows]), tf.identity(labels[:, rows])))
            with meeting(self.timeout, self.cluster):
                losses = loop(batch)(shares, learning_rate)
                losses.numpy()  # a worker that is lost is noticed here
            return losses

        return run

    def _rows(self, batch: int) -> list[slice]:
        """Returns the rows of a batch that each replica of this worker takes."""
        ranks = range(self.first, self.first + len(self.device_names))
        return [slice(batch * rank // self.count, batch * (rank + 1) // self.count) for rank in ranks]

    def follow_chief(self, trainer: "Trainer") -> None:
        """Lets the trainers of all workers start where the chief's observers have put its own."""
        import numpy as np

        if not self.cluster:
            return
        at, accuracy = trainer.accuracies[-1] if trainer.accuracies else (0, 0.0)
        figures = self._from_chief(np.array([trainer.step, trainer.examples, at, accuracy])).numpy()
        for variable in (trainer.model.W_transposed, trainer.model.b):
            variable.assign(self._from_chief(variable.numpy()))
        if not self.is_chief:
            trainer.step, trainer.examples, at = map(int, figures[:3])
            trainer.accuracies = [[at, float(figures[3])]] if at else []

    def _from_chief(self, value: "np.ndarray") -> "tf.Tensor":
        """Returns, on every worker, the `value` that the chief gives; those of the others only have its shape."""
        import tensorflow as tf

        mine = tf.convert_to_tensor(value)

        @tf.function(autograph=False)
        def summed() -> tf.Tensor:
            shared = self.strategy.run(lambda: mine if self.is_chief and self._local() == 0 else tf.zeros_like(mine))
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, shared, axis=None)

        with meeting(self.timeout, self.cluster):
            return tf.constant(summed().numpy())  # a worker that is lost is noticed here

    def _local(self) -> int:
        """Returns the place among this worker's replicas of the one that runs."""
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        return int(tf.get_static_value(context.replica_id_in_sync_group)) - self.first

    def _steps(
        self, network: "model.SoftmaxRegression", divisor: int, shares: list, learning_rate: "tf.Tensor"
    ) -> "tf.Tensor":  # losses [steps], of all replicas
        import tensorflow as tf

        import model

        def share(i: "tf.Tensor") -> "tf.Tensor":
            images, labels = shares[self._local()]
            return model.sgd_step(network, images[i], labels[i], learning_rate, divisor)

        def step(i: "tf.Tensor") -> "tf.Tensor":
            return tf.add_n(self.strategy.experimental_local_results(self.strategy.run(share, (i,))))

        # This worker's losses; summed over workers once a block, not once a step.
        here = model.stacked(step, tf.shape(shares[0][1])[0])
        shared = self.strategy.run(lambda: here if self._local() == 0 else tf.zeros_like(here))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, shared, axis=None)


@contextlib.contextmanager
def meeting(timeout: int, cluster: Cluster | None) -> Iterator[None]:
    """Ends the process with one line if the workers do not get through the `with` block together within `timeout`."""
    import tensorflow as tf

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
    import tensorflow as tf

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
    import tensorflow as tf

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
