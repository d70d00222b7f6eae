"""TensorBoard: curves, weights and flags in --logdir, and a trace in --profile."""

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

import flags
import model
from callbacks.base import Callback, writing
from common.errors import InputError
from common.files import writable_folder

MAX_LETTERS = 200  # of a folder's name; file systems take 255 bytes


class TensorBoard(Callback):
    """Writes to the run's folder at each evaluation and at the end.

    A resumed run continues in its folder.
    """

    def on_train_begin(self) -> None:
        state, flags_given = self.state, self.state.config.as_dict().items()
        self.folder = writable_folder("logdir", state.config.logdir)
        try:
            from tensorboard.plugins.hparams import api
        except ImportError:
            raise InputError(
                "--logdir needs TensorBoard: python -m pip install -r requirements/tensorboard.txt"
            ) from None
        state.log = state.log or f"{name_of(state.config)},{time.strftime('%Y-%m-%d-%H-%M-%S')}"
        with writing("logdir", self.folder):
            self.writer = tf.summary.create_file_writer(str(self.folder / state.log))
        with self._writing():
            api.hparams({name: value for name, value in flags_given if value is not None})

    def on_block_end(self, losses: np.ndarray) -> None:
        """Adds a point to the curves."""
        if self.state.accuracy is None:
            return
        curves = {
            "training_loss": self.state.loss,
            "validation_accuracy": self.state.accuracy,
            "images_per_second": self.state.images_per_second(),
        }
        with self._writing():
            for name, value in curves.items():
                tf.summary.scalar(name, value, self.state.step)

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
        """Writes the logs of the `with` block to the disk; raises RunError if that fails."""
        with writing("logdir", self.folder), self.writer.as_default():
            yield
            self.writer.flush()


class Profile(Callback):
    """Writes a TensorFlow profiler trace of one block and its evaluation to --profile.

    It is the first block after --eval_first, but never the first of the run, which is slower.
    """

    def on_train_begin(self) -> None:
        self.folder = writable_folder("profile", self.state.config.profile)
        self.start = min(self.state.config.eval_first, self.state.total_steps - 1)
        self.traced = False
        self.trace = self.closing.enter_context(contextlib.ExitStack())  # its end writes the trace

    def on_block_end(self, losses: np.ndarray) -> None:
        self.trace.close()
        state = self.state
        if self.traced or state.ends() or state.step < self.start:
            return
        self.traced = True
        self.trace.enter_context(tf.profiler.experimental.Profile(str(self.folder)))

    def on_train_end(self, record: dict[str, Any]) -> None:
        traced = f"a block in {self.folder}; tracing counts as training time"
        print(f"profile: {traced if self.traced else 'no trace, the run had no warm block'}")


def name_of(config: flags.Config) -> str:
    """Returns the flags that differ from their defaults, as the name of a folder."""
    defaults = flags.training_config().as_dict()
    text = ",".join(
        f"{name}={value}"
        for name, value in config.as_dict().items()
        if name not in flags.PLACES and value != defaults[name]
    )
    return re.sub(r"[^\w.,=+-]", "-", text)[:MAX_LETTERS] or "defaults"


def pictures(softmax: model.SoftmaxRegression, image_shape: tuple[int, ...]) -> np.ndarray:
    """Returns the weights as images [classes, *image_shape] in [0, 1]; white counts for a class."""
    weights = softmax.W.numpy().T.reshape(-1, *image_shape)
    return 0.5 + weights / (2 * np.abs(weights).max() or 1.0)
