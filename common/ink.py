"""Finds the strokes of a digit on a picture, among light, lines, boxes and rims."""

from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

SIDE = 600  # pixels of the longer side of a picture
SMALL = 100  # pixels of the longer side of the copy on which the background is found
GROUND = 35  # pixels of the copy: wider shapes are background
WIDE = 1.6  # maximum width of a digit over its height
CORE, FAINT = 0.45, 0.15  # of the strongest ink: minimum of a stroke, and of a printed line
CONTRAST = 10  # minimum difference of ink from its background, in grey levels
NEAR = 31  # pixels: the gap between parts of a shape; half of it, to the edge
THIN = 6  # pixels: a printed line is thinner
# Thickness of strokes in a box of 20 pixels: below the first, it becomes the second.
THINNEST, THICKENED = 1.7, 2.6


class Prepared(NamedTuple):
    """A digit's strokes, float32 [height, width] in 0..1, or the image that a model takes, uint8.

    done: the changes to the picture. doubt: why it may be misread.
    """

    pixels: np.ndarray
    done: list[str]
    doubt: str | None = None


def find(image: Image.Image, dark: bool | None) -> Prepared | None:
    """Returns the digit on a picture of SIDE pixels, or None; `dark`: whether the ink is dark."""
    strength, dark = ink_on(image, dark)
    # light varies more smoothly than ink; noise differs between rows, and blurring reduces it
    floor = max(CONTRAST, np.median(np.abs(np.diff(strength, axis=0, prepend=0))))
    if (cv2.GaussianBlur(strength, (0, 0), 2) - cv2.blur(strength, (30, 30))).max() < floor:
        return None
    done, doubt = ["inverted"] * dark, None
    strength /= peak_of(strength)
    gone = printed_lines((strength > FAINT).astype(np.uint8))
    rest = strength * (1 - gone)
    if gone.any() and rest.max() > FAINT:
        strength = rest
        done.append("printed lines removed")
    strength = cv2.GaussianBlur(strength, (0, 0), 1.2)
    strength = strength / peak_of(strength)
    mask, shapes = one_shape((strength > CORE).astype(np.uint8))
    strokes = of_usual_thickness(strength, mask)
    if shapes > 1:
        doubt = f"there are {shapes} shapes on it, of which this is the largest"
    elif strokes.shape[1] > WIDE * strokes.shape[0]:
        doubt = "it is wider than a digit"
    return Prepared(strokes, [*done, "cropped to its ink, centred"], doubt)


def ink_on(image: Image.Image, dark: bool | None) -> tuple[np.ndarray, bool]:
    """Returns how much each pixel differs from the background, float32, and whether ink is darker.

    The difference is along the axis on which the colours vary most.
    """
    pixels = np.asarray(image, np.float32)
    small = np.asarray(image.reduce(SIDE // SMALL), np.float32)
    axis = cv2.PCACompute(small.reshape(-1, 3), np.empty(0))[1][0]
    axis *= np.copysign(1, axis.sum())
    if dark is None:
        dark = is_dark(small @ axis)
    if not dark:
        axis = -axis
    ground = cv2.resize(closed(small @ axis, GROUND), image.size)
    return np.maximum(ground - pixels @ axis, 0), dark


def is_dark(values: np.ndarray) -> bool:
    """Says whether the ink is darker than the background, by the third moment and the border.

    Ink is rarer than background, and is rarest at the left and right border.
    """
    values = values - values.mean()
    border = np.hstack([values[:, :3], values[:, -3:]])
    return bool((values**3).mean() < 0.7 * border.mean() * values.var())


def closed(values: np.ndarray, size: int) -> np.ndarray:
    """Returns values [height, width] without dark shapes narrower than `size`."""
    return cv2.morphologyEx(values, cv2.MORPH_CLOSE, np.ones((size, size)))


def peak_of(strength: np.ndarray) -> float:
    """Returns the strength of full ink."""
    return float(np.percentile(strength[strength > strength.max() / 2], 75))


def printed_lines(mask: np.ndarray) -> np.ndarray:
    """Returns the pixels of lines across the whole picture, or of a box, as a uint8 mask."""
    mask = closed(mask, 5)  # chalk has grains
    broad = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((THIN, THIN)))
    # a pen that is broader has not drawn such lines, so they may be those of a box
    share = 0.3 if broad.sum() > 0.2 * mask.sum() else 0.8
    return level_lines(mask, share) | level_lines(np.ascontiguousarray(mask.T), share).T


def level_lines(mask: np.ndarray, share: float) -> np.ndarray:
    """Returns the pixels of thin lines within 6 degrees of level and of this share of the width."""
    width = mask.shape[1]
    thin = cv2.morphologyEx(mask, cv2.MORPH_TOPHAT, np.ones((THIN, 1)))
    lines = cv2.HoughLinesP(
        thin,
        rho=1,
        theta=np.radians(0.25),
        threshold=width // 8,
        minLineLength=share * width,
        maxLineGap=0.3 * width,  # a digit may be on the line
    )
    zone = np.zeros_like(mask)
    if lines is not None:
        ends = lines.reshape(-1, 2, 2)
        across, down = np.abs(ends[:, 0] - ends[:, 1]).T
        cv2.polylines(zone, list(ends[down < 0.1 * across]), False, 1, THIN + 3)
    return zone & thin


def one_shape(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the largest shape, and the number of shapes of similar size.

    Ink belongs to a shape if it is NEAR to it. What is at the picture's edge is one shape, which
    counts little, because it may be a frame or a rim.
    """
    near = cv2.dilate(mask, np.ones((NEAR, NEAR)))
    _, labels = cv2.connectedComponents(np.pad(near, 1, constant_values=1))
    labels = labels[1:-1, 1:-1]
    areas = np.bincount(labels.ravel(), mask.ravel())  # of ink
    areas[1] /= 20  # what the border has joined
    largest = int(areas.argmax())
    others = np.delete(areas, [1, largest]) > areas[largest] / 4
    return mask * (labels == largest), 1 + int(others.sum())


def of_usual_thickness(strength: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns the strokes of `mask`, thickened where they are far thinner than MNIST's, cropped."""
    unit = max(cv2.boundingRect(mask)[2:]) / 20
    strength, mask = (np.pad(each, int(THICKENED * unit)) for each in (strength, mask))
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    thickness = 4 * depth[mask > 0].mean() / unit  # a stroke's pixels lie a quarter of it deep
    strokes = strength.clip(0, 1) * cv2.dilate(mask, np.ones((5, 5)))
    if thickness < THINNEST:
        distance = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
        strokes = (distance < (THICKENED - thickness) / 2 * unit).astype(np.float32)
    x, y, width, height = cv2.boundingRect((strokes > CORE).astype(np.uint8))
    return strokes[y : y + height, x : x + width]
