"""Runs train.py's run with the flags after the first argument, and writes its weights to that file.

What starts such runs is here too.
"""

import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import data
import flags
import train
from callbacks import record
from common import commandline
from common.errors import exit_with_one_line
from runtime import cluster, signals
from runtime.clock import Ledger
from runtime.state import State
from tests import forked, oracle
from tests.conftest import trained

# 660 examples in batches of 32: 20 are left for the last batch, and neither number divides by 3.
JOB = {"batch_size": 32, "lr": 0.002, "epochs": 2, "eval_every": 15}


def start(
    data_dir: pathlib.Path, out: pathlib.Path, environment: Mapping[str, str], **job: object
) -> forked.Forked:
    """Starts a training that writes its weights to `out`."""
    arguments = [f"--{name}={value}" for name, value in job.items()]
    command = [__file__, out, f"--data_dir={data_dir}", *arguments]
    return forked.Forked(command, env=os.environ | environment)


def finish(process: Any, code: int = 0) -> tuple[str, list[str]]:
    """Returns what a training printed, and the lines in which it says why it ended with `code`."""
    output, errors = process.communicate(timeout=600)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    why = [line for line in errors.splitlines() if line.startswith(("error: ", "stopped by "))]
    return output, why


def assert_weights_of_one_device(
    paths: Sequence[pathlib.Path], dataset: data.Dataset, **job: object
) -> State:
    """Compares files of weights with the run of these flags on one device, which it returns."""
    state = trained(dataset, **job)
    assert np.abs(state.model.W).max() > 1e-3
    for path in paths:
        oracle.assert_weights(np.load(path), state.model.W, state.model.b)
    return state


def main() -> None:
    """Trains; the weights are read where the record is made."""
    signals.install()
    path, record_of = sys.argv.pop(1), record.of

    def spy(state: State, *arguments: Any) -> dict[str, Any]:
        np.savez(path, W=state.model.W.numpy(), b=state.model.b.numpy())
        return record_of(state, *arguments)

    with mock.patch.object(record, "of", spy):
        config = cluster.checked(commandline.parse(flags.train_flags(), sys.argv, ""))
        train.run(config, Ledger())


if __name__ == "__main__":
    exit_with_one_line(main)
