"""The trained model as a SavedModel, usable without this project: uint8 images in, probabilities and classes out."""

import pathlib
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

import tensorflow as tf

import model
from errors import InputError, RunError, reason
from extras import Observer
from files import writable_folder

if TYPE_CHECKING:
    from train import Trainer


class Extra(Observer):
    """Writes --export_dir after the run; raises InputError before it when that cannot be, or must not."""

    def __init__(self, trainer: "Trainer"):
        super().__init__(trainer)
        self.target = pathlib.Path(trainer.config.export_dir).expanduser().absolute()
        writable_folder("export_dir", self.target.parent)
        self.replaced = self.target.with_name(f".{self.target.name}.replaced")
        self._tidy()
        if not _is_free(self.target) and not trainer.config.overwrite:
            raise InputError(f"--export_dir={self.target}: is there already; give --overwrite, or another folder")
        if not _is_free(self.target) and not (self.target / "saved_model.pb").is_file():
            raise InputError(f"--export_dir={self.target}: is not a SavedModel, and --overwrite replaces nothing else")

    def after_run(self, record: dict[str, Any]) -> None:
        """Writes the model beside its place, then renames it into it; raises RunError when the disk will not."""
        try:
            with tempfile.TemporaryDirectory(prefix=f".{self.target.name}.new.", dir=self.target.parent) as folder:
                new = pathlib.Path(folder) / "model"
                write(self.trainer.model, self.trainer.dataset.class_names, self.trainer.dataset.num_features, new)
                if not _is_free(self.target):
                    self.target.rename(self.replaced)
                new.rename(self.target)
        except (tf.errors.OpError, OSError) as error:
            raise RunError(f"--export_dir={self.target}: cannot be written: {reason(error)}") from None
        finally:
            self._tidy()
        print(f"exported to {self.target}")

    def _tidy(self) -> None:
        """Undoes what a killed export has left; a model it had put aside and not replaced comes back."""
        if self.replaced.exists() and _is_free(self.target):
            self.replaced.rename(self.target)
        for leftover in (self.replaced, *self.target.parent.glob(f".{self.target.name}.new.*")):
            shutil.rmtree(leftover, ignore_errors=True)


def _is_free(path: pathlib.Path) -> bool:
    """Says whether nothing is at `path`, or a folder with nothing in it."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


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
