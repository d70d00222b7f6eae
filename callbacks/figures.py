"""--figures=DIR: pictures of the training, the weights, the mistakes and some answers."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from callbacks.base import Callback, writing
from callbacks.tensorboard import pictures
from common import plots
from common.files import writable_folder
from runtime.state import State

MAX_CLASSES = 30  # with more classes the counts would be too small to read
COLUMNS = 5  # of a picture of images


class Figures(Callback):
    """Draws the pictures of a run at its end."""

    def on_train_begin(self) -> None:
        with plots.look():  # raises now if matplotlib is missing
            writable_folder("figures", self.path)

    def on_train_end(self, record: dict[str, Any]) -> None:
        probabilities = np.concatenate(
            [self.state.model(images) for images, _ in self.state.dataset.test.chunks()]
        )
        with plots.look(), writing("figures", self.path):
            for draw in (accuracy, weights, confusion, predictions):
                plots.save(draw(self.state, probabilities), self.path / f"{draw.__name__}.png")
        print(f"figures: in {self.path}")


def accuracy(state: State, probabilities: np.ndarray) -> "plots.Figure":
    """Returns validation accuracy and loss over steps."""
    steps, _, accuracies, losses = np.transpose(state.evaluations)
    figure = plots.figure(4.6, "Accuracy and loss")
    above, below = figure.subplots(2, sharex=True)
    above.semilogx(steps, accuracies, ".-")
    below.semilogx(steps, losses, ".-")
    above.set_ylabel("validation accuracy")
    below.set(ylabel="training loss per image", xlabel="step (logarithmic)", ylim=(0, None))
    return figure


def gallery(title: str, images: np.ndarray, titles: Iterable[str], **look: Any) -> "plots.Figure":
    """Returns images [n, height, width, ...], five in a row, each with its title."""
    rows = -(-len(images) // COLUMNS)
    figure = plots.figure(0.4 + 1.8 * rows, title)
    for place, (image, text) in enumerate(zip(images, titles, strict=True), start=1):
        axes = figure.add_subplot(rows, COLUMNS, place, title=text)
        axes.imshow(image, **look)
        axes.set_axis_off()
    return figure


def weights(state: State, probabilities: np.ndarray) -> "plots.Figure":
    """Returns each column of W as a picture, on a common scale that is white at 0."""
    return gallery(
        "The weights of each class: red speaks for it, blue against it",
        pictures(state).mean(axis=-1),
        state.dataset.class_names,
        cmap="RdBu_r",
        vmin=0,
        vmax=1,
    )


def confusion(state: State, probabilities: np.ndarray) -> "plots.Figure":
    """Returns the counts of true class (row) by answer (column); only mistakes are coloured."""
    names = state.dataset.class_names
    counts = tf.math.confusion_matrix(
        state.dataset.test.labels, probabilities.argmax(axis=1), len(names)
    ).numpy()
    figure = plots.figure(4.6, "Test images: right on the diagonal, the rest wrong")
    axes = figure.subplots()
    places = range(len(names))
    mistakes = counts - np.diag(counts.diagonal())
    axes.imshow(mistakes, aspect="auto", cmap="Blues", alpha=0.6)
    axes.set(xlabel="answer", ylabel="truth")
    if len(names) <= MAX_CLASSES:
        for row, column in np.argwhere(counts):
            axes.text(column, row, counts[row, column], ha="center", va="center", fontsize="small")
        axes.set_xticks(places, names, rotation="vertical")
        axes.set_yticks(places, names)
    return figure


def predictions(state: State, probabilities: np.ndarray) -> "plots.Figure":
    """Returns test images with the model's answers: sure, unsure and wrong."""
    test = state.dataset.test
    names = state.dataset.class_names
    chosen = pick(probabilities, test.labels)
    images = test.images[chosen].reshape(-1, *state.dataset.image_shape)
    titles = [
        f"{names[shares.argmax()]}: {shares.max():.0%}\nis {names[label]}"
        for shares, label in zip(probabilities[chosen], test.labels[chosen], strict=True)
    ]
    return gallery("Test images: sure, unsure and wrong", images, titles, cmap="gray_r")


def pick(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns indices of test images: the surest, the least sure, and the most wrong.

    Their classes have a probability near 1, 1/2 and 0. Each of the three groups has at most
    five images.
    """
    shares = probabilities[range(len(labels)), labels]
    return np.argsort([-shares, abs(shares - 0.5), shares])[:, :COLUMNS].ravel()
