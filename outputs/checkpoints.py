"""Checkpoints of a run, and the resume: after any stop, the same command ends with the same weights, bit for bit."""

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
from common.errors import InputError, RunError, reason
from common.files import check_writable, locked, synced, writable_folder
from outputs.observers import Observer
from runtime import devices, stopping
from runtime.state import State

KEEP, FORMAT = 3, 3
# of the state, kept beside its weights
FIGURES = ("step", "examples", "loss", "evaluations", "log")
NAME, WHOLE = "step", (".index", ".data-00000-of-00001")
PART = re.compile(NAME + r"-(\d+)(_temp.*|\.index.*|\.data.*|\.tmp.*)|checkpoint\.tmp.*")
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # what tf.train.Checkpoint appends to a name
PLACE = ("numpy", "tensorflow", "threads", "cores")  # where it ran: so may these


class Checkpoints(Observer):
    """Keeps the newest checkpoints in --checkpoint_dir: W, b, and as JSON the step, its figures and the run's flags."""

    def __init__(self, state: State):
        super().__init__(state)
        self.folder = writable_folder("checkpoint_dir", state.config.checkpoint_dir or "")
        self.kept = tf.Variable("", dtype=tf.string)
        self.cost = {"written": 0, "seconds": 0.0}

    def before_run(self) -> None:
        """Takes the folder, and goes on from the newest checkpoint in it."""
        try:
            self.lock = locked(self.folder / ".lock", wait=False)
        except filelock.Timeout:
            raise InputError(
                f"--checkpoint_dir={self.folder}: another run is using it; take another folder"
            ) from None
        self._remove_parts()
        config = self.state.config
        try:
            self.saved_step = self._resume()
            check_writable("record", config.record, config.overwrite or self.saved_step is not None)
        except InputError:
            self.lock.release()
            raise
        try:
            tf.train.get_checkpoint_state(self.folder)
        except ValueError:  # the file that names the newest is damaged: the next save makes it anew
            (self.folder / "checkpoint").unlink()
        checkpoint = self._checkpoint()
        # One more than are to be kept, so that the oldest goes only when the newest is on the disk.
        self.manager = tf.train.CheckpointManager(
            checkpoint, self.folder, KEEP + 1, checkpoint_name=NAME
        )

    def before_steps(self) -> None:
        """Writes a new run's first, which takes longer than the others, and finds a full disk now."""
        self._save()
        self.cost["seconds_at_start"] = self.cost["seconds"]

    def after_block(self, losses: np.ndarray, evaluated: bool) -> None:
        if self.state.step % self.state.config.checkpoint_every == 0 or stopping.asked():
            self._save()

    def after_run(self, record: dict[str, Any]) -> None:
        """Keeps the end, and puts into the record what all checkpoints took, and what the first of a new run did."""
        self._save()
        record["checkpoints"] = self.cost
        self.lock.release()

    def _save(self) -> None:
        """Writes the checkpoint of this step unless it is there; raises RunError, the older ones kept, if it cannot."""
        step = self.state.step
        if step == self.saved_step:
            return
        began = time.perf_counter()
        figures = {name: getattr(self.state, name) for name in FIGURES} | {
            "seconds": self.state.training_seconds()
        }
        self.kept.assign(json.dumps({"format": FORMAT, "figures": figures, "run": self._run()}))
        try:
            self.manager.save(checkpoint_number=step)
            # TensorFlow does not wait
            synced(*(f"{self._path(step)}{suffix}" for suffix in WHOLE), self.folder)
            # those behind it are damaged
            for old in [each for each in self._steps() if each <= step][:-KEEP]:
                for suffix in WHOLE:
                    (self.folder / f"{NAME}-{old}{suffix}").unlink(missing_ok=True)
        except (tf.errors.OpError, OSError) as error:
            self._remove_parts()
            raise RunError(
                f"--checkpoint_dir={self.folder}: cannot write the checkpoint of step {step:,}: {reason(error)}. "
                "The checkpoints before it are kept: make room and start again"
            ) from None
        self.saved_step = step
        self.cost["seconds"] += time.perf_counter() - began
        self.cost["written"] += 1

    def _run(self) -> dict[str, Any]:
        """Returns what makes this run this run, and what may change its last bits."""
        identity = {
            name: value
            for name, value in self.state.config.as_dict().items()
            if name not in flags.CAN_CHANGE
        }
        place = dict(
            zip(
                PLACE,
                (np.__version__, tf.__version__, devices.threads(), devices.cores()),
                strict=True,
            )
        )
        return (
            identity | place | {"checksum": self.state.dataset.checksum, "order": self.state.order}
        )

    def _resume(self) -> int | None:
        """Puts the newest whole checkpoint into the state and returns its step; None without one."""
        for step in sorted(self._steps(), reverse=True):
            try:
                state = read(self._path(step))
            except (tf.errors.OpError, ValueError, LookupError) as error:
                print(
                    f"{self._path(step)} is damaged and passed over: {reason(error)}",
                    file=sys.stderr,
                )
                continue
            if (found := state.get("format", 1)) != FORMAT:
                raise InputError(
                    f"--checkpoint_dir={self.folder}: its checkpoints have format {found}, this version of the "
                    f"program reads format {FORMAT}; go on with the version that wrote them, or give another folder"
                )
            self._check(state["run"], state["figures"]["step"])
            try:
                restored = self._checkpoint().read(str(self._path(step)))
                restored.assert_existing_objects_matched()
            except AssertionError:  # a variable that the checkpoint does not have
                raise InputError(
                    f"--checkpoint_dir={self.folder}: its checkpoints are of a model with other "
                    "variables; go on with the version that wrote them, or give another folder"
                ) from None
            for name in (*FIGURES, "seconds"):
                setattr(self.state, name, state["figures"][name])
            print(f"goes on from {self._path(step)}")
            return step
        return None

    def _checkpoint(self) -> tf.train.Checkpoint:
        """Returns what is saved: all variables of the model, and the run as JSON."""
        return tf.train.Checkpoint(model=self.state.model, state=self.kept)

    def _check(self, kept: Mapping[str, Any], step: int) -> None:
        """Raises InputError unless the checkpoint is of this run, and says what may change its last bits."""
        # one from before a flag was added has its default
        kept = flags.training_config().as_dict() | dict(kept)
        other = {
            name: value for name, value in self._run().items() if value != kept.get(name, value)
        }
        for name, value in other.items():
            if name in (*flags.ROUNDING, *PLACE):
                continue
            flag, was = f"--{name}={value}", f"--{name}={kept[name]}"
            if name == "checksum":
                flag, was = "data", "other examples"
            if name == "order":
                source = "memory" if value == "buffers" else "stream"
                flag, was = (
                    f"--input={self.state.config.input}",
                    f"another order of the examples, --input={source}",
                )
            raise InputError(
                f"{flag}: the run kept in --checkpoint_dir={self.folder} has {was}; "
                "go on with that, or give another folder"
            )
        if step > self.state.total_steps:
            raise InputError(
                f"--checkpoint_dir={self.folder}: its run is at step {step:,}, this one ends at step "
                f"{self.state.total_steps:,}; give more --epochs or --max_steps, or another folder"
            )
        if other:
            now, before = (
                ", ".join(
                    f"{'--' * (name in flags.ROUNDING)}{name}={values[name]}" for name in other
                )
                for values in (other, kept)
            )
            order = "the order of the examples and " if "numpy" in other else ""
            print(f"{now}, before {before}: {order}the last bits may differ", file=sys.stderr)

    def _path(self, step: int) -> pathlib.Path:
        return self.folder / f"{NAME}-{step}"

    def _steps(self) -> list[int]:
        """Returns the steps of the checkpoints that have both their files, in order."""
        found = [(PART.fullmatch(path.name), path) for path in self.folder.iterdir()]
        names = {path.name for _, path in found}
        steps = {int(match[1]) for match, _ in found if match and match[1]}
        return sorted(
            step for step in steps if {f"{NAME}-{step}{suffix}" for suffix in WHOLE} <= names
        )

    def _remove_parts(self) -> None:
        """Removes what a write that did not come to its end has left."""
        whole = {f"{NAME}-{step}{suffix}" for step in self._steps() for suffix in WHOLE}
        for path in self.folder.iterdir():
            if PART.fullmatch(path.name) and path.name not in whole:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def read(path: pathlib.Path) -> dict[str, Any]:
    """Returns the run that a checkpoint describes, once all of it has been read.

    Raises OpError, ValueError or LookupError where a CRC-32 of TensorFlow's, a length or the JSON
    shows damage.
    """
    reader = tf.train.load_checkpoint(path)
    tensors = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    return json.loads(tensors["state" + VALUE])
