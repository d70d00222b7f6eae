"""TensorBoard logs: the curves, the weights of each class as a picture, and the run's flags."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

import model
from errors import InputError, RunError, reason
from extras import Observer
from files import writable_folder

if TYPE_CHECKING:
    from plan import Block
    from train import Trainer


class Extra(Observer):
    """Writes to --logdir at each evaluation, and at the end; a resumed run goes on in a further file of the folder."""

    def __init__(self, trainer: "Trainer"):
        super().__init__(trainer)
        try:
            from tensorboard.plugins.hparams import api as hparams
        except ImportError:
            raise InputError(
                "--logdir needs TensorBoard: python -m pip install -r requirements-tensorboard.txt"
            ) from None
        folder = writable_folder("logdir", trainer.config.logdir)
        self.writer = tf.summary.create_file_writer(str(folder))
        self.logged = trainer.examples, 0.0
        values = {name: value for name, value in dataclasses.asdict(trainer.config).items() if value is not None}
        with self._writing():
            hparams.hparams(values)
            tf.summary.text("flags", "\n".join(f"    --{name}={value}" for name, value in values.items()), step=0)

    def after_block(self, block: "Block", losses: np.ndarray) -> None:
        """Adds a point to the curves; the speed is that of the steps since the one before."""
        if not block.evaluate:
            return
        examples, seconds = self.trainer.examples, self.trainer.ledger.parts["train"]
        speed = (examples - self.logged[0]) / (seconds - self.logged[1])
        self.logged = examples, seconds
        with self._writing():
            tf.summary.scalar("training_loss", self.trainer.loss, block.stop)
            tf.summary.scalar("validation_accuracy", self.trainer.accuracies[-1][1], block.stop)
            tf.summary.scalar("images_per_second", speed, block.stop)

    def after_run(self, record: dict[str, Any]) -> None:
        """Adds the test accuracy and the pictures."""
        dataset, step = self.trainer.dataset, self.trainer.step
        with self._writing():
            tf.summary.scalar("test_accuracy", record["test_accuracy"], step)
            for name, picture in zip(
                dataset.class_names, pictures(self.trainer.model, dataset.image_shape), strict=True
            ):
                tf.summary.image(f"weights/{name}", picture[np.newaxis], step)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Puts what is logged inside on the disk; raises RunError when that fails."""
        try:
            with self.writer.as_default():
                yield
            self.writer.flush()
        except (tf.errors.OpError, OSError) as error:
            raise RunError(f"--logdir={self.trainer.config.logdir}: cannot be written: {reason(error)}") from None


def pictures(softmax: model.SoftmaxRegression, image_shape: tuple[int, ...]) -> np.ndarray:
    """Returns the weights as images [classes, *image_shape] in [0, 1]: black speaks against, white for a class."""
    weights = softmax.W.numpy().T.reshape(-1, *image_shape)
    return 0.5 + weights / (2 * np.abs(weights).max() or 1.0)
