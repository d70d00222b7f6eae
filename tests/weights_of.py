"""Runs train.py's run with the flags after the first argument, and writes its weights to that file.

With BLIND in the environment no image is given its label. What starts such runs and compares their weights is here too.
"""

import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import flags
import model
import train
from common import commandline
from common.errors import exit_with_one_line
from outputs import record
from runtime import cluster
from runtime.state import State
from tests import forked

# 660 examples in batches of 32: 20 are left for the last batch, and neither number divides by 3.
JOB = ("--batch_size=32", "--lr=0.002", "--epochs=2", "--eval_every=15")


def start(
    data_dir: pathlib.Path, out: pathlib.Path, *arguments: str, **environment: str
) -> forked.Forked:
    """Starts a training that writes its weights to `out`."""
    return forked.Forked(
        [__file__, out, f"--data_dir={data_dir}", *arguments], env=os.environ | environment
    )


def finish(process: forked.Forked) -> str:
    """Waits for a training that must succeed, and returns what it printed."""
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    return output


def expected(
    single: dict, data_dir: pathlib.Path, tmp_path: pathlib.Path, reduction: str
) -> np.lib.npyio.NpzFile:
    if reduction not in single:
        finish(start(data_dir, tmp_path / "single.npz", *JOB, f"--loss_reduction={reduction}"))
        single[reduction] = dict(np.load(tmp_path / "single.npz"))
    assert np.abs(single[reduction]["W"]).max() > 1e-3
    return single[reduction]


def assert_same_weights(paths: Sequence[pathlib.Path], weights: dict[str, np.ndarray]) -> None:
    for path in paths:
        found = np.load(path)
        for name in ("W", "b"):
            np.testing.assert_allclose(found[name], weights[name], atol=1e-5, rtol=0)


def main() -> None:
    """Trains; the weights are taken where the record is made."""
    path, record_of = sys.argv.pop(1), record.of

    def spy(state: State, *arguments: Any) -> dict[str, Any]:
        np.savez(path, W=state.model.W.numpy(), b=state.model.b.numpy())
        return record_of(state, *arguments)

    seen = 0 if "BLIND" in os.environ else mock.DEFAULT
    counted = mock.patch.object(
        model, "num_correct", mock.Mock(wraps=model.num_correct, return_value=seen)
    )
    with counted, mock.patch.object(record, "of", spy):
        train.main(cluster.settled(commandline.parse(flags.train_flags(), sys.argv, "")))


if __name__ == "__main__":
    exit_with_one_line(main)
