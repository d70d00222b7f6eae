"""Makes pictures like MNIST's: light ink on black, in a box, its centre of mass in the middle."""

import contextlib
import warnings

import cv2
import numpy as np
from PIL import Image, ImageOps

from common import ink
from common.errors import InputError, reason
from common.ink import Prepared

MAX_PIXELS = 50_000_000  # 200 MB when decoded; for a JPEG, after its reduction
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def prepare(
    path: str,
    shape: tuple[int, int, int],
    box: tuple[int, int],
    invert: bool | None = None,
    center: bool | None = None,
) -> Prepared:
    """Returns the picture in `path` for a model that takes `shape`, its ink in `box`.

    A picture that already looks so stays unchanged. For a model of colours it is only scaled.
    `invert` says whether the ink is dark, and `center` whether to crop to it; None: detect it.

    Raises:
      InputError: `path` is not a picture, is damaged, has more than MAX_PIXELS, or is too thin.
    """
    image = opened(path)
    is_grey = shape[2] == 1
    whole = image.convert("L") if is_grey else image
    dark = is_grey and bool(np.median(np.asarray(whole)) > 127) if invert is None else invert
    whole = ImageOps.invert(whole) if dark else whole
    try:
        if is_grey and (center or (center is None and not stands(np.asarray(whole), shape, box))):
            if found := ink.find(ImageOps.contain(image, (ink.SIDE, ink.SIDE)), invert):
                return found._replace(pixels=centred(found.pixels, shape, box))
            return Prepared(np.zeros(shape, np.uint8), [], "there is nothing on it")
        fitted = ImageOps.pad(whole, (shape[1], shape[0]), Image.Resampling.LANCZOS)
    except ValueError:
        raise InputError("is too long and thin to be scaled to the model's images") from None
    done = ["inverted"] * dark + ["scaled to fit"] * (fitted.size != whole.size)
    return Prepared(np.asarray(fitted).reshape(shape), done)


def opened(path: str) -> Image.Image:
    """Returns the picture in `path`, upright, RGB, its longer side at most ink.SIDE pixels.

    Raises InputError as `prepare` says.
    """
    Image.MAX_IMAGE_PIXELS = None  # our limit is lower, and raises an error instead of a warning
    warnings.simplefilter("ignore")  # Pillow's, which would come before our line
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.draft(None, (2 * ink.SIDE, 2 * ink.SIDE))  # a large JPEG is decoded reduced
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"is {image.width:,} x {image.height:,} pixels: must be at most {MAX_PIXELS:,}"
                )
            image.load()
            with contextlib.suppress(Exception):  # unreadable tags make it fail
                ImageOps.exif_transpose(image, in_place=True)
            return opaque(image)
    except InputError:
        raise
    except Exception as error:  # Pillow raises various errors for a damaged file
        raise InputError(f"must be an image, {', '.join(FORMATS)}: {reason(error)}") from None


def opaque(image: Image.Image) -> Image.Image:
    """Returns an image as RGB; a transparent background becomes white for dark ink, else black."""
    if image.mode[0] in "IF":  # 16 bits and more, of which cameras use 10 or 12
        values = np.asarray(image, np.float32)
        grey = cv2.normalize(values, np.empty(0), 255, 0, cv2.NORM_INF, cv2.CV_8U)
        image = Image.fromarray(grey)
    image = image.convert("RGBA")
    image.thumbnail((ink.SIDE, ink.SIDE), Image.Resampling.BOX)
    colour = np.asarray(image.convert("RGBa"), int).sum(axis=(0, 1))  # weighted by alpha
    ground = "black" if colour[:3].mean() > colour[3] / 2 else "white"
    return Image.alpha_composite(Image.new("RGBA", image.size, ground), image).convert("RGB")


def stands(pixels: np.ndarray, shape: tuple[int, int, int], box: tuple[int, int]) -> bool:
    """Says whether light ink of `pixels` [height, width] fills `box`, and is centred by mass."""
    if pixels.shape != shape[:2]:
        return False
    if pixels.shape == box:
        return True
    width, height = cv2.boundingRect(pixels)[2:]
    fills = max(height / box[0], width / box[1])
    return 0.9 <= fills <= 1 and np.abs(centre(pixels) - np.divide(shape[:2], 2)).max() <= 1


def centre(pixels: np.ndarray) -> np.ndarray:
    """Returns the (row, column) of the centre of mass."""
    return (np.indices(pixels.shape) * pixels).sum(axis=(1, 2)) / pixels.sum()


def centred(strokes: np.ndarray, shape: tuple[int, int, int], box: tuple[int, int]) -> np.ndarray:
    """Returns strokes [height, width] in 0..1 as uint8, scaled to `box`, centred in `shape`."""
    image = Image.fromarray((strokes * 255).round().astype(np.uint8))
    digit = np.asarray(ImageOps.contain(image, (box[1], box[0]), Image.Resampling.BOX))
    corner = (np.divide(shape[:2], 2) - centre(digit)).round()
    y, x = corner.clip(0, np.subtract(shape[:2], digit.shape))
    moved = cv2.warpAffine(digit, np.array([[1, 0, x], [0, 1, y]]), (shape[1], shape[0]))
    return moved.reshape(shape)
