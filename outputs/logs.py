"""TensorBoard logs: the curves, the weights of each class as a picture, and the run's flags."""

import contextlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

import flags
import model
from common.errors import InputError, RunError, reason
from common.files import writable_folder
from outputs.observers import Observer
from runtime.state import State

# Flags that change neither what is trained nor what is logged: no folder is named after them.
UNNAMED = flags.PLACES | {"checkpoint_every", "overwrite", "timeout"}
MOST_LETTERS = 200  # of a folder's name; file systems take 255 bytes


class Logs(Observer):
    """Writes to a folder of the run's own at each evaluation, and at the end; a resumed run goes on in its folder."""

    def __init__(self, state: State):
        super().__init__(state)
        try:
            from tensorboard.plugins.hparams import api as hparams
        except ImportError:
            raise InputError(
                "--logdir needs TensorBoard: python -m pip install -r requirements/tensorboard.txt"
            ) from None
        self.writer: tf.summary.SummaryWriter | None = None
        self.folder, self.hparams = (
            writable_folder("logdir", state.config.logdir or ""),
            hparams.hparams,
        )

    def before_run(self) -> None:
        """Makes the run's folder, unless it goes on in one, and writes the flags."""
        self.logged = self.state.examples, 0.0
        values = {
            name: value for name, value in self.state.config.as_dict().items() if value is not None
        }
        with self._writing():
            self.hparams(values)
            tf.summary.text(
                "flags",
                "\n".join(f"    --{name}={value}" for name, value in values.items()),
                step=0,
            )

    def after_block(self, losses: np.ndarray, evaluated: bool) -> None:
        """Adds a point to the curves; the speed is that of the steps since the one before."""
        if not evaluated:
            return
        examples, seconds = self.state.examples, self.state.ledger.parts["train"]
        speed = (examples - self.logged[0]) / (seconds - self.logged[1])
        self.logged = examples, seconds
        with self._writing():
            tf.summary.scalar("training_loss", self.state.loss, self.state.step)
            tf.summary.scalar("validation_accuracy", self.state.evaluations[-1][2], self.state.step)
            tf.summary.scalar("images_per_second", speed, self.state.step)

    def after_run(self, record: dict[str, Any]) -> None:
        """Adds the test accuracy and the pictures."""
        dataset, step = self.state.dataset, self.state.step
        with self._writing():
            tf.summary.scalar("test_accuracy", record["test_accuracy"], step)
            for name, picture in zip(
                dataset.class_names, pictures(self.state.model, dataset.image_shape), strict=True
            ):
                tf.summary.image(f"weights/{name}", picture[np.newaxis], step)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Puts what is logged inside on the disk; raises RunError when that fails."""
        try:
            if not self.writer:
                self.state.log = self.state.log or new_folder(
                    self.folder, name_of(self.state.config)
                )
                self.writer = tf.summary.create_file_writer(str(self.folder / self.state.log))
            with self.writer.as_default():
                yield
            self.writer.flush()
        except (tf.errors.OpError, OSError) as error:
            raise RunError(
                f"--logdir={self.state.config.logdir}: cannot be written: {reason(error)}"
            ) from None


def name_of(config: flags.Config) -> str:
    """Returns the flags that differ from their defaults, as the name of a folder."""
    defaults = flags.training_config().as_dict()
    text = ",".join(
        f"{name}={value}"
        for name, value in config.as_dict().items()
        if name not in UNNAMED and value != defaults[name]
    )
    return re.sub(r"[^\w.,=+-]", "-", text)[:MOST_LETTERS] or "defaults"


def new_folder(parent: pathlib.Path, name: str) -> str:
    """Makes the folder `name`, or where that is taken name_2, name_3 and so on, in `parent`, and returns its name."""
    own, number = name, 1
    while True:
        try:
            (parent / own).mkdir(parents=True)
            return own
        except FileExistsError:
            number += 1
            own = f"{name}_{number}"


def pictures(softmax: model.SoftmaxRegression, image_shape: tuple[int, ...]) -> np.ndarray:
    """Returns the weights as images [classes, *image_shape] in [0, 1]: black speaks against, white for a class."""
    weights = softmax.W.numpy().T.reshape(-1, *image_shape)
    return 0.5 + weights / (2 * np.abs(weights).max() or 1.0)
