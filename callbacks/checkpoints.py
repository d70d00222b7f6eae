"""Checkpoints and resuming: after any stop, the same command ends with the same weights."""

import json
import pathlib
import re
import shutil
import sys
from collections.abc import Collection
from typing import Any

import numpy as np
import tensorflow as tf

import flags
from callbacks.base import Callback, writing
from common.errors import InputError, reason
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
        self._remove_all_but(self._steps())

    def on_block_end(self, losses: np.ndarray) -> None:
        if self.state.ends() or self.state.step % self.state.config.checkpoint_every == 0:
            self._save()

    def _save(self) -> None:
        """Writes this step's checkpoint; raises RunError, and keeps older ones, if that fails."""
        step = self.state.step
        figures = {name: getattr(self.state, name) for name in FIGURES}
        figures["seconds"] = self.state.training_seconds()
        self.checkpoint.state.assign(
            json.dumps({"figures": figures, "run": description(self.state)})
        )
        with writing("checkpoint_dir", self.path):
            self.checkpoint.write(str(self.folder / f"step-{step}"))
            synced(*self.folder.glob(f"step-{step}.*"), self.folder)  # TensorFlow does not wait
            steps = self._steps()  # those after this step are damaged
            self._remove_all_but(steps[max(0, steps.index(step) + 1 - KEEP) :])

    def _resume(self) -> None:
        """Loads the newest complete checkpoint, if there is one."""
        for step in reversed(self._steps()):
            shown = self.path / f"step-{step}"
            path = self.folder / shown.name
            try:
                found = read(path)
                self._check(found["run"], step)
            except (KeyError, TypeError):
                raise InputError(
                    f"{shown} is a checkpoint of another program; name another --checkpoint_dir"
                ) from None
            except (tf.errors.OpError, ValueError, IndexError) as error:
                print(f"{shown} is damaged and skipped: {reason(error)}", file=sys.stderr)
                continue
            self.checkpoint.read(str(path)).assert_existing_objects_matched()
            vars(self.state).update(found["figures"])
            print(f"resumes from {shown}")
            return

    def _check(self, run: dict[str, Any], step: int) -> None:
        """Raises InputError if the checkpoint is of another run; prints allowed differences."""
        run = vars(flags.training_config()) | run  # defaults of flags that were added since
        for name, value in description(self.state).items():
            if (before := run.get(name)) == value or name in flags.CAN_CHANGE:
                continue
            both = f"{name}={value}: the run kept in {self.path} has {name}={before}"
            if name not in flags.MAY_ROUND:
                raise InputError(f"{both}; use that, or name another --checkpoint_dir")
            print(f"{both}; the last bits may differ", file=sys.stderr)
        if step > self.state.total_steps:
            raise InputError(
                f"{self.path} is at step {step:,}; raise --epochs or --max_steps, "
                "or name another --checkpoint_dir"
            )

    def _steps(self) -> list[int]:
        """Returns the steps of the checkpoints, in order. TensorFlow writes the index last."""
        names = [WRITTEN.fullmatch(path.name) for path in self.folder.glob("step-*.index")]
        return sorted(int(name[1]) for name in names if name)

    def _remove_all_but(self, steps: Collection[int]) -> None:
        """Removes the files of all other steps, and folders of incomplete files."""
        for path in [*self.folder.iterdir()]:
            written = WRITTEN.fullmatch(path.name)
            if written and path.is_dir():
                shutil.rmtree(path)
            elif written and int(written[1]) not in steps:
                path.unlink()


def description(state: State) -> dict[str, Any]:
    """Returns the flags of a run, its data, and what may change its last bits."""
    return vars(state.config) | {
        "input": "stream" if state.dataset.train.streamed else "memory",  # what auto chose
        "data": state.dataset.checksum,
        "shapes": [list(variable.shape) for variable in state.model.variables],
        "format": 4,
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
