"""The workers of a run, on one machine or several: they meet, compare, decide together, and notice who is lost."""

import contextlib
import faulthandler
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

import data
import flags
import model
from common.errors import InputError, RunError
from common.files import PROJECT
from runtime import gpu, modes, stopping
from runtime.cluster import Cluster, lost
from runtime.replicas import Replicas
from runtime.state import State

# Flags that must be the same on all workers: what makes the run, and what says when they meet.
SAME = (
    *("dataset", "batch_size", "lr", "epochs", "max_steps", "seed", "shuffle", "loss_reduction"),
    *("eval_first", "eval_every", "target_accuracy", "checkpoint_every"),
)
MOST_TEXT = 1024  # bytes of what workers compare


class Workers(Replicas):
    """Training on the replicas of several workers, of which this process is one."""

    def __init__(self, strategy: tf.distribute.Strategy, timeout: int, cluster: Cluster):
        super().__init__(strategy)
        self.timeout, self.cluster = timeout, cluster
        self.first, self.is_chief = cluster.index * len(self.device_names), cluster.index == 0
        self._summed_now = tf.function(self._summed, autograph=False)

    def barrier(self) -> None:
        """Waits for nothing: TensorFlow would ask other machines, and each block ends with reading its losses."""

    @contextlib.contextmanager
    def scope(self, dataset: data.Dataset) -> Iterator[None]:
        """Makes the variables of all workers; raises InputError on all of them if one has other data."""
        self.same(
            {
                "--input": "stream" if dataset.on_disk else "memory",
                "checksum of the data": dataset.checksum,
            }
        )
        with meeting(self.timeout, self.cluster), super().scope(dataset):
            yield

    def mode(
        self, net: model.SoftmaxRegression, config: flags.Config, split: data.Split
    ) -> modes.Mode:
        """Returns mode graph; a signal to one worker is one to all, after the same block."""
        return FromPipelineTogether(functools.partial(self._sgd_step, net), config, self)

    def train_together(self, train: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns the losses that `train` does, once all workers know of the signals to each."""
        with meeting(self.timeout, self.cluster):  # reading the losses notices a lost worker
            losses = train()
        stopping.decide(int(self._together(np.array(stopping.waiting())).max()))
        return losses

    def follow_chief(self, state: State) -> None:
        """Lets the runs of all workers start where the chief's observers have put its own, and takes its counts."""
        newest = state.evaluations[-1] if state.evaluations else [0, 0.0, 0.0, 0.0]
        step, examples, *newest = self._from_chief([state.step, state.examples, *newest]).tolist()
        for variable in state.model.variables:
            variable.assign(self._from_chief(variable.numpy()))
        if not self.is_chief:
            state.step, state.examples = int(step), int(examples)
            state.evaluations = [[int(newest[0]), *newest[1:]]] if newest[0] else []
        state.agreed = lambda count: int(self._from_chief(count))

    def same(self, values: Mapping[str, object]) -> None:
        """Raises InputError, naming the first that differs, on all workers unless all have the same `values`."""
        text = "\n".join(f"{name}={value}" for name, value in values.items()).encode()
        rows = self._together(np.frombuffer(text.ljust(MOST_TEXT)[:MOST_TEXT], np.uint8)).astype(
            np.uint8
        )
        lines_of_workers = (
            row.tobytes().decode(errors="replace").rstrip().split("\n") for row in rows
        )
        for lines in zip(*lines_of_workers, strict=False):
            for address, line in zip(self.cluster.addresses, lines, strict=True):
                if line != lines[0]:
                    raise InputError(
                        f"{line} at {address}, {lines[0]} at {self.cluster.addresses[0]}: "
                        "all workers must have the same; start all again"
                    )

    def _from_chief(self, value: np.typing.ArrayLike) -> np.ndarray:
        """Returns, on every worker, the `value` that the chief gives; those of the others only have its shape."""
        return self._together(np.asarray(value))[0]

    def _together(self, value: np.ndarray) -> np.ndarray:
        """Returns, on every worker, the `value` of each [workers, ...] as float64."""
        rows = np.zeros((len(self.cluster.addresses), *value.shape))
        rows[self.cluster.index] = value
        with meeting(self.timeout, self.cluster):
            found = self._sum(tf.constant(rows))  # a worker that is lost is noticed here
        # Whoever is through with this knows that all have found what they need: it may leave, and nobody is lost.
        with contextlib.suppress(RunError), meeting(self.timeout, self.cluster):
            self._sum(tf.zeros([1]))
        return found

    def _summed(self, mine: tf.Tensor) -> tf.Tensor:
        """Returns the sum of what each worker has, in a graph."""

        def contribute() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            is_first = context.replica_id_in_sync_group == self.first
            value = tf.where(is_first, mine, tf.zeros_like(mine))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, value)

        return self._here(self.strategy.run(contribute))

    def _sum(self, mine: tf.Tensor) -> np.ndarray:
        """Returns the sum of what each worker has; each shape has a program of its own, and no warning about that."""
        return self._summed_now.get_concrete_function(mine)(mine).numpy()


class FromPipelineTogether(modes.FromPipeline):
    """Mode graph on several workers."""

    def __init__(self, step: Callable[..., tf.Tensor], config: flags.Config, workers: Workers):
        super().__init__(step, config)
        self.workers = workers

    def __call__(self, block: data.BatchBlock, config: flags.Config) -> np.ndarray:
        return self.workers.train_together(lambda: super(type(self), self).__call__(block, config))


def start(config: flags.Config) -> Workers:
    """Returns this worker, once all are there; raises InputError on all of them if their flags differ."""
    if not gpu.usable(config.device):
        tf.config.set_visible_devices([], "GPU")
    cluster = Cluster.from_environment()
    _wait_no_longer_than(config.timeout, cluster)
    cluster.gather(config.timeout)
    with _watched_from_outside(config.timeout), meeting(config.timeout, cluster):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    # TensorFlow has just taken SIGTERM for a notice of preemption, which nobody reads
    stopping.install()
    workers = Workers(strategy, config.timeout, cluster)
    workers.same({f"--{name}": getattr(config, name) for name in SAME})
    return workers


@contextlib.contextmanager
def meeting(timeout: float, cluster: Cluster) -> Iterator[None]:
    """Ends the process with one line if a worker is lost while the `with` block waits for it.

    One that answers at its port every `timeout` seconds may take its time; TensorFlow's heartbeat finds one that hangs.
    """
    over = threading.Event()

    def watch() -> None:  # nothing else ends a thread that waits inside TensorFlow
        while not over.wait(timeout):
            if silent := cluster.silent():
                print(lost(timeout, silent), file=sys.stderr, flush=True)
                os._exit(RunError.exit_code)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except tf.errors.OpError as error:
        silent = ", ".join(cluster.silent()) or "none by now"
        raise RunError(
            f"--strategy=multi_worker: lost a worker ({type(error).__name__}); silent: {silent}. Start all again"
        ) from None
    finally:
        over.set()


@contextlib.contextmanager
def _watched_from_outside(timeout: int) -> Iterator[None]:
    """Ends the process with one line from another one if the `with` block takes longer than `timeout` seconds.

    TensorFlow's leader stops Python, signals too, while it waits for a worker that died since it answered. Only
    faulthandler gets through; what it writes, a traceback, tells the other process that it has ended this one.
    """
    words = "import sys; from runtime import cluster; sys.stdin.read() and cluster.mourn(int(sys.argv[1]))"
    command = [sys.executable, "-c", words, str(timeout)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, cwd=PROJECT, start_new_session=True
    ) as watcher:
        faulthandler.dump_traceback_later(timeout, exit=True, file=watcher.stdin)  # type: ignore[arg-type] # a pipe
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


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
