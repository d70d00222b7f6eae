"""Trains all combinations of several values of train.py's flags in one process, and says which is
the best.

python sweep.py --lr=0.001,0.003,0.01,0.03,0.1 --seed=0:10
"""

import math
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # which python -P leaves out

import flags
from common.errors import one_line
from runtime import devices, signals, startup
from sweeps import options

if __name__ == "__main__":  # the flags are read before TensorFlow is imported, which takes long
    with one_line():
        signals.install()
        CONFIGS, OWN = options.parse(sys.argv, __doc__)
        devices.hide_gpus(CONFIGS[0].device)
        tempfile.gettempdir()  # TensorFlow cannot be imported without one

with startup.starting():
    import tensorflow as tf
    from rich.progress import MofNCompleteColumn, Progress

    import data
    import train
    from runtime import distribute
    from runtime.clock import Ledger
    from sweeps import report, runs
    from sweeps.kept import Kept, Row, key


def run(configs: Sequence[flags.Config], own: flags.Config) -> None:
    """Trains the runs that --output does not have yet, and reports on all, even where a signal or a
    failure ends it."""
    largest = max(configs, key=lambda config: config.batch_size)
    with startup.quiet():
        device = devices.choose(largest, runs.one_thread(configs))
    with tf.device(device):
        max_bytes = devices.most_bytes(largest.input, device)
        dataset = data.load(largest.dataset, largest.data_dir, largest.manual_dir, max_bytes)
        first = train.start(largest, dataset, Ledger(), distribute.OneDevice())
    environment = devices.environment(device, largest.mode, largest.tf32)
    kept = Kept(own.output, largest, environment, dataset.checksum)
    missing = [config for config in configs if key(config) not in kept.rows]
    try:
        with signals.deferred():
            for row in shown(
                runs.finished(missing, own.jobs, first, device), len(configs), len(missing)
            ):
                kept.add(row)
            left = sum(key(config) not in kept.rows for config in configs)
            if left and signals.asked():
                how = "the same command goes on" if own.output else "kept only with --output"
                raise signals.stopped(f"with {left:,} of {len(configs):,} runs left: {how}")
    finally:
        rows = [kept.rows[key(config)] for config in configs if key(config) in kept.rows]
        report.show(rows, environment, own.figures)


def shown(rows: Iterable[Row], total: int, missing: int) -> Iterator[Row]:
    """Yields rows as they come, and shows their number, the best so far and, on a terminal, the
    time left."""
    with Progress(
        MofNCompleteColumn(), *Progress.get_default_columns(), disable=not sys.stdout.isatty()
    ) as bar:
        task, best, words = (
            bar.add_task("", total=total, completed=total - missing),
            0.0,
            "none ended well yet",
        )
        for count, row in enumerate(rows, 1):
            yield row
            if (accuracy := 0.0 if "diverged" in row else row["validation_accuracy"][-1][1]) > best:
                best, words = (
                    accuracy,
                    f"best validation so far {accuracy:.4f}: lr {row['lr']:g}, seed {row['seed']}",
                )
            bar.update(task, advance=1, description=words)
            if bar.disable and count % math.ceil(missing / 10) == 0:
                print(f"{total - missing + count:,}/{total:,} runs, {words}", flush=True)


if __name__ == "__main__":
    with one_line(leave=True):
        run(CONFIGS, OWN)
