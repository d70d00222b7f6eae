"""Pictures as MNIST was made: light ink on black, in a box, its centre of mass in the middle."""

import contextlib
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps, ImageStat, UnidentifiedImageError

from common import ink
from common.errors import InputError, reason

MAX_PIXELS = 50_000_000  # decoded these take 200 MB; of a JPEG after it was reduced
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WIDE = 1.6  # times its height: no digit is wider


class Prepared(NamedTuple):
    """An image as a model takes it, uint8; what was done to it; why it may be misread."""

    pixels: np.ndarray
    done: list[str]
    doubt: str | None = None


def prepare(
    path: str,
    shape: tuple[int, ...],
    box: tuple[int, ...],
    invert: bool | None = None,
    center: bool | None = None,
) -> Prepared:
    """Returns the picture in `path` for a model that takes `shape`, its ink in `box`.

    What stands so already stays as it is, and colour for a model of colours is only scaled.
    `invert` says whether the ink is dark, `center` whether to crop to it; None: as it is found.

    Raises:
      InputError: `path` is no picture, is damaged, or has more than MAX_PIXELS.
    """
    image = opened(path)
    is_colour = shape[2] > 1
    grey = np.asarray(image.convert("L"))
    dark = bool(np.median(grey) > 127 and not is_colour) if invert is None else invert
    size = (shape[1], shape[0])
    if not is_colour and center is not False:
        fits = image.size == size and stands(255 - grey if dark else grey, box)
        if center or not fits:
            return drawn(image.convert("RGB"), shape, box, invert)
    whole = image.convert("RGB" if is_colour else "L")
    whole = ImageOps.invert(whole) if dark else whole
    done = ["inverted"] * dark
    if whole.size != size:
        whole = ImageOps.pad(whole, size, Image.Resampling.LANCZOS)
        done.append("scaled to fit")
    return Prepared(np.asarray(whole).reshape(shape), done)


def opened(path: str) -> Image.Image:
    """Returns the picture in `path`, upright and opaque; raises InputError as `prepare` says."""
    Image.MAX_IMAGE_PIXELS = None  # ours is the lower bound, and an error from its first pixel on
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.draft(None, (2 * ink.SIDE, 2 * ink.SIDE))  # a large JPEG is decoded reduced
            if image.width * image.height > MAX_PIXELS:
                found = f"is {image.width:,} x {image.height:,} pixels"
                raise InputError(f"{path}: {found}: must be at most {MAX_PIXELS:,}")
            turn = None
            with contextlib.suppress(Exception):  # cameras write tags that nobody can read
                turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
            image.load()
            return opaque(image if turn is None else image.transpose(turn))
    except UnidentifiedImageError:
        raise InputError(f"{path}: is not an image: must be {', '.join(FORMATS)}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from None


def opaque(image: Image.Image) -> Image.Image:
    """Returns an image of 8 bits, its transparent ground white if its ink is dark, else black."""
    if image.mode[0] in "IF":  # 16 bits and more, of which cameras use 10 or 12
        values = np.asarray(image, np.float32)
        return Image.fromarray((values / max(values.max(), 1) * 255).round().astype(np.uint8))
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    light_ink = alpha.getbbox() and ImageStat.Stat(image.convert("L"), mask=alpha).mean[0] > 127
    ground = Image.new("RGBA", image.size, "black" if light_ink else "white")
    return Image.alpha_composite(ground, image)


def stands(pixels: np.ndarray, box: tuple[int, ...]) -> bool:
    """Says whether light ink of `pixels` [height, width] fills `box`, its mass in the middle."""
    if box == pixels.shape:
        return True
    if np.median(pixels) > 0 or not pixels.any():
        return False
    width, height = cv2.boundingRect((pixels > 0).astype(np.uint8))[2:]
    fills = max(height / box[0], width / box[1])
    middle = np.array(pixels.shape) / 2
    return 0.9 <= fills <= 1 and bool((np.abs(centre(pixels) - middle) <= 1).all())


def centre(pixels: np.ndarray) -> np.ndarray:
    """Returns the (row, column) of the centre of mass."""
    return (np.indices(pixels.shape) * pixels).sum(axis=(1, 2)) / pixels.sum()


def drawn(
    image: Image.Image, shape: tuple[int, ...], box: tuple[int, ...], dark: bool | None
) -> Prepared:
    """Returns the digit that is drawn on an RGB picture."""
    found = ink.find(image, dark)
    if found is None:
        return Prepared(np.zeros(shape, np.uint8), [], "there is nothing on it")
    height, width = found.strokes.shape
    doubt = found.doubt or ("it is wider than a digit" if width > WIDE * height else None)
    done = [*found.done, "cropped to its ink, centred"]
    return Prepared(centred(found.strokes, shape, box).reshape(shape), done, doubt)


def centred(strokes: np.ndarray, shape: tuple[int, ...], box: tuple[int, ...]) -> np.ndarray:
    """Returns strokes [height, width] in 0..1 scaled to `box`, their mass amid `shape`, uint8."""
    factor = min(np.divide(box, strokes.shape))
    height, width = (max(1, round(side * factor)) for side in strokes.shape)
    pixels = cv2.resize(strokes, (width, height), interpolation=cv2.INTER_AREA)
    space = np.subtract(shape[:2], pixels.shape)
    top, left = np.divide(shape[:2], 2) - centre(pixels)
    top, left = np.round((top, left)).clip(0, space).astype(int)
    canvas = np.zeros(shape[:2], np.uint8)
    canvas[top : top + height, left : left + width] = (pixels * 255).round()
    return canvas
