"""Finds the strokes of a digit on a picture, among light, lines, boxes and rims."""

from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

SIDE = 1000  # pixels of the longer side of a picture, at most
SMALL = 100  # pixels of the longer side of the copy on which the ground is found
WIDE = 0.35  # of the copy's shorter side: what is wider is ground
CORE, FAINT = 0.45, 0.15  # of the strongest ink: a stroke, and perhaps a printed line
CONTRAST = 10  # grey levels that ink differs from its ground by, at least
THIN = 10  # pixels: a printed line is thinner
# Thickness of strokes, in boxes of 20: what is outside of the first two becomes the others.
THINNEST, THICKEST, THICKENED, THINNED = 1.7, 4.6, 2.6, 4.0


class Ink(NamedTuple):
    """How much each pixel differs from its ground, float32 [height, width], and what was seen."""

    strength: np.ndarray
    dark: bool
    uneven: bool


class Digit(NamedTuple):
    """Strokes, float32 [height, width] in 0..1, cropped; what was done; why it may be misread."""

    strokes: np.ndarray
    done: list[str]
    doubt: str | None


class Lines(NamedTuple):
    """Pixels of parallel lines, uint8; their angle; the longest one's share of the picture."""

    zone: np.ndarray
    angle: float
    length: float
    spread: float  # pixels from the first to the last, on a copy of SIDE / 3


def find(image: Image.Image, dark: bool | None) -> Digit | None:
    """Returns the digit on an RGB image, None where it has no ink; `dark` says how ink differs."""
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    ink = ink_on(image, dark)
    strength, doubt = ink.strength, None
    noise = float(np.median(np.abs(np.diff(strength, axis=0, prepend=0))))
    floor = max(CONTRAST, 5 * noise)
    if cv2.GaussianBlur(strength, (0, 0), 1).max() < floor:
        return None
    done = ["inverted"] * ink.dark + ["evened out"] * ink.uneven
    peak = peak_of(strength)
    gone = printed_lines((strength > max(FAINT * peak, 3 * noise)).astype(np.uint8))
    rest = strength * (1 - gone)
    if gone.any() and rest.max() > floor:
        left = (rest > CORE * peak).sum() / (strength > CORE * peak).sum()
        doubt = "its lines are as strong as its ink" if left < 0.15 else None
        strength, done = rest, [*done, "lines left out"]
    strength = cv2.GaussianBlur(strength, (0, 0), max(strength.shape) / 700)
    strength = strength / peak_of(strength)
    mask, others = one_shape((strength > CORE).astype(np.uint8))
    if others:
        doubt = f"there are {others + 1} shapes on it, of which this is the largest"
    return Digit(of_usual_thickness(strength, mask), done, doubt)


def ink_on(image: Image.Image, dark: bool | None) -> Ink:
    """Returns what differs from the ground along the axis on which colours differ most."""
    copy = image.copy()
    copy.thumbnail((SMALL, SMALL), Image.Resampling.BOX)
    pixels, small = (np.asarray(each, np.float32) for each in (image, copy))
    covariance = np.cov(small.reshape(-1, 3), rowvar=False, bias=True)
    axis = np.linalg.eigh(covariance)[1][:, -1].astype(np.float32)
    axis = axis if axis.sum() > 0 else -axis
    kernel = np.ones([int(WIDE * SMALL)] * 2)
    values = small @ axis
    if dark is None:
        border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
        # The third moment: ink is less than its ground, on the border too where it reaches that.
        inner, outer = (((each - each.mean()) ** 3).mean() for each in (values, border))
        dark = bool(inner + outer / 2 < 0)

    def ground(values: np.ndarray) -> np.ndarray:
        side = cv2.MORPH_CLOSE if dark else cv2.MORPH_OPEN
        smooth = cv2.GaussianBlur(cv2.morphologyEx(values, side, kernel), (0, 0), 1.5)
        return cv2.resize(smooth, image.size)

    strength = (pixels @ axis - ground(values)) * (-1 if dark else 1)
    light = ground(small.mean(axis=2))
    if dark:  # ink sends back a share of the light that falls on it
        strength *= light.max() / light.clip(16)
    return Ink(strength, dark, bool(np.ptp(light) > 24))


def peak_of(strength: np.ndarray) -> float:
    """Returns the strength of full ink."""
    return float(np.percentile(strength[strength > strength.max() / 2], 75))


def printed_lines(mask: np.ndarray) -> np.ndarray:
    """Returns which pixels are of lines across the whole picture, or of a box; uint8."""
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5)))
    level, upright = (level_lines(np.ascontiguousarray(view)) for view in (mask, mask.T))
    both = level.zone | upright.zone.T
    is_square = abs(level.angle + upright.angle - np.pi) < np.radians(2.5)
    is_box = is_square and max(level.spread, upright.spread) > 15
    across = [level.length > 0.8, upright.length > 0.8]
    if is_box and (any(across) or both.sum() < 0.8 * mask.sum()):
        return cv2.dilate(both, np.ones((3, 3)))
    return cv2.dilate(level.zone * across[0] | upright.zone.T * across[1], np.ones((3, 3)))


def level_lines(mask: np.ndarray) -> Lines:
    """Returns the thin lines within 6 degrees of level that are parallel to the longest one."""
    zone = np.zeros_like(mask)
    thin = mask - cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((THIN, 1)))
    scale = SIDE / 3 / max(mask.shape)
    reduced = cv2.resize(thin * 255, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    lines = cv2.HoughLinesWithAccumulator(
        (reduced > 40).astype(np.uint8),
        rho=1,
        theta=np.radians(0.25),
        threshold=1 + int(0.12 * scale * max(cv2.boundingRect(mask)[2:])),
        min_theta=np.radians(84),
        max_theta=np.radians(96),
    )
    if lines is None:
        return Lines(zone, 0.0, 0.0, 0.0)
    lines = lines.reshape(-1, 3)
    _, angle, votes = lines[0]
    lines = lines[(abs(lines[:, 1] - angle) < np.radians(1.2)) & (lines[:, 2] > votes / 2)]
    for rho, theta, _ in lines:
        left = (rho + 0.5) / scale / np.sin(theta)
        right = left - mask.shape[1] / np.tan(theta)
        cv2.line(zone, (0, round(left)), (mask.shape[1], round(right)), 1, THIN + 3)
    return Lines(zone & thin, angle, votes / reduced.shape[1], np.ptp(lines[:, 0]))


def one_shape(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the largest shape with what is near it, and how many others are of its kind.

    A shape that encloses another one, or lies along the border, is a frame.
    """
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((7, 7)))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(closed)
    areas = stats[:, 4] * (np.arange(len(stats)) > 0)
    shapes = np.flatnonzero(areas > 0.05 * areas.max())
    frames = [n for n in shapes if is_frame(stats[n], stats[shapes], mask.shape)]
    if len(frames) < len(shapes):
        areas[frames] = 0
    largest = int(areas.argmax())
    apart = cv2.distanceTransform((labels != largest).astype(np.uint8), cv2.DIST_L2, 5)
    near = np.unique(labels[apart < 0.15 * stats[largest, 2:4].max()])
    others = np.delete(areas, near) > areas[largest] / 4
    return mask * np.isin(labels, near[areas[near] > 0]), int(others.sum())


def is_frame(shape: np.ndarray, others: np.ndarray, size: tuple[int, ...]) -> bool:
    """Says whether a shape encloses another one, or is a bar along the border, by OpenCV's stats."""
    left, top, width, height, _ = shape
    x, y, w, h, _ = others.T
    inside = (x > left) & (y > top) & (x + w < left + width) & (y + h < top + height)
    if (h[inside] > 0.3 * height).any():
        return True
    at_border = left == 0 or top == 0 or left + width == size[1] or top + height == size[0]
    return at_border and len(others) > 1 and (width > 0.6 * size[1] or height > 0.6 * size[0])


def of_usual_thickness(strength: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns the strokes of `mask`, as thick as MNIST's, cropped."""
    side = max(cv2.boundingRect(mask)[2:])
    strength, mask = (np.pad(each, side // 5 + 2) for each in (strength, mask))
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    ridge = depth[(depth == cv2.dilate(depth, np.ones((3, 3)))) & (mask > 0)]
    unit = side / 20
    thickness = (2 * np.median(ridge) - 1) / unit
    strokes = strength.clip(0, 1) * cv2.dilate(mask, np.ones((5, 5)))
    if thickness < THINNEST:
        distance = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
        strokes = (distance < (THICKENED - thickness) / 2 * unit).astype(np.float32)
    elif thickness > THICKEST:
        strokes = (depth > (thickness - THINNED) / 2 * unit).astype(np.float32)
    x, y, width, height = cv2.boundingRect((strokes > CORE).astype(np.uint8))
    return strokes[y : y + height, x : x + width]
