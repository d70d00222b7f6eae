"""Trains all combinations of several values of train.py's flags in one process; names the best.

python sweep.py --lr=0.001,0.003,0.01,0.03,0.1 --seed=0:10

The numbers and choices of the group Training take several values, separated by commas. A range of
integers, such as 0:10, excludes its last number.
"""

import functools
import os
import pathlib
import sys
import threading
from collections.abc import Callable
from multiprocessing.pool import ThreadPool

sys.path.insert(0, os.path.dirname(__file__))  # python -P does not add it

from common.commandline import Config
from common.errors import Stopped, exit_with_one_line, one_line
from runtime import devices, signals, startup
from sweeps import options

if __name__ == "__main__":  # the flags are read before TensorFlow is imported, which takes long
    with one_line():
        signals.install()
        CONFIGS = options.parse(sys.argv, __doc__)
        startup.prepare(CONFIGS[0].device)

with startup.starting():
    import tensorflow as tf
    from rich.progress import track

    import data
    import model
    import train
    from callbacks import record
    from runtime import modes
    from runtime.clock import Ledger
    from runtime.state import DivergedError
    from sweeps import results


def trainer(dataset: data.Dataset, place: results.Row) -> Callable[[Config], results.Row | None]:
    """Returns a function that trains a run and returns its row, or None if a signal stopped it.

    A row includes `place`, the data and the machine, and says whether its run diverged.
    """

    @functools.cache
    def compiled(thread: int, config: Config) -> modes.Mode:
        """Returns the mode that takes the steps of a thread's runs."""
        return train.compiled(train.start(config, dataset, Ledger()))

    def train_one(config: Config) -> results.Row | None:
        if signals.asked():
            return None
        # a program takes the floats at each call, and depends on neither seed nor epochs
        floats = dict.fromkeys(model.floats(config), 1.0)
        alike = config.replace(**floats, seed=0, epochs=sys.maxsize)
        mode = compiled(threading.get_ident(), alike)
        state = train.start(config, dataset, Ledger())
        for variable, value in zip(mode.net.variables, state.model.variables, strict=True):
            variable.assign(value)
        state.model, row = mode.net, vars(config) | place
        try:
            train.train(state, mode)
        except DivergedError as error:
            row["diverged"] = str(error)
        except Stopped:
            return None
        return row | record.reached(state, train.test_accuracy(state))

    return train_one


def run(configs: list[Config]) -> None:
    """Trains the runs that are not yet in --output. Then reports on all runs of this sweep, even
    after a signal or a failure."""
    tf.get_logger().setLevel("ERROR")  # hides that evaluation is retraced for each model
    first = configs[0]
    device = devices.choose(configs[-1])  # the smallest batch decides on the threads of all
    dataset = train.load(first, device)
    place = {"data": dataset.checksum} | devices.environment(device)
    output = pathlib.Path(first.output or os.devnull)
    found = results.read(output, vars(first) | place)
    configs = [config for config in configs if results.key(vars(config)) not in found]
    one_core = device == "CPU:0" and devices.threads() == 1
    jobs = first.jobs or (devices.cores() if one_core else 1)
    try:
        with signals.deferred(), ThreadPool(jobs, tf.device(device).__enter__) as pool:
            rows = filter(None, pool.imap_unordered(trainer(dataset, place), configs))
            for row in track(rows, "runs", len(configs), disable=not sys.stdout.isatty()):
                found[results.key(row)] = row
                results.add(output, row)
    finally:
        if found:
            results.show(found.values(), first.figures)


if __name__ == "__main__":
    exit_with_one_line(lambda: run(CONFIGS))
