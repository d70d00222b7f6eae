"""The runs of a sweep: side by side where a core each serves them best, else one after the
other."""

import concurrent.futures
import copy
import threading
from collections.abc import Iterator, Sequence

import tensorflow as tf

import data
import flags
import model
import train
from callbacks import record
from common.errors import InputError, Stopped
from runtime import devices, distribute, modes, signals
from runtime.clock import Ledger
from runtime.state import DivergedError, State
from sweeps.kept import Row
from sweeps.options import SWEPT

# Flags that no step sees. A compiled function is given the floats at each call.
NOT_COMPILED = ("seed", "epochs")


def one_thread(configs: Sequence[flags.Config]) -> bool:
    """Says whether all runs leave an operation to one core; raises InputError where some do and
    some do not."""
    if len(found := {modes.one_thread(config) for config in configs}) > 1:
        raise InputError(
            f"--batch_size: --mode={configs[0].mode} needs a sweep "
            f"for those from {modes.SHARED_BATCH} on"
        )
    return found.pop()


def alone(batch_size: int, on_gpu: bool) -> bool:
    """Says whether a run takes the whole device, so that no other should run beside it."""
    return on_gpu or batch_size >= modes.SHARED_BATCH


class Runner(distribute.OneDevice):
    """Trains one run after the other on the same weights, with programs that are compiled once; for
    one thread."""

    def __init__(self, first: State) -> None:
        self.first, self.modes = first, dict[flags.Config, modes.Mode]()
        self.net = model.SoftmaxRegression(
            first.dataset.num_features, len(first.dataset.class_names)
        )

    def mode(
        self, net: model.SoftmaxRegression, config: flags.Config, split: data.Split
    ) -> modes.Mode:
        """Returns what takes steps, made once for all runs that compile to the same."""
        key = config.replace(**dict.fromkeys([*model.floats(config), *NOT_COMPILED]))
        if key not in self.modes:
            self.modes[key] = super().mode(net, config, split)
        return self.modes[key]

    def run(self, config: flags.Config) -> Row:
        """Returns the row of a run, or the one that says that it diverged; raises Stopped after a
        signal."""
        state = copy.copy(self.first)  # a new State would scale its images for the evaluation anew
        state.config, state.model, state.ledger, state.evaluations = config, self.net, Ledger(), []
        state.ledger.barrier = self.barrier
        for variable in self.net.variables:
            variable.assign(tf.zeros_like(variable))
        row = {name: getattr(config, name) for name in SWEPT}
        try:
            train.train(state, train.compiled(state, self))
        except DivergedError as error:
            return row | {
                "diverged": str(error),
                "steps": state.step,
                "seconds": state.ledger.seconds(),
            }
        except Stopped:
            if state.step < state.total_steps:
                raise
        return row | record.reached(state, train.accuracy(state, state.dataset.test))


def finished(
    configs: Sequence[flags.Config], jobs: int, first: State, device_name: str
) -> Iterator[Row]:
    """Yields the row of each run as it ends, until a signal: `jobs` at a time, alone what takes all
    cores or a GPU."""
    # that each thread traces the evaluation of its own weights is meant
    tf.get_logger().setLevel("ERROR")
    of_thread = threading.local()

    def run(config: flags.Config) -> Row:
        if signals.asked():
            raise signals.stopped("before it began")
        with tf.device(device_name):
            of_thread.runner = getattr(of_thread, "runner", None) or Runner(first)
            return of_thread.runner.run(config)

    on_gpu = "GPU" in device_name
    in_order = sorted(
        configs, key=lambda config: (config.batch_size, config.loss_reduction, -config.epochs)
    )
    for count, group in (
        (
            jobs or devices.cores(),
            [config for config in in_order if not alone(config.batch_size, on_gpu)],
        ),
        (1, [config for config in in_order if alone(config.batch_size, on_gpu)]),
    ):
        pool = concurrent.futures.ThreadPoolExecutor(count)
        try:
            for future in concurrent.futures.as_completed(
                [pool.submit(run, config) for config in group]
            ):
                # others may have ended at the moment of the signal
                if not isinstance(future.exception(), Stopped):
                    yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
