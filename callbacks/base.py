"""The base of all callbacks, and the error of those that cannot write."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import filelock
import numpy as np
import tensorflow as tf

from common.errors import InputError, RunError, reason
from common.files import writable_folder
from runtime.state import State


@dataclasses.dataclass
class Callback:
    """An observer of a run. With several workers only the chief has more than `Progress`.

    closing: what is added to it is closed last, however the run ends.
    path: the file or folder that it writes, as given.
    """

    state: State
    closing: contextlib.ExitStack
    path: pathlib.Path = pathlib.Path()

    def on_train_begin(self) -> None:
        """Called once, before anything is compiled; the state of a resumed run is already loaded.

        Raises InputError if the callback cannot write its output.
        """

    def on_block_end(self, losses: np.ndarray) -> None:
        """Called after each block and its evaluation, untimed, with its losses [steps] float32.

        A loss is that of a whole batch, with the penalty: divide a summed one by the batch size.
        `state.accuracy` is None unless the block was evaluated. A block ends where the plan
        cuts the steps: at evaluations, checkpoints and ends of epochs, and after 10,000 steps (in
        mode eager after 50).
        """

    def on_train_end(self, record: dict[str, Any]) -> None:
        """Called once, when the test accuracy is known; not if the run was stopped or failed."""

    def lock(self, flag: str, file: pathlib.Path) -> None:
        """Locks `path` until the run has ended, by a `file`, which stays, as filelock leaves it.

        The system releases the lock of a killed process. Raises InputError if `path` is locked, or
        if the folder of `file`, which is made, cannot be written.
        """
        writable_folder(flag, file.parent)
        try:
            self.closing.enter_context(filelock.FileLock(file, blocking=False))
        except filelock.Timeout:
            raise InputError(
                f"--{flag}={self.path}: another run is using it; name another folder"
            ) from None
        except OSError as error:
            raise InputError(f"--{flag}={self.path}: {reason(error)}") from None


@contextlib.contextmanager
def writing(flag: str, path: pathlib.Path) -> Iterator[None]:
    """Raises RunError, which names the flag, if the `with` block cannot write."""
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        raise RunError(
            f"--{flag}={path}: cannot be written: {reason(error)}; what was written before is kept"
        ) from None
