"""TensorBoard: --logdir has curves, pictures of the weights, and the flags; --profile a trace."""

import contextlib
import itertools
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

import flags
import model
from callbacks.base import Callback, writing
from common.errors import InputError
from common.files import writable_folder
from runtime.state import State

# Flags that change neither what is trained nor what is logged: no folder is named after them.
UNNAMED = flags.PLACES | {"checkpoint_every", "overwrite", "timeout"}
MAX_LETTERS = 200  # of a folder's name; file systems take 255 bytes


class TensorBoard(Callback):
    """Writes to a folder of the run's own at each evaluation, and at the end.

    A resumed run goes on in its folder.
    """

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.folder = writable_folder("logdir", state.config.logdir)
        try:
            from tensorboard.plugins.hparams import api
        except ImportError:
            raise InputError(
                "--logdir needs TensorBoard: python -m pip install -r requirements/tensorboard.txt"
            ) from None
        given = state.config.as_dict().items()
        values = {name: value for name, value in given if value is not None}
        text = "\n".join(f"    --{name}={value}" for name, value in values.items())
        with writing("logdir", self.folder):
            state.log = state.log or new_folder(self.folder, name_of(state.config))
            self.writer = tf.summary.create_file_writer(str(self.folder / state.log))
        self.logged = state.examples, 0.0
        with self._writing():
            api.hparams(values)
            tf.summary.text("flags", text, step=0)

    def on_block_end(self, losses: np.ndarray, evaluated: bool) -> None:
        """Adds a point to the curves; the speed is that of the steps since the one before."""
        if not evaluated:
            return
        state = self.state
        examples, seconds = state.examples, state.ledger.parts["train"]
        speed = (examples - self.logged[0]) / (seconds - self.logged[1])
        self.logged = examples, seconds
        curves = {
            "training_loss": state.loss,
            "validation_accuracy": state.evaluations[-1][2],
            "images_per_second": speed,
        }
        with self._writing():
            for name, value in curves.items():
                tf.summary.scalar(name, value, state.step)

    def on_train_end(self, record: dict[str, Any]) -> None:
        """Adds the test accuracy and the pictures."""
        dataset, step = self.state.dataset, self.state.step
        shown = pictures(self.state.model, dataset.image_shape)
        with self._writing():
            tf.summary.scalar("test_accuracy", record["test_accuracy"], step)
            for name, picture in zip(dataset.class_names, shown, strict=True):
                tf.summary.image(f"weights/{name}", picture[np.newaxis], step)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Puts what is logged inside on the disk; raises RunError when that fails."""
        with writing("logdir", self.folder):
            with self.writer.as_default():
                yield
            self.writer.flush()


class Profile(Callback):
    """Writes a TensorFlow profiler trace of one block to --profile, and of its evaluation.

    It is the first one behind --eval_first, but never the first of all, which waits for what is
    done once.
    """

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.folder = writable_folder("profile", state.config.profile)
        self.start = min(state.config.eval_first, state.total_steps - 1)
        self.running = self.traced = False

    def on_block_end(self, losses: np.ndarray, evaluated: bool) -> None:
        self.close()
        if not (self.traced or self.state.ends()) and self.state.step >= self.start:
            with writing("profile", self.folder):
                tf.profiler.experimental.start(str(self.folder))
            self.running = self.traced = True

    def on_train_end(self, record: dict[str, Any]) -> None:
        if not self.traced:
            print("--profile: no trace, the run had no warm block", file=sys.stderr)

    def close(self) -> None:
        """Writes the trace, where the run ends in its block too."""
        if self.running:
            self.running = False
            with writing("profile", self.folder):
                tf.profiler.experimental.stop()


def name_of(config: flags.Config) -> str:
    """Returns the flags that differ from their defaults, as the name of a folder."""
    defaults = flags.training_config().as_dict()
    text = ",".join(
        f"{name}={value}"
        for name, value in config.as_dict().items()
        if name not in UNNAMED and value != defaults[name]
    )
    return re.sub(r"[^\w.,=+-]", "-", text)[:MAX_LETTERS] or "defaults"


def new_folder(parent: pathlib.Path, name: str) -> str:
    """Makes the folder `name` in `parent`, or name_2, name_3 and so on; returns its name."""
    for number in itertools.count(1):
        own = name if number == 1 else f"{name}_{number}"
        with contextlib.suppress(FileExistsError):
            (parent / own).mkdir()
            return own
    raise AssertionError


def pictures(softmax: model.SoftmaxRegression, image_shape: tuple[int, ...]) -> np.ndarray:
    """Returns the weights as images [classes, *image_shape] in [0, 1]: white speaks for a class."""
    weights = softmax.W.numpy().T.reshape(-1, *image_shape)
    return 0.5 + weights / (2 * np.abs(weights).max() or 1.0)
