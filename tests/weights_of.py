"""Runs train.py's run with the flags after the first argument, and writes its weights to that file."""

import pathlib
import sys
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import train
from common.errors import exit_with_one_line
from outputs import screen


def main() -> None:
    """Trains; the weights are taken where the record is made."""
    path = sys.argv.pop(1)
    record_of = screen.record_of

    def spy(trainer: train.Trainer, *arguments: Any) -> dict[str, Any]:
        np.savez(path, W=trainer.model.W.numpy(), b=trainer.model.b.numpy())
        return record_of(trainer, *arguments)

    screen.record_of = spy
    train.main()


if __name__ == "__main__":
    exit_with_one_line(main)
