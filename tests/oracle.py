"""Softmax regression in float64 NumPy: it shares no code with the project."""

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


def train(images, labels, epochs, batch, lr, mean=False, l2=0.0, momentum=0.0):
    """Returns W, b and the losses of SGD from zeros on uint8 images.

    An epoch is its order of examples. The losses are those of an image in each batch.
    """
    classes = int(labels.max()) + 1
    W, b, losses = np.zeros((images.shape[1], classes)), np.zeros(classes), []
    velocity_W, velocity_b = np.zeros_like(W), np.zeros_like(b)
    for rows in (
        order[first : first + batch] for order in epochs for first in range(0, len(order), batch)
    ):
        x, divisor = images[rows] / 255, len(rows) if mean else 1
        summed = loss(W, b, x, labels[rows]) + divisor * l2 * (W**2).sum()
        losses.append(summed / len(rows))
        gradient_W, gradient_b = gradients(W, b, x, labels[rows])
        velocity_W = momentum * velocity_W + gradient_W / divisor + 2 * l2 * W
        velocity_b = momentum * velocity_b + gradient_b / divisor
        W, b = W - lr * velocity_W, b - lr * velocity_b
    return W, b, np.array(losses)


def assert_weights(found, W, b, atol=1e-5):
    """Compares what has the weights by their names: a model's variables, or a file of NumPy's."""
    np.testing.assert_allclose(found["W"], W, rtol=0, atol=atol)
    np.testing.assert_allclose(found["b"], b, rtol=0, atol=atol)
