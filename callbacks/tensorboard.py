"""TensorBoard: curves, weights and flags in --logdir, and a trace in --profile."""

import contextlib
import time
from typing import Any

import numpy as np
import tensorflow as tf

from callbacks.base import Callback
from common.errors import InputError
from common.files import writable_folder
from runtime.state import State


class TensorBoard(Callback):
    """Writes to the run's folder at each evaluation and at the end.

    A resumed run continues in its folder.
    """

    def on_train_begin(self) -> None:
        state = self.state
        writable_folder("logdir", self.path)
        try:
            from tensorboard.plugins.hparams import api
        except ImportError:
            raise InputError(
                "--logdir needs TensorBoard: python -m pip install -r requirements/tensorboard.txt"
            ) from None
        state.log = state.log or time.strftime("%Y-%m-%d-%H-%M-%S")
        self.closing.enter_context(
            tf.summary.create_file_writer(str(self.path / state.log), max_queue=0).as_default()
        )
        api.hparams(
            {flag: value for flag, value in vars(state.config).items() if value is not None}
        )

    def on_block_end(self, losses: np.ndarray) -> None:
        """Adds a point to the curves."""
        state = self.state
        if state.accuracy is None:
            return
        curves = {
            "training_loss": state.loss,
            "validation_accuracy": state.accuracy,
            "images_per_second": state.examples_now / state.ledger.parts["train"],
        }
        for name, value in curves.items():
            tf.summary.scalar(name, value, state.step)

    def on_train_end(self, record: dict[str, Any]) -> None:
        """Adds the test accuracy and the pictures."""
        shown = pictures(self.state)
        tf.summary.scalar("test_accuracy", record["test_accuracy"], self.state.step)
        tf.summary.image("weights", shown, self.state.step, max_outputs=len(shown))


class Profile(Callback):
    """Writes a TensorFlow profiler trace of one block and its evaluation to --profile.

    It is the first block after --eval_first, but never the first of the run, which is slower.
    """

    trace: contextlib.ExitStack | None = None

    def on_train_begin(self) -> None:
        writable_folder("profile", self.path)

    def on_block_end(self, losses: np.ndarray) -> None:
        if self.trace:
            self.trace.close()  # which writes the trace, the first time
        elif self.state.step >= self.state.config.eval_first and not self.state.ends():
            self.trace = self.closing.enter_context(contextlib.ExitStack())
            self.trace.enter_context(tf.profiler.experimental.Profile(str(self.path)))

    def on_train_end(self, record: dict[str, Any]) -> None:
        if not self.trace:
            print("profile: no trace, the run had no warm block after --eval_first")


def pictures(state: State) -> np.ndarray:
    """Returns the weights as images [classes, *image_shape] in [0, 1]; white counts for a class."""
    weights = state.model.W.numpy().T.reshape(-1, *state.dataset.image_shape)
    return 0.5 + weights / (2 * abs(weights).max() or 1.0)
