"""The trained model as a SavedModel, usable without this project: uint8 images in, probabilities and classes out."""

import pathlib
import tempfile
from typing import Any

import tensorflow as tf

import model
from common.errors import InputError, RunError, reason
from common.files import is_free, tidy, whole_folder, writable_folder
from outputs.observers import Observer
from runtime.state import State


class Export(Observer):
    """Writes --export_dir after the run; raises InputError before it when that cannot be, or must not."""

    def __init__(self, state: State):
        super().__init__(state)
        self.target = pathlib.Path(state.config.export_dir).expanduser().absolute()
        writable_folder("export_dir", self.target.parent)
        tidy(self.target)
        if not is_free(self.target) and not state.config.overwrite:
            raise InputError(f"--export_dir={self.target}: is there already; give --overwrite, or another folder")
        if not is_free(self.target) and not (self.target / "saved_model.pb").is_file():
            raise InputError(f"--export_dir={self.target}: is not a SavedModel, and --overwrite replaces nothing else")

    def after_run(self, record: dict[str, Any]) -> None:
        """Writes the model beside its place, then renames it into it; raises RunError when the disk will not."""
        try:
            with whole_folder(self.target) as folder:
                write(self.state.model, self.state.dataset.class_names, self.state.dataset.num_features, folder)
        except (tf.errors.OpError, OSError) as error:
            raise RunError(f"--export_dir={self.target}: cannot be written: {reason(error)}") from None
        print(f"exported to {self.target}")


def write(softmax: model.SoftmaxRegression, class_names: list[str], num_features: int, folder: pathlib.Path) -> None:
    """Writes the SavedModel of `softmax` to `folder`, its class names as the asset class_names.txt."""

    # The rank is open, so that one signature takes [n, height, width, channels] and [n, features].
    @tf.function(input_signature=[tf.TensorSpec(None, tf.uint8, name="images")], autograph=False)
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        x = model.scale(tf.reshape(images, [tf.shape(images)[0], num_features]))
        probabilities = softmax(x)
        return {"probabilities": probabilities, "classes": tf.argmax(probabilities, axis=1)}

    with tempfile.TemporaryDirectory() as assets:
        names = pathlib.Path(assets) / "class_names.txt"
        names.write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8")
        exported = tf.Module(name="softmax_regression")
        exported.softmax, exported.class_names, exported.serve = softmax, tf.saved_model.Asset(str(names)), serve
        tf.saved_model.save(exported, str(folder), signatures={"serving_default": serve})
