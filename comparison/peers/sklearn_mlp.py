"""scikit-learn: MLPClassifier without a hidden layer is softmax regression, its SGD without momentum plain."""

import numpy as np
from sklearn.neural_network import MLPClassifier

from comparison.peers import Peer, scaled
from comparison.work import Work


class SklearnMLP(Peer):
    """Gathers and converts an epoch at once and gives it to `partial_fit`, unshuffled: its rows stand in their order.

    Its loss is the mean over a batch, so that its learning rate is that of the sum times the size of the batch.
    """

    def __init__(self, work: Work, device: str):
        super().__init__(work, device)
        plain = {"solver": "sgd", "alpha": 0.0, "momentum": 0.0, "shuffle": False}
        self.model = MLPClassifier(hidden_layer_sizes=(), batch_size=work.batch_size, **plain)

    def fit(self, rows: np.ndarray) -> None:
        """Takes a step on each batch of `rows` [n], all of one size."""
        if len(rows):
            batch_size = min(len(rows), self.work.batch_size)
            self.model.set_params(batch_size=batch_size)
            self.model._optimizer.learning_rate = self.work.lr * batch_size
            self.model.partial_fit(scaled(self.work.images[rows]), self.work.labels[rows])

    def compile(self) -> None:
        first = next(self.work.blocks()).reshape(-1)
        images, classes = scaled(self.work.images[first]), np.arange(self.work.num_classes)
        self.model.partial_fit(images, self.work.labels[first], classes=classes)
        self.num_correct()

    def reset(self) -> None:
        for array in (*self.model.coefs_, *self.model.intercepts_):
            array[:] = 0

    def train(self) -> None:
        for rows in self.work.epochs():
            full = len(rows) // self.work.batch_size * self.work.batch_size
            self.fit(rows[:full])
            self.fit(rows[full:])

    def num_correct(self) -> int:
        return int(
            (self.model.predict(scaled(self.work.test_images)) == self.work.test_labels).sum()
        )

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        return self.model.coefs_[0], self.model.intercepts_[0]
