"""Checkpoints and resuming: after any stop, the same command ends with the same weights."""

import json
import pathlib
import re
from typing import Any

import numpy as np
import tensorflow as tf

import flags
from callbacks.base import Callback, writing
from common.errors import InputError, reason, say
from common.files import plain_path, synced
from runtime import devices
from runtime.state import State

KEEP = 3  # checkpoints
# of the state, saved beside the weights
FIGURES = ("step", "examples", "loss", "losses", "evaluations", "log")
# what TensorFlow writes for a step, complete or not
WRITTEN = re.compile(r"step-(0|[1-9][0-9]*)(_temp|(\.index|\.data-00000-of-00001)(\.tempstate.*)?)")
STATE = "state/.ATTRIBUTES/VARIABLE_VALUE"  # tf.train.Checkpoint's name of its variable `state`


class Checkpoints(Callback):
    """Keeps the newest checkpoints in --checkpoint_dir.

    Each has all variables of the model and, as JSON, the step, its figures and the run's flags.
    TensorFlow's CheckpointManager would remove the checkpoints of another program.
    """

    def on_train_begin(self) -> None:
        """Locks the folder, and resumes from the newest checkpoint in it."""
        self.lock("checkpoint_dir", self.path / ".lock")
        # a path that TensorFlow does not read as a pattern
        self.folder = self.closing.enter_context(plain_path(self.path))
        self.checkpoint = tf.train.Checkpoint(model=self.state.model, state=tf.Variable(""))
        self._resume()
        with writing("checkpoint_dir", self.path):
            self._remove_all_but(self._names())

    def on_block_end(self, losses: np.ndarray) -> None:
        """Writes the checkpoint of this step, if it is due.

        Raises RunError, and keeps the older ones, if that fails.
        """
        state = self.state
        if state.ends() or state.step % state.config.checkpoint_every == 0:
            name = f"step-{state.step}"
            figures = {figure: getattr(state, figure) for figure in FIGURES}
            figures["seconds"] = state.training_seconds()
            self.checkpoint.state.assign(
                json.dumps({"figures": figures, "run": description(state)})
            )
            with writing("checkpoint_dir", self.path):
                self.checkpoint.write(self.folder / name)
                synced(*self.folder.glob(f"{name}.*"), self.folder)  # TensorFlow does not wait
                names = self._names()  # those after this step are damaged
                self._remove_all_but(names[max(0, names.index(name) + 1 - KEEP) :])

    def _resume(self) -> None:
        """Loads the newest complete checkpoint, if there is one."""
        for name in reversed(self._names()):
            shown = self.path / name
            path = self.folder / name
            try:
                found = read(path)
                self._check(found["run"])
            except (KeyError, TypeError):
                raise InputError(
                    f"{shown} is a checkpoint of another program; name another --checkpoint_dir"
                ) from None
            except (tf.errors.OpError, ValueError, IndexError) as error:
                say(f"{shown} is damaged and skipped: {reason(error)}")
                continue
            self.checkpoint.read(path).assert_existing_objects_matched()
            vars(self.state).update(found["figures"])
            if self.state.step > self.state.total_steps:
                raise InputError(
                    f"{self.path} is at step {self.state.step:,}; raise --epochs or --max_steps, "
                    "or name another --checkpoint_dir"
                )
            print(f"resumes from {shown}")
            return

    def _check(self, run: dict[str, Any]) -> None:
        """Raises InputError if the checkpoint is of another run; prints allowed differences."""
        run = vars(flags.training_config()) | run  # defaults of flags that were added since
        for name, value in description(self.state).items():
            if (before := run.get(name)) == value or name in flags.CAN_CHANGE:
                continue
            both = f"{name}={value}: the run kept in {self.path} has {name}={before}"
            if name not in flags.MAY_ROUND:
                raise InputError(f"{both}; use that, or name another --checkpoint_dir")
            say(f"{both}; the last bits may differ")

    def _names(self) -> list[str]:
        """Returns the names of the checkpoints, in order. TensorFlow writes the index last."""
        files = sorted(self.folder.glob("*.index"))
        names = [path.stem for path in files if WRITTEN.fullmatch(path.name)]
        return sorted(names, key=len)  # a step with more digits is later

    def _remove_all_but(self, names: list[str]) -> None:
        """Removes what TensorFlow has written, but the two files of each of these checkpoints."""
        for path in self.folder.iterdir():
            if WRITTEN.fullmatch(path.name) and path.stem not in names:
                tf.io.gfile.rmtree(path)  # also a file


def description(state: State) -> dict[str, Any]:
    """Returns the flags of a run, its data, and what may change its last bits."""
    return vars(state.config) | {
        "input": "stream" if state.dataset.train.streamed else "memory",  # what auto chose
        "data": state.dataset.checksum,
        "shapes": [list(variable.shape) for variable in state.model.variables],
        "format": 4,  # raised when a checkpoint gets other content
        "numpy": np.__version__,
        "tensorflow": tf.__version__,
        "threads": devices.threads(),
    }


def read(path: pathlib.Path) -> dict[str, Any]:
    """Returns the run that a checkpoint describes, after reading all of it.

    Raises OpError, ValueError or IndexError if a CRC-32 of TensorFlow's, a length or the JSON shows
    damage, and KeyError if there is no such description.
    """
    reader = tf.train.load_checkpoint(path)
    tensors = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    return json.loads(tensors[STATE])
