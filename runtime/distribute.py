"""Training by --strategy: on one device, or on replicas on several devices or machines."""

import contextlib
import os
import threading
import time
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

import flags
import model
from common.errors import InputError, RunError
from runtime import cluster, signals
from runtime.state import ONE_DEVICE, State


def sgd_step(
    strategy: tf.distribute.Strategy,
    net: model.SoftmaxRegression,
    images: tf.Tensor,
    labels: tf.Tensor,
    config: flags.Config,
) -> tf.Tensor:
    """Takes one step of all replicas together on a batch, and returns its loss.

    Replica r of R has rows [r n / R, (r + 1) n / R) of a batch of n.
    """

    def share() -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        context = tf.distribute.get_replica_context()
        rank, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
        size = tf.size(labels)
        rows = slice(size * rank // count, size * (rank + 1) // count)
        with tf.device("CPU"):  # where the batch is
            batch = images[rows], labels[rows]
        part = model.loss_and_gradients(net, *batch, config, batch_size=size)
        return context.all_reduce("SUM", part)

    loss, gradients = strategy.experimental_local_results(strategy.run(share))[0]
    model.update(net, gradients, config)
    return loss


def follow_chief(state: State) -> None:
    """Compares all workers, and starts their runs at the step that the chief resumes from.

    From then on a signal to one worker stops all of them after the same block.
    """
    compare(state)
    newest = (state.evaluations or [[0.0] * 4])[-1]
    step, *newest = exchange(state, [state.step, *newest])[0]
    state.step = int(step)
    if newest[0] and not state.strategy.extended.should_checkpoint:
        state.evaluations = [newest]
    for variable in state.model.variables:
        variable.assign(exchange(state, variable.numpy())[0])
    state.asked = lambda: int(exchange(state, signals.asked()).max())


def compare(state: State) -> None:
    """Raises InputError on all workers, with the first difference, if flags or data differ."""
    given = vars(state.config) | {
        "--input streams": state.dataset.train.streamed,
        "data": state.dataset.checksum,
    }
    for name, value in given.items():
        checksum = zlib.crc32(str(value).encode())
        if name not in flags.PLACES and np.ptp(exchange(state, checksum)):
            raise InputError(
                f"{name}={value}: another worker has another; all must have the same: "
                "start all again"
            )


def exchange(state: State, value: np.typing.ArrayLike) -> np.ndarray:
    """Returns, on every worker, the `value` of each replica [replicas, ...] as float64.

    The replicas of a worker have the same value; those of the chief are the first.
    """
    return _gather(state.strategy, tf.constant([value], tf.float64)).numpy()


@tf.function(autograph=False)
def _gather(strategy: tf.distribute.Strategy, own: tf.Tensor) -> tf.Tensor:
    """Returns what all replicas have, one after another; those of this worker have `own`."""
    of_replicas = strategy.experimental_distribute_values_from_function(lambda _: own)
    return strategy.gather(of_replicas, axis=0)


@contextlib.contextmanager
def meeting(addresses: Sequence[str], timeout: float) -> Iterator[None]:
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
            gone = cluster.silent(silent)
            if gone and not over.is_set():
                signals.say_at_once(f"error: {lost(gone)}")
                os._exit(RunError.exit_code)
            silent = cluster.silent(addresses)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except tf.errors.OpError:
        if silent := cluster.silent(addresses):
            raise RunError(lost(silent)) from None
        raise  # it is about something else, such as memory
    finally:
        over.set()
        time.sleep(0.5)  # the last message to the others may still be on its way


def start(
    config: flags.Config, device: str, together: contextlib.ExitStack
) -> tf.distribute.Strategy:
    """Returns TensorFlow's strategy for --strategy, on devices of the kind of `device`.

    The workers need one another until `together` is closed.
    Raises InputError if there are fewer devices than --replicas.
    """
    if config.strategy == "mirrored":
        return _mirrored(config, device[:3])
    return _workers(config, together) if config.strategy == "multi_worker" else ONE_DEVICE


def _mirrored(config: flags.Config, kind: str) -> tf.distribute.Strategy:
    """Returns the strategy of replicas on the GPUs, or on the parts of a CPU."""
    if kind == "CPU" and config.replicas:
        parts = [tf.config.LogicalDeviceConfiguration()] * config.replicas
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    names = [device.name for device in tf.config.list_logical_devices(kind)]
    if len(names) < config.replicas:
        raise InputError(
            f"--replicas={config.replicas}: there are {len(names)} GPUs; "
            "use fewer replicas, or --device=cpu, which splits the CPU"
        )
    return tf.distribute.MirroredStrategy(names[: config.replicas or None])


def _workers(config: flags.Config, together: contextlib.ExitStack) -> tf.distribute.Strategy:
    """Returns the strategy of this worker once all workers have started."""
    from tensorflow.python.eager import context

    addresses, own = cluster.workers()
    cluster.prepare(own)
    # TensorFlow's coordination service blocks Python's threads and signals while it waits for a
    # worker. Without the service TensorFlow checks every 30 s whether a worker was restarted.
    context.context().configure_coordination_service(service_type="")
    tf.get_logger().setLevel("CRITICAL")  # it prints what it raises, and advice about `exchange`
    together.enter_context(meeting(addresses, config.timeout))
    return tf.distribute.MultiWorkerMirroredStrategy()
