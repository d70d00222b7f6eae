"""Runs train.py's run with the flags after the first argument, and writes its weights to that file."""

import pathlib
import sys
from typing import Any
from unittest import mock

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import flags
import train
from common import flagging
from common.errors import exit_with_one_line
from outputs import record
from runtime import cluster
from runtime.state import State


def main() -> None:
    """Trains; the weights are taken where the record is made."""
    path, record_of = sys.argv.pop(1), record.of

    def spy(state: State, *arguments: Any) -> dict[str, Any]:
        np.savez(path, W=state.model.W.numpy(), b=state.model.b.numpy())
        return record_of(state, *arguments)

    with mock.patch.object(record, "of", spy):
        train.main(cluster.settled(flagging.parse(flags.Config, sys.argv, "")))


if __name__ == "__main__":
    exit_with_one_line(main)
