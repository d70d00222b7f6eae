"""Softmax regression in float64 NumPy, and MNIST read by hand: they share no code with the
project."""

import gzip
import pathlib

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns exp(logits) / sum(exp(logits)) over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def loss(W: np.ndarray, b: np.ndarray, x: np.ndarray, labels: np.ndarray) -> float:
    """Returns the summed cross-entropy of x [batch, features] in [0, 1]."""
    return float(-np.log(softmax(x @ W + b)[np.arange(len(labels)), labels]).sum())


def gradients(
    W: np.ndarray, b: np.ndarray, x: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the gradients of `loss` for W and b."""
    error = softmax(x @ W + b) - np.eye(W.shape[1])[labels]
    return x.T @ error, error.sum(axis=0)


def train(
    images: np.ndarray,
    labels: np.ndarray,
    epochs: list[np.ndarray],
    batch: int,
    lr: float,
    mean: bool = False,
):
    """Returns W, b and the losses of plain SGD from zeros on uint8 images; an epoch is its order of
    examples."""
    classes = int(labels.max()) + 1
    W, b, losses = np.zeros((images.shape[1], classes)), np.zeros(classes), []
    for rows in (
        order[first : first + batch] for order in epochs for first in range(0, len(order), batch)
    ):
        x, divisor = images[rows] / 255, len(rows) if mean else 1
        losses.append(loss(W, b, x, labels[rows]) / divisor)
        gradient_W, gradient_b = gradients(W, b, x, labels[rows])
        W, b = W - lr / divisor * gradient_W, b - lr / divisor * gradient_b
    return W, b, np.array(losses)


def read_idx(path: pathlib.Path) -> np.ndarray:
    """Returns the array of an IDX archive, as http://yann.lecun.com/exdb/mnist/ describes the
    format."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def train_with_terms(images, labels, batch, config):
    """Returns W, b of SGD with an L2 penalty and a momentum, in the order of data.epoch_order."""
    classes = int(labels.max()) + 1
    W, b = np.zeros((images.shape[1], classes)), np.zeros(classes)
    velocity_W, velocity_b = np.zeros_like(W), np.zeros_like(b)
    batches = [
        order[first : first + batch]
        for epoch in range(config["epochs"])
        for order in [np.random.default_rng((config["seed"], epoch, 0)).permutation(len(labels))]
        for first in range(0, len(labels), batch)
    ]
    for rows in batches[: config["max_steps"]]:
        gradient_W, gradient_b = gradients(W, b, images[rows] / 255, labels[rows])
        velocity_W = config["momentum"] * velocity_W + gradient_W + 2 * config["l2"] * W
        velocity_b = config["momentum"] * velocity_b + gradient_b
        W, b = W - 0.02 / batch * velocity_W, b - 0.02 / batch * velocity_b
    return W, b
