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
EDGE = 0.015  # of the longer side: what comes as near to the border is at it
THIN = 10  # pixels: a printed line is thinner
# Thickness of strokes, in boxes of 20: what is less than the first becomes the second.
THINNEST, THICKENED = 1.7, 2.6


class Ink(NamedTuple):
    """How much each pixel differs from its ground, float32 [height, width]; by being darker?"""

    strength: np.ndarray
    dark: bool


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
    strength = ink.strength
    noise = float(np.median(np.abs(np.diff(strength, axis=0, prepend=0))))
    floor = max(CONTRAST, 5 * noise)
    if cv2.GaussianBlur(strength, (0, 0), 1).max() < floor:
        return None
    done = ["inverted"] * ink.dark
    peak = peak_of(strength)
    gone = printed_lines((strength > max(FAINT * peak, 3 * noise)).astype(np.uint8))
    rest = strength * (1 - gone)
    doubt = None
    if gone.any() and rest.max() > floor:
        left = (rest > CORE * peak).sum() / (strength > CORE * peak).sum()
        doubt = "its lines are as strong as its ink" if left < 0.15 else None
        strength, done = rest, [*done, "lines left out"]
    strength = cv2.GaussianBlur(strength, (0, 0), max(strength.shape) / 700)
    strength = strength / peak_of(strength)
    mask, shapes = one_shape((strength > CORE).astype(np.uint8))
    if shapes > 1:
        doubt = f"there are {shapes} shapes on it, of which this is the largest"
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
    return Ink(strength, dark)


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
    """Returns the largest shape with what is near it, and how many are of its kind.

    A shape at the picture's edge is a frame or a rim, if there is another one.
    """
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((7, 7)))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(closed)
    stats[0] = 0  # the ground
    left, top, width, height, areas = stats.T
    gap = np.min([left, top, mask.shape[1] - left - width, mask.shape[0] - top - height], axis=0)
    inner = areas * (gap > EDGE * max(mask.shape))
    if inner.max() > 0.05 * areas.max():
        areas = inner
    largest = int(areas.argmax())
    apart = cv2.distanceTransform((labels != largest).astype(np.uint8), cv2.DIST_L2, 5)
    near = np.unique(labels[apart < 0.15 * stats[largest, 2:4].max()])
    others = np.delete(areas, near) > areas[largest] / 4
    return mask * np.isin(labels, near[areas[near] > 0]), 1 + int(others.sum())


def of_usual_thickness(strength: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns the strokes of `mask`, thickened where they are far thinner than MNIST's, cropped."""
    unit = max(cv2.boundingRect(mask)[2:]) / 20
    strength, mask = (np.pad(each, int(THICKENED * unit)) for each in (strength, mask))
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    ridge = depth[(depth == cv2.dilate(depth, np.ones((3, 3)))) & (mask > 0)]
    thickness = (2 * np.median(ridge) - 1) / unit
    strokes = strength.clip(0, 1) * cv2.dilate(mask, np.ones((5, 5)))
    if thickness < THINNEST:
        distance = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
        strokes = (distance < (THICKENED - thickness) / 2 * unit).astype(np.float32)
    x, y, width, height = cv2.boundingRect((strokes > CORE).astype(np.uint8))
    return strokes[y : y + height, x : x + width]
