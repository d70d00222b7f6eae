"""The trained model as a SavedModel, usable without this project: uint8 images in, probabilities and classes out."""

import contextlib
import json
import pathlib
import tempfile
from typing import Any

import filelock
import numpy as np
import tensorflow as tf

import data
import model
from common.errors import InputError, RunError, before_leaving, reason
from common.files import (
    OURS,
    is_free,
    locked,
    tidy,
    whole_folder,
    writable_folder,
)
from outputs.observers import Observer
from runtime.state import State

SAMPLE = 1_000  # images that say how large ink is


class Export(Observer):
    """Writes --export_dir after the run; raises InputError before it when that cannot be, or must not."""

    def __init__(self, state: State):
        super().__init__(state)
        self.target = pathlib.Path(state.config.export_dir or "").absolute()
        writable_folder("export_dir", self.target.parent)
        if self.target.parent.exists():
            self._take()
            self._leave()

    def before_run(self) -> None:
        self._take()
        before_leaving.append(self._leave)

    def _take(self) -> None:
        """Locks the place, which two runs must not write to, and clears away what a killed one has left."""
        self.place = self.target.with_name(f"{OURS}.{self.target.name}.lock")
        try:
            self.lock = locked(self.place, wait=False)
        except filelock.Timeout:
            raise InputError(
                f"--export_dir={self.target}: another run writes to it; take another folder"
            ) from None
        except OSError as error:
            why = f"{self.place} cannot be written: {reason(error)}; remove it, or take another folder"
            raise InputError(f"--export_dir={self.target}: {why}") from None
        try:
            tidy(self.target)
            self._check()
        except BaseException:
            self._leave()
            raise

    def _check(self) -> None:
        """Raises InputError where something is that must not be replaced."""
        if is_free(self.target):
            return
        if not self.state.config.overwrite:
            raise InputError(
                f"--export_dir={self.target}: is there already; give --overwrite, or another folder"
            )
        if not (self.target / "saved_model.pb").is_file():
            raise InputError(
                f"--export_dir={self.target}: is not a SavedModel, and --overwrite replaces nothing else"
            )

    def after_run(self, record: dict[str, Any]) -> None:
        """Writes the model beside its place, then renames it into it; raises RunError when the disk will not."""
        try:
            with whole_folder(self.target) as folder:
                write(self.state.model, self.state.dataset, folder)
        except (tf.errors.OpError, OSError) as error:
            raise RunError(
                f"--export_dir={self.target}: cannot be written: {reason(error)}"
            ) from None
        finally:
            self._leave()
        print(f"exported to {self.target}")

    def _leave(self, at_once: bool = False) -> None:
        """Frees the place, where nothing is left of a run that failed."""
        if not self.lock.is_locked:
            return
        with contextlib.suppress(OSError):  # Windows removes no open file
            self.place.unlink()  # still locked: who has just opened it sees that it is gone
        self.lock.release()


def write(softmax: model.SoftmaxRegression, dataset: data.Dataset, folder: pathlib.Path) -> None:
    """Writes the SavedModel of `softmax` to `folder`, with plain weights beside it that NumPy can answer from.

    Its assets are class_names.txt, and images.json with the shape of an image and the box that ink fills.
    """

    # The rank is open, so that one signature takes [n, height, width, channels] and [n, features].
    @tf.function(input_signature=[tf.TensorSpec(None, tf.uint8, name="images")], autograph=False)
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        x = model.scale(tf.reshape(images, [tf.shape(images)[0], dataset.num_features]))
        probabilities = softmax(x)
        return {"probabilities": probabilities, "classes": tf.argmax(probabilities, axis=1)}

    with tempfile.TemporaryDirectory() as assets:
        names, images = (pathlib.Path(assets, name) for name in ("class_names.txt", "images.json"))
        names.write_text("".join(f"{name}\n" for name in dataset.class_names), encoding="utf-8")
        images.write_text(json.dumps({"shape": dataset.image_shape, "box": ink_box(dataset)}))
        exported = tf.Module(name="softmax_regression")
        exported.class_names, exported.images = (
            tf.saved_model.Asset(str(names)),
            tf.saved_model.Asset(str(images)),
        )
        exported.softmax, exported.serve = softmax, serve
        tf.saved_model.save(exported, str(folder), signatures={"serving_default": serve})
    # says which SavedModel the weights belong to
    fingerprint = np.fromfile(folder / "fingerprint.pb", np.uint8)
    np.savez(
        folder / "weights.npz", W=softmax.W.numpy(), b=softmax.b.numpy(), fingerprint=fingerprint
    )


def ink_box(dataset: data.Dataset) -> list[int]:
    """Returns the height and width of what is not black in the largest of the training images: MNIST's are 20 x 20."""
    inked = dataset.train.images[:SAMPLE].reshape(-1, *dataset.image_shape).max(axis=3) > 0

    def longest(lines: np.ndarray) -> int:  # [n, side] bool
        return int(
            np.percentile(lines.shape[1] - lines.argmax(axis=1) - lines[:, ::-1].argmax(axis=1), 99)
        )

    return [longest(inked.any(axis=2)), longest(inked.any(axis=1))]
