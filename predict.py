"""Says what is on images: python predict.py --model=EXPORT_DIR digit.png ...

EXPORT_DIR is what `python train.py --export_dir=EXPORT_DIR` wrote; images are PNG or JPEG files of any size.
"""

import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from common import flagging
from common.errors import InputError, exit_with_one_line, reason
from common.flagging import SWITCH, TEXT, flag

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

MOST_PIXELS = 50_000_000  # of a photograph; decoded these take 200 MB


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of predict.py."""

    model: str | None = flag(None, TEXT, "The SavedModel folder that train.py --export_dir wrote.")
    invert: bool = flag(False, SWITCH, "For dark on light: the model has seen light on dark.")
    center: bool = flag(False, SWITCH, "Crop to the digit and centre it as MNIST's are; for drawings and photographs.")
    json: bool = flag(False, SWITCH, "Print one JSON object, for machines, in place of bars.")
    images: tuple[str, ...] = flagging.arguments("PNG or JPEG files of any size.")


class Model:
    """A SavedModel that answers uint8 images with the probabilities of its classes."""

    def __init__(self, folder: pathlib.Path):
        """Raises InputError when `folder` is no SavedModel, or not one that takes images as ours do."""
        if not (folder / "saved_model.pb").is_file():
            raise InputError(
                f"--model={folder}: must be a folder that `python train.py --export_dir=FOLDER` wrote; "
                "it has no saved_model.pb"
            )
        from runtime import devices

        with devices.quiet():
            import tensorflow as tf

            tf.config.set_visible_devices([], "GPU")  # an image needs none, and a training may be using it
        try:
            self._load(folder)
        except Exception as error:  # TensorFlow has no one error for a file that is not a model
            raise InputError(f"--model={folder}: cannot be served: {reason(error)[:200]}") from None

    def _load(self, folder: pathlib.Path) -> None:
        import tensorflow as tf

        self.loaded = tf.saved_model.load(folder)
        self.serve = self.loaded.signatures["serving_default"]
        ((self.input_name, spec),) = self.serve.structured_input_signature[1].items()
        if spec.dtype != tf.uint8 or not {"probabilities", "classes"} <= set(self.serve.structured_outputs):
            raise ValueError("its serving_default must take uint8 images and return probabilities and classes")
        any_shape = spec.shape.rank is None  # images and features in a row; how many, the weights say
        taken = self.loaded.softmax.W_transposed.shape[1:] if any_shape else spec.shape[1:]
        self.image_shape, self.input_shape = _image_shape(taken), [1, -1] if any_shape else [1, *taken]

    def probabilities(self, image: "np.ndarray") -> "np.ndarray":
        """Returns the probabilities [classes] of an image of `image_shape`, uint8."""
        import tensorflow as tf

        images = tf.constant(image.reshape(self.input_shape))
        return self.serve(**{self.input_name: images})["probabilities"].numpy()[0]

    def class_names(self) -> list[str]:
        """Returns what the classes are called; their numbers where the model does not say."""
        if asset := getattr(self.loaded, "class_names", None):
            return pathlib.Path(asset.asset_path.numpy().decode()).read_text(encoding="utf-8").splitlines()
        return [str(number) for number in range(self.serve.structured_outputs["probabilities"].shape[1])]


def _image_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Returns (height, width, channels) for what a model takes; features in a row are a square, grey or RGB."""
    if len(shape) == 3:
        return tuple(shape)
    (features,) = shape
    for channels in (1, 3):
        side = math.isqrt(features // channels)
        if side * side * channels == features:
            return side, side, channels
    raise ValueError(f"its {features} features are no square image")


def read_image(
    path: str, shape: tuple[int, int, int], invert: bool = False, center: bool = False
) -> tuple["np.ndarray", str | None]:
    """Returns the image in `path` as uint8 of `shape`, light on dark, and what the user should know about it.

    An image of another size keeps its proportions: it is scaled to fit and stands in the middle.

    Raises:
      InputError: no file, no PNG or JPEG, truncated, or larger than MOST_PIXELS, which is seen before decoding.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # ours is the lower bound, and an error from its first pixel on
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as file:
            if file.width * file.height > MOST_PIXELS:
                raise InputError(f"{path}: is {file.width:,} x {file.height:,} pixels: must be at most {MOST_PIXELS:,}")
            image = _opaque(ImageOps.exif_transpose(file)).convert("L" if shape[2] == 1 else "RGB")
    except UnidentifiedImageError:
        raise InputError(f"{path}: is not a PNG or JPEG image") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or f'is damaged: {error}'}") from None
    except (SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: is damaged: {error}") from None
    light_ground = _light_ground(image)
    if invert:
        image = ImageOps.invert(image)
    fit = _centred if center else ImageOps.pad
    fitted = fit(image, (shape[1], shape[0]), Image.Resampling.LANCZOS)
    return np.asarray(fitted).reshape(shape), _hint(light_ground, invert) if shape[2] == 1 else None


def _centred(image: "Image.Image", size: tuple[int, int], filter: int) -> "Image.Image":
    """Returns light ink as MNIST's digits stand: 20 of 28 parts large, its centre of mass in the middle, on black."""
    import numpy as np
    from PIL import Image, ImageOps

    image = ImageOps.autocontrast(image, cutoff=(50, 0.1))  # most of the pixels are ground: they become 0
    box = image.point(lambda value: 255 * (value > 90)).getbbox()
    if box is None:
        return Image.new(image.mode, size)
    ink = ImageOps.contain(image.crop(box), tuple(side * 20 // 28 for side in size), filter)
    mass = np.asarray(ink.convert("L"), float)
    y, x = (np.indices(mass.shape) * mass).sum(axis=(1, 2)) / mass.sum()
    centred = Image.new(image.mode, size)
    centred.paste(ink, (round((size[0] - 1) / 2 - x), round((size[1] - 1) / 2 - y)))
    return centred


def _opaque(image: "Image.Image") -> "Image.Image":
    """Returns an image of 8 bits without transparency: on white where its ink is dark, on black where it is light."""
    import numpy as np
    from PIL import Image, ImageStat

    if image.mode.startswith("I;16"):  # of which convert("L") would cut off all above 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    light_ink = alpha.getbbox() and ImageStat.Stat(image.convert("L"), mask=alpha).mean[0] > 127
    return Image.alpha_composite(Image.new("RGBA", image.size, "black" if light_ink else "white"), image)


def _light_ground(image: "Image.Image") -> bool:
    """Says whether most of the image's border is light."""
    import numpy as np

    pixels = np.asarray(image.convert("L"))
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return bool(np.median(border) > 127)


def _hint(light_ground: bool, invert: bool) -> str | None:
    if light_ground and not invert:
        return "looks dark on light, and the model has seen light on dark: try --invert"
    if invert and not light_ground:
        return "looks light on dark already: try without --invert"
    return None


def show(path: str, names: list[str], probabilities: "np.ndarray") -> None:
    """Prints the class of an image and the probability of each class as a bar."""
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    best = int(probabilities.argmax())
    table = Table.grid(padding=(0, 1))
    for number, (name, share) in enumerate(zip(names, probabilities.tolist(), strict=True)):
        style = "bold" if number == best else ""
        table.add_row(Text(f"  {name}", style), Text(f"{share:.4f}", style), Bar(1, 0, share, width=40))
    console = Console(highlight=False)
    console.print(Text(f"{path}: {names[best]}", "bold"), soft_wrap=True)
    console.print(table)


def answer(model: Model, config: Config) -> dict[str, Any]:
    """Returns what --json prints; shows each image as it is answered, and what is wrong with one on stderr."""
    names, answers, refused = model.class_names(), [], []
    for path in config.images:
        try:
            image, hint = read_image(path, model.image_shape, config.invert, config.center)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            refused.append({"file": path, "error": str(error)})
            continue
        probabilities = model.probabilities(image)
        if hint:
            print(f"{path}: {hint}", file=sys.stderr)
        if not config.json:
            show(path, names, probabilities)
        found = {"file": path, "class": int(probabilities.argmax()), "name": names[probabilities.argmax()]}
        answers.append(found | {"probabilities": probabilities.tolist(), "hint": hint})
    return {"model": config.model, "class_names": names, "images": answers, "errors": refused}


def main() -> int:
    """Answers every image that can be read; returns 2 if one could not."""
    config = flagging.parse(Config, sys.argv, __doc__)
    if not config.model:
        raise InputError("--model: name the folder that `python train.py --export_dir=FOLDER` wrote; see --help")
    if not config.images:
        raise InputError("no image: name at least one PNG or JPEG file; see --help")
    sys.stdout.reconfigure(errors="replace")  # where bars and names cannot be written, `?` is
    answers = answer(Model(pathlib.Path(config.model)), config)
    if config.json:
        print(json.dumps(answers, indent=2))
    return 2 if answers["errors"] else 0


if __name__ == "__main__":
    exit_with_one_line(main)
