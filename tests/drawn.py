"""Pictures for the tests of predict.py, and a model by hand that knows them."""

import pathlib

import numpy as np
from PIL import Image, ImageDraw

W = np.zeros((784, 10), np.float32)
for digit in range(10):
    W.reshape(28, 28, 10)[4 + 2 * digit : 6 + 2 * digit, 11:17, digit] = 0.5
B = np.linspace(-0.5, 0.5, 10, dtype=np.float32)

# The digits' strokes, as corners (column, row) in a box of 6 x 10.
STROKES = {
    0: "10 50 63 67 5a 1a 07 03 10",
    1: "40 2a",
    2: "02 10 50 62 63 0a 6a",
    3: "00 50 62 54 24 54 67 5a 0a",
    4: "20 06 66 50 5a",
    5: "60 10 04 54 67 59 3a 0a",
    6: "50 14 08 2a 5a 68 56 16",
    7: "00 60 2a",
    8: "40 10 03 66 68 4a 2a 08 06 63 50 40",
    9: "62 40 10 03 25 54 62 5a",
}


def digit_image(digit: int) -> np.ndarray:
    """Two posts that fill MNIST's box of 20 x 20, and between them a bar that says the digit."""
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 4:10] = image[4:24, 18:24] = image[4 + 2 * digit : 6 + 2 * digit, 10:18] = 255
    return image


def softmax_by_hand(image: np.ndarray) -> np.ndarray:
    exponentials = np.exp(image.reshape(784).astype(np.float64) / 255 @ W.astype(np.float64) + B)
    return exponentials / exponentials.sum()


def save(path: pathlib.Path, image: Image.Image, **options: object) -> str:
    image.save(path, **options)
    return str(path)


def written(
    digit: int, size: tuple[int, int], height: float, pen: float, left: float = 0.4
) -> np.ndarray:
    """Returns a digit by pen on a paper of `size` (width, height); ink is 1."""
    paper = Image.new("L", size)
    unit, top = height / 10, (size[1] - height) / 2
    corners = [int(each, 11) for each in STROKES[digit].split()]
    points = [
        (left * size[0] + corner // 11 * unit, top + corner % 11 * unit) for corner in corners
    ]
    pencil = ImageDraw.Draw(paper)
    pencil.line(points, 255, round(pen), joint="curve")
    for x, y in points:
        pencil.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), 255)
    return np.asarray(paper) / 255


def template(digit: int) -> np.ndarray:
    """Returns the digit as MNIST has it, float [28, 28], by other means than the product."""
    ink = written(digit, (800, 1200), 1000, 130, left=0.1)
    rows, columns = np.nonzero(ink)
    cut = Image.fromarray(
        (255 * ink[rows.min() : rows.max(), columns.min() : columns.max()]).astype(np.uint8)
    )
    cut.thumbnail((20, 20), Image.Resampling.BOX)
    y, x = (np.average(each, weights=np.asarray(cut)) for each in np.indices(cut.size[::-1]))
    canvas = Image.new("L", (28, 28))
    canvas.paste(cut, (round(14 - x), round(14 - y)))
    return np.asarray(canvas).astype(float)


def grid(size: tuple[int, int], step: float, width: int, tilt: float, both: bool) -> np.ndarray:
    """Returns the lines of a ruled, or squared, paper; ink is 1."""
    paper = Image.new("L", (2000, 2000))
    pencil = ImageDraw.Draw(paper)
    for at in np.arange(7, 2000, step):
        pencil.line((0, at, 2000, at), 255, width)
        if both:
            pencil.line((at, 0, at, 2000), 255, width)
    box = (500, 500, 500 + size[0], 500 + size[1])
    return np.asarray(paper.rotate(tilt, Image.Resampling.BICUBIC).crop(box)) / 255


def frame(size: tuple[int, int], box: tuple[float, ...], width: int) -> np.ndarray:
    """Returns a rectangle at `box`, in shares of `size`; ink is 1."""
    paper = Image.new("L", size)
    corners = [share * size[n % 2] for n, share in enumerate(box)]
    ImageDraw.Draw(paper).rectangle(corners, outline=255, width=width)
    return np.asarray(paper) / 255
