"""Classifies images: python predict.py --model=EXPORT_DIR digit.png ...

`python train.py --export_dir=EXPORT_DIR` writes EXPORT_DIR. Images are PNG, JPEG, WebP, GIF, BMP or
TIFF files of at most 50 million pixels; a larger JPEG is read at a reduced size. A drawn or
photographed digit is inverted, cropped and centred like MNIST's where needed.
"""

import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from absl import flags

sys.path.insert(0, os.path.dirname(__file__))  # python -P does not add it

from common import commandline, pictures
from common.commandline import Config
from common.errors import InputError, exit_with_one_line, reason, say
from common.files import plain_path

SURE = 0.6  # minimum probability of a sure answer


class Model(NamedTuple):
    """Classifies images of `image_shape`, uint8, whose ink fills `box` (height, width).

    probabilities: returns the probability of each class for an image.
    """

    probabilities: Callable[[np.ndarray], np.ndarray]
    class_names: list[str]
    image_shape: tuple[int, int, int]
    box: tuple[int, int]


def predict_flags() -> flags.FlagValues:
    """Returns the flags of predict.py."""
    values = flags.FlagValues()
    group = commandline.group("Predict", values)
    commandline.define_path(
        "model", "The SavedModel folder that train.py --export_dir wrote.", **group
    )
    flags.DEFINE_boolean(
        "invert",
        None,
        "The ink is dark on light; --noinvert: light on dark; default: detected.",
        **group,
    )
    flags.DEFINE_boolean(
        "center",
        None,
        "Crop to the ink and centre it; --nocenter: use the whole image; default: if needed.",
        **group,
    )
    flags.DEFINE_boolean("json", False, "Print one JSON object instead of bars.", **group)
    return values


def load(folder: pathlib.Path) -> Model:
    """Returns the model in `folder`; raises InputError unless train.py exported it.

    NumPy computes answers from the plain weights beside the SavedModel. Without these weights
    TensorFlow does, which takes seconds to start.
    """
    try:
        names = (folder / "assets/class_names.txt").read_text(encoding="utf-8").splitlines()
        images = json.loads((folder / "assets/images.json").read_text())
        shape, box = tuple(images["shape"]), tuple(images["box"])
        answer = plain(folder / "weights.npz") or served(folder)
        if (
            len(answer(np.zeros(shape, np.uint8))) != len(names)
            or min(box[0], box[1], shape[2]) < 1
        ):
            raise ValueError("its names of classes or its images.json do not fit its weights")
    except Exception as error:  # TensorFlow raises various errors for a file that is not a model
        must = "must be a folder that `python train.py --export_dir=FOLDER` wrote"
        raise InputError(f"--model={folder}: {must}: {reason(str(error))}") from None
    return Model(answer, names, shape, box)


def plain(path: pathlib.Path) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns a function that answers with NumPy; None, with a line, if the file is damaged."""
    try:
        with np.load(path) as arrays:
            W, b = arrays["W"], arrays["b"]
    except Exception as error:  # NumPy raises various errors for a damaged file too
        say(f"{path}: {reason(error)}: TensorFlow answers, which takes longer")
        return None

    def answer(image: np.ndarray) -> np.ndarray:
        logits = image.reshape(-1) / 255 @ W + b
        powers = np.exp(logits - logits.max())
        return powers / powers.sum()

    return answer


def served(folder: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that answers with TensorFlow."""
    from runtime import startup

    with startup.starting():
        import tensorflow as tf

        # an image needs no GPU, and a training run may be using it
        tf.config.set_visible_devices([], "GPU")
    with plain_path(folder) as place:
        loaded = tf.saved_model.load(str(place))

    def answer(image: np.ndarray) -> np.ndarray:
        # through `loaded`, whose variables live as long as it does
        answers = loaded.signatures["serving_default"](images=tf.constant(image[None]))
        return answers["probabilities"].numpy()[0]

    return answer


def show(path: str, names: list[str], probabilities: np.ndarray) -> None:
    """Prints the class of an image and the probability of each class as a bar."""
    print(f"{path}: {names[probabilities.argmax()]}")
    width = max(map(len, names))
    for name, share in zip(names, probabilities, strict=True):
        print(f"  {name:{width}} {share:.4f} {'█' * round(40 * share)}".rstrip())


def answered(model: Model, config: Config, path: str) -> dict[str, Any]:
    """Returns what --json prints of an image; without --json also shows it. Raises InputError."""
    image, done, hint = pictures.prepare(
        path, model.image_shape, model.box, config.invert, config.center
    )
    probabilities = model.probabilities(image)
    *others, best = probabilities.argsort().tolist()
    if hint is None and probabilities[best] < SURE:
        hint = f"not sure: {model.class_names[best]} or {model.class_names[others[-1]]}"
    prepared = ", ".join(done)
    if remarks := "; ".join(filter(None, (prepared, hint))):
        say(f"{path}: {remarks}")
    if not config.json:
        show(path, model.class_names, probabilities)
    return {
        "file": path,
        "class": best,
        "name": model.class_names[best],
        "probabilities": probabilities.tolist(),
        "prepared": prepared or "as it is",
        "hint": hint,
    }


def main() -> int:
    """Classifies the images and names those that cannot be read; returns 2 if there are any."""
    config = commandline.parse(predict_flags(), sys.argv, __doc__, arguments="images")
    if not config.model:
        raise InputError(
            "--model: name the folder that `python train.py --export_dir=FOLDER` wrote; see --help"
        )
    if not config.images:
        raise InputError("no image: name at least one file, such as digit.png; see --help")
    # bars and names that stdout cannot encode become `?`
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    model = load(pathlib.Path(config.model))
    images, errors = [], []
    for path in config.images:
        try:
            images.append(answered(model, config, path))
        except InputError as error:
            say(f"error: {path}: {error}")
            errors.append({"file": path, "error": str(error)})
    if config.json:
        found = {
            "model": config.model,
            "class_names": model.class_names,
            "images": images,
            "errors": errors,
        }
        print(json.dumps(found, indent=2))
    return 2 if errors else 0


if __name__ == "__main__":
    exit_with_one_line(main)
