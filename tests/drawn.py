"""Pictures for the tests of predict.py."""

import numpy as np
from PIL import Image, ImageDraw

# The digits' strokes, as corners (column, row) in a box of 6 x 10.
STROKES = {
    0: "10 50 63 67 5a 1a 07 03 10",
    2: "02 10 50 62 63 0a 6a",
    4: "20 06 66 50 5a",
    6: "50 14 08 2a 5a 68 56 16",
    8: "40 10 03 66 68 4a 2a 08 06 63 50 40",
}

# As MNIST has its digits: in a box of 20 x 20, its mass in the middle of black.
STANDING = np.zeros((28, 28), np.uint8)
STANDING[4:24, 4:10] = STANDING[4:24, 18:24] = STANDING[12:15, 10:18] = 255


def save(path, image, **options):
    image.save(path, **options)
    return str(path)


def grey(values):
    return Image.fromarray(np.asarray(values).clip(0, 255).astype(np.uint8))


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


def grid(size, step, tilt, both):
    """Returns the lines of a ruled, or squared, paper, 3 pixels wide; ink is 1."""
    rows, columns = np.indices(size[::-1])
    return ((rows + tilt * columns) % step < 3) | ((columns - tilt * rows) % step < 3) * both


def frame(size, box, width):
    """Returns a rectangle at `box`, in shares of `size`; ink is 1."""
    paper = Image.new("L", size)
    ImageDraw.Draw(paper).rectangle(list(np.multiply(box, size * 2)), outline=255, width=width)
    return np.asarray(paper) / 255
