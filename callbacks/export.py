"""The trained model as a SavedModel, which needs TensorFlow but not this project."""

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
from callbacks.base import Callback, writing
from common.errors import InputError, before_leaving, reason
from common.files import OURS, is_free, locked, tidy, whole_folder, writable_folder
from runtime.state import State

MAX_SAMPLE = 1_000  # images that say how large ink is


class Export(Callback):
    """Writes --export_dir after the run; two runs do not write to one place."""

    def __init__(self, state: State) -> None:
        """Locks the place, and clears away what a killed run has left there."""
        super().__init__(state)
        self.target = pathlib.Path(state.config.export_dir).absolute()
        writable_folder("export_dir", self.target.parent)
        self.place = self.target.with_name(f"{OURS}.{self.target.name}.lock")
        try:
            self.lock = locked(self.place, wait=False)
        except filelock.Timeout:
            raise self._refused("another run writes to it; take another folder") from None
        except OSError as error:
            raise self._refused(f"remove {self.place}: {reason(error)}") from None
        before_leaving.append(self.close)
        tidy(self.target)
        if not is_free(self.target):
            self._check_overwrite()

    def _check_overwrite(self) -> None:
        """Raises InputError where what is there must not be replaced."""
        why = ""
        if not self.state.config.overwrite:
            why = "is there already; give --overwrite, or another folder"
        elif not (self.target / "saved_model.pb").is_file():
            why = "is not a SavedModel, and --overwrite replaces nothing else"
        if why:
            self.close()
            raise self._refused(why)

    def _refused(self, why: str) -> InputError:
        return InputError(f"--export_dir={self.target}: {why}")

    def on_train_end(self, record: dict[str, Any]) -> None:
        """Writes the model beside its place, then renames it into it."""
        with writing("export_dir", self.target), whole_folder(self.target) as folder:
            write(self.state.model, self.state.dataset, folder)
        print(f"exported to {self.target}")

    def close(self) -> None:
        if self.lock.is_locked:
            with contextlib.suppress(OSError):  # Windows removes no open file
                self.place.unlink()  # still locked: who has just opened it sees that it is gone
            self.lock.release()


def write(softmax: model.SoftmaxRegression, dataset: data.Dataset, folder: pathlib.Path) -> None:
    """Writes the SavedModel of `softmax`: uint8 images in, probabilities and classes out.

    Beside it are plain weights, from which NumPy can answer. Its assets are class_names.txt, and
    images.json with the shape of an image and the box that ink fills.
    """

    # The rank is open, so that one signature takes [n, height, width, channels] and [n, features].
    @tf.function(input_signature=[tf.TensorSpec(None, tf.uint8, name="images")], autograph=False)
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        x = model.scale(tf.reshape(images, [tf.shape(images)[0], dataset.num_features]))
        probabilities = softmax(x)
        return {"probabilities": probabilities, "classes": tf.argmax(probabilities, axis=1)}

    exported = tf.Module(name="softmax_regression")
    exported.softmax, exported.serve = softmax, serve
    shapes = {"shape": dataset.image_shape, "box": ink_box(dataset)}
    names = "".join(f"{name}\n" for name in dataset.class_names)
    with tempfile.TemporaryDirectory(dir=folder.parent) as assets:
        exported.class_names = asset(assets, "class_names.txt", names)
        exported.images = asset(assets, "images.json", json.dumps(shapes))
        tf.saved_model.save(exported, str(folder), signatures={"serving_default": serve})
    # says which SavedModel the weights belong to
    fingerprint = np.fromfile(folder / "fingerprint.pb", np.uint8)
    weights = {"W": softmax.W.numpy(), "b": softmax.b.numpy()}
    np.savez(folder / "weights.npz", **weights, fingerprint=fingerprint)


def asset(folder: str, name: str, text: str) -> tf.saved_model.Asset:
    """Returns a new file as what a SavedModel takes with it."""
    path = pathlib.Path(folder, name)
    path.write_text(text, encoding="utf-8")
    return tf.saved_model.Asset(str(path))


def ink_box(dataset: data.Dataset) -> list[int]:
    """Returns height and width of what is not black in the largest images: MNIST's are 20 x 20."""
    sample = np.asarray(dataset.train.images[:MAX_SAMPLE])
    inked = sample.reshape(-1, *dataset.image_shape).max(axis=3) > 0

    def longest(lines: np.ndarray) -> int:  # [n, side] bool
        ends = lines.argmax(axis=1) + lines[:, ::-1].argmax(axis=1)
        return int(np.percentile(lines.shape[1] - ends, 99))

    return [longest(inked.any(axis=2)), longest(inked.any(axis=1))]
