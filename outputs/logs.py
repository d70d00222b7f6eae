"""TensorBoard logs: the curves, the weights of each class as a picture, and the run's flags."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

import model
from common.errors import InputError, RunError, reason
from common.files import writable_folder
from outputs.observers import Observer
from runtime.state import State


class Logs(Observer):
    """Writes to --logdir at each evaluation, and at the end; a resumed run goes on in a further file of the folder."""

    def __init__(self, state: State):
        super().__init__(state)
        try:
            from tensorboard.plugins.hparams import api as hparams
        except ImportError:
            raise InputError(
                "--logdir needs TensorBoard: python -m pip install -r requirements/tensorboard.txt"
            ) from None
        folder = writable_folder("logdir", state.config.logdir)
        self.writer = tf.summary.create_file_writer(str(folder))
        self.logged = state.examples, 0.0
        values = {name: value for name, value in dataclasses.asdict(state.config).items() if value is not None}
        with self._writing():
            hparams.hparams(values)
            tf.summary.text("flags", "\n".join(f"    --{name}={value}" for name, value in values.items()), step=0)

    def after_block(self, losses: np.ndarray, evaluated: bool) -> None:
        """Adds a point to the curves; the speed is that of the steps since the one before."""
        if not evaluated:
            return
        examples, seconds = self.state.examples, self.state.ledger.parts["train"]
        speed = (examples - self.logged[0]) / (seconds - self.logged[1])
        self.logged = examples, seconds
        with self._writing():
            tf.summary.scalar("training_loss", self.state.loss, self.state.step)
            tf.summary.scalar("validation_accuracy", self.state.accuracies[-1][1], self.state.step)
            tf.summary.scalar("images_per_second", speed, self.state.step)

    def after_run(self, record: dict[str, Any]) -> None:
        """Adds the test accuracy and the pictures."""
        dataset, step = self.state.dataset, self.state.step
        with self._writing():
            tf.summary.scalar("test_accuracy", record["test_accuracy"], step)
            for name, picture in zip(dataset.class_names, pictures(self.state.model, dataset.image_shape), strict=True):
                tf.summary.image(f"weights/{name}", picture[np.newaxis], step)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Puts what is logged inside on the disk; raises RunError when that fails."""
        try:
            with self.writer.as_default():
                yield
            self.writer.flush()
        except (tf.errors.OpError, OSError) as error:
            raise RunError(f"--logdir={self.state.config.logdir}: cannot be written: {reason(error)}") from None


def pictures(softmax: model.SoftmaxRegression, image_shape: tuple[int, ...]) -> np.ndarray:
    """Returns the weights as images [classes, *image_shape] in [0, 1]: black speaks against, white for a class."""
    weights = softmax.W.numpy().T.reshape(-1, *image_shape)
    return 0.5 + weights / (2 * np.abs(weights).max() or 1.0)
