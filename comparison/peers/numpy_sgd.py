"""NumPy: the gradient by hand, softmax(x @ W + b) - one_hot(y)."""

import numpy as np

from comparison import worker
from comparison.peers import Peer, scaled
from comparison.work import Work


class NumpySGD(Peer):
    """Gathers and converts a block of batches at once, then takes its steps one by one.

    W is kept as [classes, features], which makes its update faster.
    """

    def __init__(self, work: Work, device: str):
        super().__init__(work, device)
        self.one_hot = np.eye(work.num_classes, dtype=np.float32)

    def take_steps(self, rows: np.ndarray) -> None:
        """Takes a step on each batch of `rows` [steps, batch]."""
        images, labels = scaled(self.work.images[rows]), self.one_hot[self.work.labels[rows]]
        for x, y in zip(images, labels, strict=True):
            logits = x @ self.W + self.b
            delta = np.exp(logits - logits.max(axis=1, keepdims=True))
            delta /= delta.sum(axis=1, keepdims=True)
            delta -= y
            delta *= np.float32(self.work.lr)
            self.W -= (delta.T @ x).T
            self.b -= delta.sum(axis=0)

    def compile(self) -> None:
        self.reset()
        self.take_steps(next(self.work.blocks()))
        self.num_correct()

    def reset(self) -> None:
        shape = self.work.num_features, self.work.num_classes
        self.W = np.zeros(shape, np.float32, order="F")
        self.b = np.zeros(self.work.num_classes, np.float32)

    def train(self) -> None:
        # Converted, 500 images still fit in a core's cache.
        for rows in self.work.blocks(most_steps=max(1, 500 // self.work.batch_size)):
            self.take_steps(rows)

    def num_correct(self) -> int:
        logits = scaled(self.work.test_images) @ self.W + self.b
        return int((logits.argmax(axis=1) == self.work.test_labels).sum())

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        return self.W, self.b


def best(work: worker.Work) -> worker.Train:
    """Returns what does the job in NumPy: a block of batches is gathered and converted at once.

    W is [classes, features] in memory, which makes its update faster. Converted, 500 images still
    fit in a core's cache.
    """
    one_hot = np.eye(work.num_classes, dtype=np.float32)
    block_steps = max(1, 500 // work.batch_size)

    def train() -> tuple[np.ndarray, np.ndarray]:
        W = np.zeros((work.num_features, work.num_classes), np.float32, order="F")
        b = np.zeros(work.num_classes, np.float32)
        for rows in work.blocks(block_steps):
            images, labels = scaled(work.images[rows]), one_hot[work.labels[rows]]
            for x, y in zip(images, labels, strict=True):
                logits = x @ W + b
                delta = np.exp(logits - logits.max(axis=1, keepdims=True))
                delta /= delta.sum(axis=1, keepdims=True)
                delta -= y
                delta *= np.float32(work.lr)
                W -= (delta.T @ x).T
                b -= delta.sum(axis=0)
        return W, b

    return train
