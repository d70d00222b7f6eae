"""Pictures for the tests of predict.py, and a model by hand that knows them."""

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


def digit_image(digit):
    """Two posts that fill MNIST's box of 20 x 20, and between them a bar that says the digit."""
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 4:10] = image[4:24, 18:24] = image[4 + 2 * digit : 6 + 2 * digit, 10:18] = 255
    return image


def softmax_by_hand(image):
    exponentials = np.exp(image.reshape(784).astype(np.float64) / 255 @ W.astype(np.float64) + B)
    return exponentials / exponentials.sum()


def save(path, image, **options):
    image.save(path, **options)
    return str(path)


def written(digit, size, height, pen, left=0.4):
    """Returns a digit by pen on a paper of `size` (width, height); ink is 1."""
    paper = Image.new("L", size)
    unit, top = height / 10, (size[1] - height) / 2
    corners = [divmod(int(each, 11), 11) for each in STROKES[digit].split()]
    points = [(left * size[0] + column * unit, top + row * unit) for column, row in corners]
    pencil = ImageDraw.Draw(paper)
    pencil.line(points, 255, pen, joint="curve")
    for point in points:
        pencil.circle(point, pen / 2, 255)
    return np.asarray(paper) / 255


def template(digit):
    """Returns the digit as MNIST has it, float [28, 28], by other means than the product."""
    ink = Image.fromarray(written(digit, (1120, 1120), 708, 92) * 255)
    small = np.asarray(ink.resize((28, 28), Image.Resampling.BOX))
    middle = [np.average(each, weights=small) for each in np.indices(small.shape)]
    return np.roll(small, np.round(14 - np.array(middle)).astype(int), axis=(0, 1))


def grid(size, step, width, tilt, both):
    """Returns the lines of a ruled, or squared, paper; ink is 1."""
    lines = np.arange(2000) % step < width
    paper = np.maximum(lines[:, None], lines * both) * 255.0
    box = (500, 500, 500 + size[0], 500 + size[1])
    tilted = Image.fromarray(paper.astype(np.uint8)).rotate(tilt, Image.Resampling.BICUBIC)
    return np.asarray(tilted.crop(box)) / 255


def frame(size, box, width):
    """Returns a rectangle at `box`, in shares of `size`; ink is 1."""
    paper = Image.new("L", size)
    ImageDraw.Draw(paper).rectangle(list(np.multiply(box, size * 2)), outline=255, width=width)
    return np.asarray(paper) / 255
