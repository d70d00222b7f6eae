"""Checkpoints, and the resume: after any stop the same command ends with the same weights."""

import contextlib
import json
import pathlib
import re
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

import filelock
import numpy as np
import tensorflow as tf

import flags
from callbacks.base import Callback
from common.errors import InputError, RunError, reason
from common.files import locked, plain_path, synced, writable_folder
from runtime import devices
from runtime.state import State

KEEP, FORMAT = 3, 3
# of the state, kept beside its weights
FIGURES = ("step", "examples", "loss", "evaluations", "log")
WHOLE = (".index", ".data-00000-of-00001")
PART = re.compile(r"step-(\d+)(_temp.*|\.index.*|\.data.*|\.tmp.*)|checkpoint\.tmp.*")
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # what tf.train.Checkpoint appends to a name
PLACE = ("numpy", "tensorflow", "threads", "cores")  # where it ran
# what identifies a run and is no flag, in a message
WORDS = {name: name for name in PLACE} | {"checksum": "data", "order": "--input"}
INPUTS = {"whole": "memory", "buffers": "stream"}  # that have such an order
ANOTHER = "go on with the version of the program that wrote them, or give another folder"


class Checkpoints(Callback):
    """Keeps the newest checkpoints in --checkpoint_dir.

    Each has all variables of the model, and as JSON the step, its figures and the run's flags.
    """

    def __init__(self, state: State) -> None:
        """Takes the folder, and goes on from the newest checkpoint in it."""
        super().__init__(state)
        self.folder = writable_folder("checkpoint_dir", state.config.checkpoint_dir)
        self.json = tf.Variable("", dtype=tf.string)
        self.checkpoint = tf.train.Checkpoint(model=state.model, state=self.json)
        self.cost = {"written": 0, "seconds": 0.0}
        try:
            lock = locked(self.folder / ".lock", wait=False)
        except filelock.Timeout:
            raise self._refused("another run is using it; take another folder") from None
        with contextlib.ExitStack() as closing:
            closing.callback(lock.release)
            # a name of the folder that TensorFlow takes as it is
            self.plain = closing.enter_context(plain_path(self.folder))
            self._remove_parts()
            self.saved_step = self._resume()
            self.close = closing.pop_all().close  # type: ignore[method-assign]
        state.goes_on = self.saved_step is not None

    def on_train_begin(self) -> None:
        """Writes a new run's first, which takes longest, and finds a full disk now."""
        try:
            tf.train.get_checkpoint_state(self.plain)
        except ValueError:  # the file that names the newest is damaged: the next save makes it anew
            (self.folder / "checkpoint").unlink()
        # One more than are to be kept, so that the oldest goes only when the newest is on the disk.
        self.manager = tf.train.CheckpointManager(
            self.checkpoint, self.plain, KEEP + 1, checkpoint_name="step"
        )
        self._save()
        self.cost["seconds_at_start"] = self.cost["seconds"]

    def on_block_end(self, losses: np.ndarray, evaluated: bool) -> None:
        if self.state.ends() or self.state.step % self.state.config.checkpoint_every == 0:
            self._save()

    def on_train_end(self, record: dict[str, Any]) -> None:
        """Puts into the record what all checkpoints took, and what the first of a new run did."""
        record["checkpoints"] = self.cost

    def _save(self) -> None:
        """Writes the checkpoint of this step unless it is there.

        Raises RunError if it cannot; the older ones are kept.
        """
        step, began = self.state.step, time.perf_counter()
        if step == self.saved_step:
            return
        figures = {name: getattr(self.state, name) for name in FIGURES}
        figures["seconds"] = self.state.training_seconds()
        run = {"format": FORMAT, "figures": figures, "run": identity(self.state)}
        self.json.assign(json.dumps(run))
        try:
            self.manager.save(checkpoint_number=step)
            # TensorFlow does not wait
            synced(*self._files(step), self.folder)
            # those behind it are damaged
            for old in [other for other in self._steps() if other <= step][:-KEEP]:
                for path in self._files(old):
                    path.unlink(missing_ok=True)
        except (tf.errors.OpError, OSError) as error:
            self._remove_parts()
            raise RunError(
                f"--checkpoint_dir={self.folder}: cannot write the checkpoint of step {step:,}: "
                f"{reason(error)}. The checkpoints before it are kept: make room and start again"
            ) from None
        self.saved_step = step
        self.cost["seconds"] += time.perf_counter() - began
        self.cost["written"] += 1

    def _resume(self) -> int | None:
        """Puts the newest whole checkpoint into the state; returns its step, None without one."""
        for step in reversed(self._steps()):
            path = self.plain / f"step-{step}"
            try:
                found = read(path)
            except (tf.errors.OpError, ValueError, LookupError) as error:
                why = f"is damaged and passed over: {reason(error)}"
                print(f"{self.folder / path.name} {why}", file=sys.stderr)
                continue
            self._check(found)
            try:
                self.checkpoint.read(str(path)).assert_existing_objects_matched()
            except AssertionError:  # a variable that the checkpoint does not have
                raise self._refused(f"its model has other variables; {ANOTHER}") from None
            for name, value in found["figures"].items():
                setattr(self.state, name, value)
            print(f"goes on from {self.folder / path.name}")
            return step
        return None

    def _check(self, found: Mapping[str, Any]) -> None:
        """Raises InputError unless the checkpoint is of this run; says what may change its bits."""
        if (version := found.get("format", 1)) != FORMAT:
            why = f"its checkpoints have format {version}, this program reads format {FORMAT}"
            raise self._refused(f"{why}; {ANOTHER}")
        step, last = found["figures"]["step"], self.state.total_steps
        if step > last:
            why = f"its run is at step {step:,}, this one ends at step {last:,}"
            raise self._refused(f"{why}; give more --epochs or --max_steps, or another folder")
        # one from before a flag was added has its default
        now, before = identity(self.state), flags.training_config().as_dict() | found["run"]
        changed = [name for name, value in now.items() if before.get(name, value) != value]
        here, there = (
            ", ".join(
                f"{WORDS.get(name, f'--{name}')}={INPUTS.get(values[name], values[name])}"
                for name in changed
            )
            for values in (now, before)
        )
        if not set(changed) <= {*flags.ROUNDING, *PLACE}:
            raise InputError(
                f"{here}: the run kept in --checkpoint_dir={self.folder} has {there}; "
                "go on with that, or give another folder"
            )
        if changed:
            order = "with another NumPy the order of the examples, "
            print(f"{here}, before {there}: {order}the last bits may differ", file=sys.stderr)

    def _refused(self, why: str) -> InputError:
        return InputError(f"--checkpoint_dir={self.folder}: {why}")

    def _files(self, step: int) -> list[pathlib.Path]:
        return [self.folder / f"step-{step}{suffix}" for suffix in WHOLE]

    def _steps(self) -> list[int]:
        """Returns the steps of the checkpoints that have both their files, in order."""
        matches = [PART.fullmatch(path.name) for path in self.folder.iterdir()]
        steps = {int(match[1]) for match in matches if match and match[1]}
        return sorted(step for step in steps if all(path.exists() for path in self._files(step)))

    def _remove_parts(self) -> None:
        """Removes what a write that did not come to its end has left."""
        whole = [path for step in self._steps() for path in self._files(step)]
        for path in [*self.folder.iterdir()]:
            if PART.fullmatch(path.name) and path not in whole:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def identity(state: State) -> dict[str, Any]:
    """Returns what makes a run this run, and what may change its last bits."""
    of_flags = state.config.as_dict().items()
    return {name: value for name, value in of_flags if name not in flags.CAN_CHANGE} | {
        "numpy": np.__version__,
        "tensorflow": tf.__version__,
        "threads": devices.threads(),
        "cores": devices.cores(),
        "checksum": state.dataset.checksum,
        "order": state.order,
    }


def read(path: pathlib.Path) -> dict[str, Any]:
    """Returns the run that a checkpoint describes, once all of it has been read.

    Raises OpError, ValueError or LookupError where a CRC-32 of TensorFlow's, a length or the JSON
    shows damage.
    """
    reader = tf.train.load_checkpoint(path)
    tensors = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    return json.loads(tensors["state" + VALUE])
