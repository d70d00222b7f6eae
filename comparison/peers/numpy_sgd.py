"""NumPy: the gradient by hand, softmax(x @ W + b) - one_hot(y)."""

import numpy as np

from comparison import worker
from comparison.peers import scaled


def best(work: worker.Work) -> worker.Train:
    """Returns a function that does the job in NumPy, and gathers a block of batches at once.

    W is [classes, features] in memory, which makes its update faster. The floats of 500 images fit
    in a core's cache.
    """
    one_hot = np.eye(work.num_classes, dtype=np.float32)

    def train() -> tuple[np.ndarray, np.ndarray]:
        W = np.zeros((work.num_features, work.num_classes), np.float32, order="F")
        b = np.zeros(work.num_classes, np.float32)
        for rows in work.blocks(max_rows=500):
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
