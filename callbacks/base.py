"""What a callback is, and how one says that it cannot write."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from common.errors import RunError, reason
from runtime.state import State


class Callback:
    """Stands beside a training. With several workers only the chief has more than `Progress`.

    It is made before anything is compiled, and raises InputError then if it could not do its part.
    """

    def __init__(self, state: State) -> None:
        self.state = state

    def on_train_begin(self) -> None:
        """Called once, when all callbacks are made."""

    def on_block_end(self, losses: np.ndarray, evaluated: bool) -> None:
        """Called after each block and its evaluation, untimed, with its losses [steps]."""

    def on_train_end(self, record: dict[str, Any]) -> None:
        """Called once, when the test accuracy is known; not where the run was stopped or failed."""

    def close(self) -> None:
        """Called last, however the run ended."""


@contextlib.contextmanager
def writing(flag: str, path: pathlib.Path) -> Iterator[None]:
    """Raises RunError, naming the flag, where what is done inside cannot be written."""
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        raise RunError(f"--{flag}={path}: cannot be written: {reason(error)}") from None
