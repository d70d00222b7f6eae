"""Pictures as MNIST was made: light ink on an even, dark ground, in a box, its centre of mass in the middle."""

import dataclasses
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, ImageStat, UnidentifiedImageError

from common.errors import InputError

MOST_PIXELS = 50_000_000  # of a photograph; decoded these take 200 MB
SIDE = 128  # pixels of the longer side at which ink is looked for
# of the strength of the ink: what belongs to a stroke, and what a stroke must have
EDGE, CORE = 0.15, 0.5
QUARTER = 0.3186  # of its deviation: below it lies a quarter of normal noise
LEAST_CONTRAST = 10  # grey levels
SHARE = 0.05  # of the largest shape: what is less is a speck
GAP = 0.15  # of the largest shape's longer side: what is nearer belongs to it
BORDER = 0.85  # of the way from the middle to the edge: what lies farther out
NEAR = 20  # of 441 that black and white are apart
WIDE = 1.6  # times its height: no digit is wider

Box = tuple[slice, slice]  # rows, columns


class Prepared(NamedTuple):
    """A picture as a model takes it: uint8 of its image shape, what was done to it, and why it may be misread."""

    pixels: np.ndarray
    done: list[str]
    doubt: str | None = None


@dataclasses.dataclass
class Ink:
    """Ink on its ground: strength [height, width] in grey levels, its noise and peak; dark on light, unevenly lit?"""

    strength: np.ndarray
    noise: float
    peak: float
    dark: bool
    uneven: bool


def prepare(
    path: str,
    shape: tuple[int, ...],
    box: tuple[int, ...],
    invert: bool | None = None,
    center: bool | None = None,
) -> Prepared:
    """Returns the picture in `path` as a model that takes `shape` has seen its own, in `box` (height, width).

    What stands so already stays as it is, and colour for a model of colours is only scaled. `invert` says whether the
    ink is dark on light, and `center` whether to crop and centre it; None: as it is found.

    Raises:
      InputError: no file, no PNG or JPEG, truncated, or larger than MOST_PIXELS, which is seen before decoding.
    """
    image = opened(path)
    of_colours = shape[2] > 1
    dark = light_ground(image) and not of_colours if invert is None else invert
    turned = image.convert("RGB" if of_colours else "L")
    turned = ImageOps.invert(turned) if dark else turned
    fits = turned.size == (shape[1], shape[0])
    whole = (
        center is False
        or of_colours
        or (center is None and fits and stands(np.asarray(turned), box))
    )
    if not whole:
        return drawn(image.convert("RGB"), shape, box, invert)
    fitted = (
        turned if fits else ImageOps.pad(turned, (shape[1], shape[0]), Image.Resampling.LANCZOS)
    )
    return Prepared(
        np.asarray(fitted).reshape(shape), ["inverted"] * dark + ["scaled to fit"] * (not fits)
    )


def opened(path: str) -> Image.Image:
    """Returns the picture in `path`, upright and opaque; raises InputError as `prepare` says."""
    Image.MAX_IMAGE_PIXELS = None  # ours is the lower bound, and an error from its first pixel on
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as file:
            if file.width * file.height > MOST_PIXELS:
                raise InputError(
                    f"{path}: is {file.width:,} x {file.height:,} pixels: must be at most {MOST_PIXELS:,}"
                )
            return opaque(ImageOps.exif_transpose(file))
    except UnidentifiedImageError:
        raise InputError(f"{path}: is not a PNG or JPEG image") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or f'is damaged: {error}'}") from None
    except (SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: is damaged: {error}") from None


def opaque(image: Image.Image) -> Image.Image:
    """Returns an image of 8 bits without transparency: on white where its ink is dark, on black where it is light."""
    if image.mode.startswith("I;16"):  # of which convert("L") would cut off all above 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        image.load()
        return image
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    light_ink = alpha.getbbox() and ImageStat.Stat(image.convert("L"), mask=alpha).mean[0] > 127
    return Image.alpha_composite(
        Image.new("RGBA", image.size, "black" if light_ink else "white"), image
    )


def light_ground(image: Image.Image) -> bool:
    """Says whether most of the image's border is light."""
    pixels = np.asarray(image.convert("L"))
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return bool(np.median(border) > 127)


def stands(pixels: np.ndarray, box: tuple[int, ...]) -> bool:
    """Says whether light ink of `pixels` [height, width] uint8 fills `box`, its centre of mass in the middle."""
    if box == pixels.shape:
        return True
    ink = pixels > 0
    if not ink.any() or np.median(pixels) > 0:
        return False
    found = bounds(ink)
    sides = [rows.stop - rows.start for rows in found]
    fills = max(side / most for side, most in zip(sides, box, strict=True))
    middle = np.array(pixels.shape) / 2
    return 0.9 <= fills <= 1 and bool((np.abs(centre(pixels) - middle) <= 1).all())


def bounds(mask: np.ndarray) -> Box:
    """Returns the rows and columns [from, to) of what is true."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def centre(pixels: np.ndarray) -> np.ndarray:
    """Returns the (row, column) of the centre of mass."""
    return (np.indices(pixels.shape) * pixels).sum(axis=(1, 2)) / pixels.sum()


def drawn(
    image: Image.Image, shape: tuple[int, ...], box: tuple[int, ...], dark: bool | None
) -> Prepared:
    """Returns the one shape of ink on an RGB picture, cropped, evened out and centred."""
    first = ink = ink_on(image, dark)
    if not visible(ink):
        return Prepared(np.zeros(shape, np.uint8), [], "there is nothing on it")
    kept, doubt = one_shape(ink)
    scale = max(image.size) / max(ink.strength.shape)
    rows, columns = bounds(kept)
    margin = max(rows.stop - rows.start, columns.stop - columns.start) // 3 + 2
    corners = (
        columns.start - margin,
        rows.start - margin,
        columns.stop + margin,
        rows.stop + margin,
    )
    left, top, right, bottom = (
        round(min(max(0, at * scale), most))
        for at, most in zip(corners, image.size * 2, strict=True)
    )
    closer = ink_on(image.crop((left, top, right, bottom)), dark if dark is not None else ink.dark)
    if visible(closer):
        ink, kept = closer, one_shape(closer)[0]
    found = bounds(kept)
    strokes = (ink.strength * kept)[found] / ink.peak
    height, width = strokes.shape
    done = ["inverted"] * ink.dark + ["evened out"] * first.uneven + ["cropped to its ink, centred"]
    if width > WIDE * height:
        doubt = doubt or "it is wider than a digit"
    return Prepared(centred(strokes, shape, box).reshape(shape), done, doubt)


def centred(strokes: np.ndarray, shape: tuple[int, ...], box: tuple[int, ...]) -> np.ndarray:
    """Returns `strokes` [height, width], 1 for full ink, scaled to `box`, its centre of mass amid `shape`, uint8."""
    ink = Image.fromarray((strokes.clip(0, 1) * 255).round().astype(np.uint8))
    factor = min(most / side for most, side in zip(box, strokes.shape, strict=True))
    height, width = (max(1, round(side * factor)) for side in strokes.shape)
    pixels = np.asarray(ink.resize((width, height), Image.Resampling.LANCZOS))
    tops = (np.array(shape[:2]) / 2 - centre(pixels)).round()
    top, left = tops.clip(0, np.array(shape[:2]) - pixels.shape).astype(int)
    canvas = np.zeros(shape[:2], np.uint8)
    canvas[top : top + height, left : left + width] = pixels
    return canvas


def ink_on(image: Image.Image, dark: bool | None) -> Ink:
    """Returns the ink on an RGB picture, reduced to SIDE: what differs from the ground along the main colour axis."""
    image = image.copy()
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    pixels = np.asarray(image, float)
    ground = ground_of(pixels)
    difference = (pixels - ground).reshape(-1, 3)
    axis = np.linalg.eigh(difference.T @ difference)[1][:, -1]
    strength = difference @ axis
    inked = (strength**3).sum()  # few pixels are ink, and they differ most
    turn = np.sign(inked) if dark is None else np.sign(axis.sum()) * (-1 if dark else 1)
    axis, strength = axis * turn, (strength * turn).reshape(pixels.shape[:2])
    light = ground.mean(axis=2)
    if is_dark := bool(axis.sum() < 0):  # the light falls on ink and paper alike
        strength = strength * light.max() / light.clip(16)
    noise = float(np.quantile(np.abs(strength), 0.25)) / QUARTER
    strong = strength[strength > strength.max() * CORE]
    peak = float(np.percentile(strong, 90)) if strong.size else 0.0
    return Ink(strength, noise, peak, is_dark, bool(np.ptp(light) > 24))


def ground_of(pixels: np.ndarray) -> np.ndarray:
    """Returns the ground [height, width, 3] below the ink: level, or curved, whichever more pixels are near.

    It is looked for along the border first, where a digit that fills the picture has least ink.
    """
    height, width = pixels.shape[:2]
    y, x = (
        part.ravel()
        for part in np.meshgrid(*(np.linspace(-1, 1, n) for n in (height, width)), indexing="ij")
    )
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=1)
    flat, border = pixels.reshape(-1, 3), np.maximum(np.abs(x), np.abs(y)) > BORDER
    level = surface = np.broadcast_to(np.median(flat[border], axis=0), flat.shape)
    for degrees, among in [(3, border)] * 4 + [(6, np.ones_like(border))] * 5:
        distance = np.linalg.norm(flat - surface, axis=1)
        spread = 5 * max(1.4826 * float(np.median(distance[among])), 2.0)
        weights = np.square((1 - np.square(distance / spread)).clip(0)) * among  # Tukey's biweight
        some = terms[:, :degrees]
        weighted = (some * weights[:, None]).T
        surface = some @ np.linalg.lstsq(weighted @ some, weighted @ flat, rcond=None)[0]
    near = [(np.linalg.norm(flat - ground, axis=1) < NEAR).sum() for ground in (level, surface)]
    return (surface if near[1] > near[0] else level).reshape(pixels.shape)


def visible(ink: Ink) -> bool:
    """Says whether there is ink at all."""
    return ink.peak > max(LEAST_CONTRAST, 5 * ink.noise)


def one_shape(ink: Ink) -> tuple[np.ndarray, str | None]:
    """Returns where the largest shape of ink is, with what lies close to it, and what speaks against one digit."""
    labels = labelled(ink.strength > max(EDGE * ink.peak, 3 * ink.noise))
    cores = np.bincount(labels.ravel(), (ink.strength > CORE * ink.peak).ravel())
    cores[0] = 0
    largest = int(cores.argmax())
    kept, others = (
        labels == largest,
        [int(n) for n in np.flatnonzero(cores > SHARE * cores.max()) if n != largest],
    )
    while near := [n for n in others if gap(bounds(labels == n), bounds(kept)) < GAP]:
        kept |= np.isin(labels, near)
        others = [n for n in others if n not in near]
    several = sum(cores[n] > cores.max() / 4 for n in others)
    return (
        kept,
        f"there are {several + 1} shapes on it, of which this is the largest" if several else None,
    )


def gap(one: Box, other: Box) -> float:
    """Returns how far two boxes are apart, as a share of the other's longer side."""
    apart = max(
        max(a.start, b.start) - min(a.stop, b.stop) for a, b in zip(one, other, strict=True)
    )
    return apart / max(side.stop - side.start for side in other)


def labelled(mask: np.ndarray) -> np.ndarray:
    """Returns a number for each connected shape of `mask` [height, width], 0 where it is false."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        grown = np.pad(labels, 1)
        grown = np.maximum(np.maximum(grown[:-2], grown[1:-1]), grown[2:])
        grown = np.maximum(np.maximum(grown[:, :-2], grown[:, 1:-1]), grown[:, 2:]) * mask
        if (grown == labels).all():
            return labels
        labels = grown
