"""The trained model as a SavedModel, which needs TensorFlow but not this project."""

import json
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.types.experimental import ConcreteFunction

import data
import model
from callbacks.base import Callback, writing
from common.errors import InputError, RunError
from common.files import OURS, is_free, real_path, tidy, whole_folder

MAX_SAMPLE = 1_000  # images on which the size of the ink is measured


class Export(Callback):
    """Writes --export_dir after the run, with a lock against a second run."""

    def on_train_begin(self) -> None:
        """Locks the folder, removes the remains of a killed run, and refuses other content."""
        self.target = target = real_path(self.path)
        # No name in `whole_folder` is longer, so a name that is too long is refused now.
        self.lock("export_dir", target.with_name(f"{OURS}.{target.name}.exporting.lock"))
        tidy(target)
        self._check(InputError)

    def _check(self, error: type[InputError | RunError]) -> None:
        """Raises `error` if --export_dir has something that must not be replaced."""
        replaced = self.state.config.overwrite and (self.target / "saved_model.pb").is_file()
        if not replaced and not is_free(self.target):
            raise error(
                f"--export_dir={self.path}: is there already; name another folder, or give "
                "--overwrite if it is a SavedModel"
            )

    def on_train_end(self, record: dict[str, Any]) -> None:
        """Writes the model beside its place, then renames it."""
        self._check(RunError)  # another program may have written there since
        with writing("export_dir", self.target), whole_folder(self.target) as folder:
            write(self.state.model, self.state.dataset, folder)
        print(f"exported to {self.target}")


def write(softmax: model.SoftmaxRegression, dataset: data.Dataset, folder: pathlib.Path) -> None:
    """Writes the SavedModel of `softmax`, and plain weights, which NumPy can read.

    The assets include class_names.txt, and images.json with the shape of an image and the box that
    the ink fills.
    """
    tf.saved_model.save(softmax, folder, signatures(softmax, dataset))
    assets = folder / "assets"
    (assets / "class_names.txt").write_text("\n".join(dataset.class_names), encoding="utf-8")
    (assets / "images.json").write_text(
        json.dumps({"shape": dataset.image_shape, "box": ink_box(dataset)})
    )
    np.savez(folder / "weights.npz", W=softmax.W.numpy(), b=softmax.b.numpy())


def signatures(
    softmax: model.SoftmaxRegression, dataset: data.Dataset
) -> dict[str, ConcreteFunction]:
    """Returns the signatures of the SavedModel, from uint8 images to probabilities and classes.

    `serving_default` accepts images [n, height, width, channels] or [n, features]; `images` accepts
    only the first shape, and reports it to a client.
    """

    @tf.function(autograph=False)
    def answers(images: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.reshape(images, [tf.shape(images)[0], dataset.num_features])
        probabilities = softmax(x)
        return {"probabilities": probabilities, "classes": tf.argmax(probabilities, axis=1)}

    shape = [None, *dataset.image_shape]
    return {
        # first, or TensorFlow would take the other one, which accepts these shapes too
        "images": answers.get_concrete_function(tf.TensorSpec(shape, tf.uint8)),
        "serving_default": answers.get_concrete_function(tf.TensorSpec(None, tf.uint8)),
    }


def ink_box(dataset: data.Dataset) -> list[int]:
    """Returns height and width of the ink in the largest images: 20 x 20 for MNIST."""
    images = dataset.train.images[:MAX_SAMPLE].reshape(-1, *dataset.image_shape)
    # the numbers of rows with ink, in whatever column and channel, then those of columns
    sides = [images.any(axis=(across, 3)).sum(axis=1) for across in (2, 1)]
    return np.percentile(sides, 99, axis=1).astype(int).tolist()
