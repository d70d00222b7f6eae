"""--figures=DIR: how a run learned, what it learned, where it errs, and what it answers."""

from typing import TYPE_CHECKING, Any

import numpy as np

import data
import model
from callbacks.base import Callback, writing
from common import plots
from common.files import check_writable, writable_folder
from runtime.state import State

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

NAMES = ("accuracy", "weights", "confusion", "predictions")
MAX_CLASSES = 30  # whose numbers of mistakes can be read in one picture
EXAMPLES = 5  # of each group of predictions


class Figures(Callback):
    """Draws the pictures of a run at its end."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        with plots.look("--figures"):  # says now that matplotlib is missing
            import matplotlib.figure  # noqa: F401 - before the run, not behind it
        self.folder = writable_folder("figures", state.config.figures)
        for name in NAMES:
            check_writable("figures", str(self.folder / f"{name}.png"), replace=True)

    def on_train_end(self, record: dict[str, Any]) -> None:
        net, dataset = self.state.model, self.state.dataset
        chunks = [net(model.scale(images)) for images, _ in dataset.test.chunks()]
        probabilities = np.concatenate(chunks)
        with plots.look("--figures"), writing("figures", self.folder):
            figures = (
                accuracy(self.state.evaluations),
                weights(net.W.numpy(), dataset),
                confusion(probabilities, dataset),
                predictions(probabilities, dataset),
            )
            for name, figure in zip(NAMES, figures, strict=True):
                plots.save(figure, self.folder / f"{name}.png")
        print(f"figures: {', '.join(NAMES)} in {self.folder}")


def new_figure(height: float, title: str = "") -> "Figure":
    """Returns an empty figure of README width and this height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(plots.WIDTH, height))
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def accuracy(evaluations: list[list[float]]) -> "Figure":
    """Returns accuracy and loss over steps, from [step, seconds, accuracy, loss] of each."""
    steps, _, accuracies, losses = zip(*evaluations, strict=True)
    figure = new_figure(4.6, f"Accuracy {accuracies[-1]:.4f} after {steps[-1]:,} steps")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(steps, accuracies, color=plots.BLUE, marker=".")
    below.plot(steps, losses, color=plots.VERMILION, marker=".")
    above.set(ylabel="validation accuracy", xscale="log")
    below.set(ylabel="training loss per image", xlabel="step (logarithmic)", ylim=(0, None))
    return figure


def panels(figure: "Figure | SubFigure", rows: int, columns: int, **more: Any) -> np.ndarray:
    """Returns empty panels [rows, columns] without a frame."""
    bare = {"xticks": [], "yticks": [], "frame_on": False}
    return figure.subplots(rows, columns, squeeze=False, subplot_kw=bare, **more)


def weights(W: np.ndarray, dataset: data.Dataset) -> "Figure":
    """Returns each column of W [features, classes], on one scale that is white at 0."""
    templates = W.T.reshape(-1, *dataset.image_shape).mean(axis=-1)
    limit, rows = np.abs(templates).max(), -(-len(templates) // 5)
    figure = new_figure(0.4 + 1.68 * rows, "The weights: what each class looks for")
    empty = panels(figure, rows, 5)
    for axes, template, name in zip(empty.flat, templates, dataset.class_names, strict=False):
        image = axes.imshow(template, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_title(name, loc="center")
    figure.colorbar(image, ax=empty, fraction=0.03, label="against  ←  weight  →  for")
    return figure


def confusion(probabilities: np.ndarray, dataset: data.Dataset) -> "Figure":
    """Returns the counts of true class (row) by answer (column); colour is for mistakes alone."""
    names, labels = dataset.class_names, dataset.test.labels
    counts = np.zeros([len(names)] * 2, int)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    right = f"{np.trace(counts):,} of {len(labels):,} right (diagonal)"
    figure = new_figure(4.6, f"Test images: {right}, the rest wrong")
    axes = figure.subplots()
    mistakes = np.ma.masked_array(counts, np.eye(len(names), dtype=bool))
    image = axes.imshow(mistakes, aspect="auto", cmap="Blues", vmin=0, alpha=0.6)
    size = min(10.0, 150 / len(names))
    if len(names) <= MAX_CLASSES:
        for row, column in np.argwhere(counts):
            axes.text(column, row, counts[row, column], ha="center", va="center", fontsize=size)
        axes.set_xticks(range(len(names)), names, rotation="vertical")
        axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="answer", ylabel="truth")
    figure.colorbar(image, ax=axes, fraction=0.03, label="mistakes")
    return figure


def pick(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Returns indices of test images by title: right and surest, right by a hair, wrong and surest.

    In each group the true classes differ, as long as there are enough of them.
    """
    *_, second, first = np.sort(probabilities, axis=1).T
    right = probabilities.argmax(axis=1) == labels
    chosen = {}
    for title, among, key in (
        ("Sure, and right", right, -first),
        ("Unsure: right by a hair", right, first - second),
        ("Wrong, and sure of it (orange: its answer, blue: the truth)", ~right, -first),
    ):
        indices = np.flatnonzero(among)
        order = indices[np.argsort(key[indices], kind="stable")]
        firsts = np.unique(labels[order], return_index=True)[1]
        chosen[title] = order[np.sort(firsts)][:EXAMPLES]
    return chosen


def predictions(probabilities: np.ndarray, dataset: data.Dataset) -> "Figure":
    """Returns sure, unsure and wrong test images, with their probabilities [n, classes] as bars."""
    figure = new_figure(6.6)
    labels, names = dataset.test.labels, dataset.class_names
    groups = pick(probabilities, labels)
    parts = np.asarray(figure.subfigures(len(groups)))
    for part, title in zip(parts, groups, strict=True):
        part.suptitle(title, x=0.01, ha="left")
        columns = panels(part, 2, EXAMPLES, height_ratios=(3, 2)).T
        for index, (above, below) in zip(groups[title], columns, strict=False):
            shares, label = probabilities[index], labels[index]
            answer = shares.argmax()
            truth = f", is {names[label]}" if label != answer else ""
            above.set_title(f"{names[answer]}: {shares[answer]:.0%}{truth}", loc="center")
            image = dataset.test.images[index].reshape(dataset.image_shape)
            above.imshow(image.squeeze(), cmap="gray_r")
            bars = below.bar(range(len(names)), shares, color=plots.GREY)
            bars[answer].set_color(plots.VERMILION)
            bars[label].set_color(plots.BLUE)
            below.set(ylim=(0, 1), xticks=[answer], xticklabels=[names[answer]])
    return figure
