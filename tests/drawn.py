"""Pictures for the tests of predict.py, and a model by hand that knows them."""

import pathlib

import numpy as np
from PIL import Image

W = np.zeros((784, 10), np.float32)
for digit in range(10):
    W.reshape(28, 28, 10)[4 + 2 * digit : 6 + 2 * digit, 11:17, digit] = 0.5
B = np.linspace(-0.5, 0.5, 10, dtype=np.float32)


def digit_image(digit: int) -> np.ndarray:
    """Two posts that fill MNIST's box of 20 x 20, and from one to the other a bar that says the digit."""
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 4:10] = image[4:24, 18:24] = image[4 + 2 * digit : 6 + 2 * digit, 10:18] = 255
    return image


def softmax_by_hand(image: np.ndarray) -> np.ndarray:
    exponentials = np.exp(image.reshape(784).astype(np.float64) / 255 @ W.astype(np.float64) + B)
    return exponentials / exponentials.sum()


def save(path: pathlib.Path, image: Image.Image, **options: object) -> str:
    image.save(path, **options)
    return str(path)
