"""Says what is on images: python predict.py --model=EXPORT_DIR digit.png ...

EXPORT_DIR is what `python train.py --export_dir=EXPORT_DIR` wrote; images are PNG or JPEG files of any size. A digit
drawn or photographed is inverted, evened out, cropped and centred as MNIST's are where it needs that.
"""

import dataclasses
import json
import math
import pathlib
import sys
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from common import flagging, pictures
from common.errors import InputError, exit_with_one_line, reason
from common.flagging import SWITCH, TEXT, flag

SURE = 0.6  # of the probability: an answer below it is said not to be sure
Answer = Callable[[np.ndarray], np.ndarray]  # an image, uint8 -> the probabilities of the classes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of predict.py."""

    model: str | None = flag(None, TEXT, "The SavedModel folder that train.py --export_dir wrote.")
    invert: bool | None = flag(
        None, SWITCH, "The ink is dark on light; --noinvert: light on dark; else as found."
    )
    center: bool | None = flag(
        None,
        SWITCH,
        "Crop to the ink and centre it, --nocenter: take the whole image; else where it needs that.",
    )
    json: bool = flag(False, SWITCH, "Print one JSON object, for machines, in place of bars.")
    images: tuple[str, ...] = flagging.arguments("PNG or JPEG files of any size.")


@dataclasses.dataclass(frozen=True)
class Model:
    """What answers an image of `image_shape`, uint8, with probabilities; its ink fills `box` (height, width)."""

    probabilities: Answer
    class_names: list[str]
    image_shape: tuple[int, ...]
    box: tuple[int, ...]


def load(folder: pathlib.Path) -> Model:
    """Returns the model in `folder`; raises InputError when it is no SavedModel, or none that takes images as ours do.

    NumPy alone answers from the plain weights beside it, TensorFlow, which takes seconds to start, without them.
    """
    if not (folder / "saved_model.pb").is_file():
        raise InputError(
            f"--model={folder}: must be a folder that `python train.py --export_dir=FOLDER` wrote; "
            "it has no saved_model.pb"
        )
    try:
        answer, taken, classes = plain(folder) or served(folder)
        return Model(answer, *described(folder / "assets", taken, classes))
    except Exception as error:  # TensorFlow has no one error for a file that is not a model
        raise InputError(f"--model={folder}: cannot be served: {reason(error)[:200]}") from None


def plain(folder: pathlib.Path) -> tuple[Answer, Sequence[int], int] | None:
    """Returns what answers, the shape it takes and its number of classes, with NumPy alone; None without plain weights.

    Weights that are damaged, or of another SavedModel than the one beside them, are said and not used.
    """
    try:
        with open(folder / "weights.npz", "rb") as file, np.load(file) as arrays:
            W, b, fingerprint = (arrays[name] for name in ("W", "b", "fingerprint"))
        if fingerprint.tobytes() != (folder / "fingerprint.pb").read_bytes():
            raise ValueError("belongs to another model")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        print(
            f"{folder}/weights.npz: {reason(error)}: TensorFlow answers, which takes longer",
            file=sys.stderr,
        )
        return None

    def answer(image: np.ndarray) -> np.ndarray:
        logits = image.reshape(-1) / 255 @ W + b
        powers = np.exp(logits - logits.max())
        return powers / powers.sum()

    return answer, W.shape[:1], W.shape[1]


def served(folder: pathlib.Path) -> tuple[Answer, Sequence[int], int]:
    """Returns what `plain` does, through TensorFlow; raises ValueError where the SavedModel's signature is another."""
    from runtime import startup

    with startup.starting():
        import tensorflow as tf

        # an image needs none, and a training may be using it
        tf.config.set_visible_devices([], "GPU")
    loaded = tf.saved_model.load(folder)
    serve = loaded.signatures["serving_default"]
    ((input_name, spec),) = serve.structured_input_signature[1].items()
    if spec.dtype != tf.uint8 or not {"probabilities", "classes"} <= set(serve.structured_outputs):
        raise ValueError(
            "its serving_default must take uint8 images and return probabilities and classes"
        )
    any_shape = spec.shape.rank is None  # images and features in a row; how many, the weights say
    taken = spec.shape[1:]
    if any_shape:
        softmax = loaded.softmax
        of_before = hasattr(softmax, "W_transposed")  # an export of before W was a variable
        taken = softmax.W_transposed.shape[1:] if of_before else softmax.W.shape[:1]

    def answer(image: np.ndarray) -> np.ndarray:
        images = tf.constant(image.reshape([1, *taken]))
        return serve(**{input_name: images})["probabilities"].numpy()[0].astype(float)

    answer.keep = loaded  # type: ignore[attr-defined] # its variables live as long as it does
    return answer, taken, serve.structured_outputs["probabilities"].shape[1]


def described(
    assets: pathlib.Path, taken: Sequence[int], classes: int
) -> tuple[list[str], tuple[int, ...], tuple[int, ...]]:
    """Returns names of classes, image shape and box of ink as `assets` say, else numbers, a square and MNIST's box."""
    names = [str(number) for number in range(classes)]
    if (file := assets / "class_names.txt").exists():
        names = file.read_text(encoding="utf-8").splitlines()
    if (file := assets / "images.json").exists():
        said = json.loads(file.read_text())
        shape, box = tuple(said["shape"]), tuple(said["box"])
    else:
        shape = image_shape(taken)
        box = tuple(side * 20 // 28 for side in shape[:2])
    if math.prod(shape) != math.prod(taken) or len(names) != classes:
        raise ValueError(
            f"its assets do not fit its {math.prod(taken)} features and {classes} classes"
        )
    return names, shape, box


def image_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Returns (height, width, channels) for what a model takes; features in a row are a square, grey or RGB."""
    if len(shape) == 3:
        return tuple(shape)
    (features,) = shape
    for channels in (1, 3):
        side = math.isqrt(features // channels)
        if side * side * channels == features:
            return side, side, channels
    raise ValueError(f"its {features} features are no square image")


def show(path: str, names: list[str], probabilities: np.ndarray) -> None:
    """Prints the class of an image and the probability of each class as a bar."""
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    best = int(probabilities.argmax())
    table = Table.grid(padding=(0, 1))
    for number, (name, share) in enumerate(zip(names, probabilities.tolist(), strict=True)):
        style = "bold" if number == best else ""
        table.add_row(
            Text(f"  {name}", style), Text(f"{share:.4f}", style), Bar(1, 0, share, width=40)
        )
    console = Console(highlight=False)
    console.print(Text(f"{path}: {names[best]}", "bold"), soft_wrap=True)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def answered(model: Model, config: Config, path: str) -> dict[str, Any]:
    """Returns what --json prints of an image, and shows it; raises InputError where it cannot be read."""
    image, done, hint = pictures.prepare(
        path, model.image_shape, model.box, config.invert, config.center
    )
    probabilities = model.probabilities(image)
    second, best = probabilities.argsort()[-2:]
    if hint is None and probabilities[best] < SURE:
        hint = f"not sure: {model.class_names[best]} or {model.class_names[second]}"
    prepared = ", ".join(done)
    if prepared or hint:
        print(f"{path}: {'; '.join(filter(None, (prepared, hint)))}", file=sys.stderr)
    if not config.json:
        show(path, model.class_names, probabilities)
    found = {"file": path, "class": int(best), "name": model.class_names[best]}
    return found | {
        "probabilities": probabilities.tolist(),
        "prepared": prepared or "as it is",
        "hint": hint,
    }


def main() -> int:
    """Answers every image that can be read, and names the others on stderr; returns 2 if one could not."""
    config = flagging.parse(Config, sys.argv, __doc__)
    if not config.model:
        raise InputError(
            "--model: name the folder that `python train.py --export_dir=FOLDER` wrote; see --help"
        )
    if not config.images:
        raise InputError("no image: name at least one PNG or JPEG file; see --help")
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr] # where bars and names cannot be written, `?` is
    model, answers, refused = load(pathlib.Path(config.model).expanduser()), [], []
    for path in config.images:
        try:
            answers.append(answered(model, config, path))
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            refused.append({"file": path, "error": str(error)})
    if config.json:
        found = {
            "model": config.model,
            "class_names": model.class_names,
            "images": answers,
            "errors": refused,
        }
        print(json.dumps(found, indent=2))
    return 2 if refused else 0


if __name__ == "__main__":
    exit_with_one_line(main)
