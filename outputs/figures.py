"""--figures=DIR: four pictures of a run: how it learned, what it learned, where it errs, what it answers."""

from typing import TYPE_CHECKING, Any

import numpy as np

import model
from common import plots
from common.errors import RunError, reason
from common.files import writable_folder
from outputs.observers import Observer
from runtime.state import State

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    import data

# more templates, or more rows and columns of confusion, cannot be read in one picture
MOST_CLASSES = 30
GROUPS = ("sure", "unsure", "wrong")
EXAMPLES = 5  # of each group
CHUNK = 1000  # images


class Figures(Observer):
    """Keeps the losses of a run and draws its pictures at the end."""

    def __init__(self, state: State):
        super().__init__(state)
        self.folder = writable_folder("figures", state.config.figures or "")
        with plots.look("--figures"):  # says now that matplotlib is missing
            import matplotlib.figure  # noqa: F401 - while the clock stands at data, not after the run
        self.dots = Dots()
        # step, validation accuracy, mean loss since the one before
        self.evaluations: list[list[float]] = []
        self.since = 0, 0.0  # steps since the newest evaluation, and the sum of their losses

    def after_block(self, losses: np.ndarray, evaluated: bool) -> None:
        state = self.state
        batch = state.examples_of_block / len(losses) if state.config.loss_reduction == "sum" else 1
        self.dots.add(state.step - len(losses) + 1, losses / batch)
        self.since = self.since[0] + len(losses), self.since[1] + float(losses.sum()) / batch
        if evaluated:
            self.evaluations.append(
                [state.step, state.evaluations[-1][2], self.since[1] / self.since[0]]
            )
            self.since = 0, 0.0

    def after_run(self, record: dict[str, Any]) -> None:
        state, dataset = self.state, self.state.dataset
        labels, probabilities = (
            np.asarray(dataset.test.labels),
            self._probabilities(dataset.test.images),
        )
        with plots.look("--figures"):
            figures = {
                "weights": weights(state.model.W.numpy(), dataset),
                "confusion": confusion(labels, probabilities.argmax(axis=1), dataset.class_names),
                "predictions": predictions(probabilities, labels, dataset),
            }
            if self.evaluations:  # none where a resumed run had no step left to take
                figures["accuracy"] = accuracy(
                    self.evaluations, self.dots.points, state.config.eval_first
                )
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                for name, figure in figures.items():
                    plots.save(figure, self.folder / f"{name}.png")
            except OSError as error:
                raise RunError(
                    f"--figures={self.folder}: cannot be written: {reason(error)}"
                ) from None
        print(f"figures: {', '.join(f'{name}.png' for name in figures)} in {self.folder}")

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns the probabilities [n, classes] of all images, which are read CHUNK at a time."""
        chunks = (
            np.asarray(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK)
        )
        return np.concatenate([self.state.model(model.scale(chunk)) for chunk in chunks])


class Dots:
    """The losses of some steps, `most` at most: all of the first, later each second, then each fourth, and so on."""

    def __init__(self, most: int = 10_000, first: int = 1_000):
        self.most, self.first, self.stride = most, first, 1
        # steps, and the mean loss of an example in the batch of each
        self.points = np.empty((2, 0))

    def add(self, step: int, losses: np.ndarray) -> None:
        """Adds the losses of the steps from `step` on."""
        new = np.stack([np.arange(step, step + len(losses)), losses])
        self.points = np.hstack([self.points, self._thinned(new)])
        while self.points.shape[1] > self.most:
            self.stride *= 2
            self.points = self._thinned(self.points)

    def _thinned(self, points: np.ndarray) -> np.ndarray:
        steps = points[0]
        return points[:, (steps <= self.first) | (steps % self.stride == 0)]


def new_figure(height: float) -> "Figure":
    """Returns an empty figure of README width and this height in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(plots.WIDTH, height))


def accuracy(evaluations: list[list[float]], dots: np.ndarray, first: int) -> "Figure":
    """Returns validation accuracy and loss over steps: log-scaled for the `first` steps, even after them.

    Args:
      evaluations: [step, validation accuracy, mean loss of an example since the one before] of each.
      dots: [2, n], steps and the mean loss of an example in the batch of each.
      first: how many steps, from 1 on, have the left half of the picture to themselves.
    """
    figure = new_figure(4.6)
    above, below = figure.subplots(2, 1, sharex=True)
    steps, shares, means = zip(*evaluations, strict=True)
    above.plot(steps, shares, color=plots.BLUE, marker="o", markersize=2.5)
    above.set_ylabel("validation accuracy")
    above.set_title(f"Validation accuracy: {shares[-1]:.4f} after {steps[-1]:,} steps")
    below.plot(*dots, ".", color=plots.GREY, markersize=1.5, alpha=0.5)
    below.plot(steps, means, color=plots.VERMILION, marker="o", markersize=2)
    below.set_ylabel("loss of an example")
    below.set_title(
        "Cross-entropy: of single batches (dots), and its mean since the last evaluation (line)"
    )
    below.set_xlabel(f"step (the first {first} on a logarithmic scale)" if first else "step")
    below.set_ylim(bottom=0)
    for axes in (above, below):
        axes.grid(True)
        _log_then_even(axes, first, steps[-1])
    return figure


def _log_then_even(axes: "Axes", first: int, last: int) -> None:
    """Scales x as the logarithm up to `first`, which gets half the width, and evenly from there to `last`."""
    if not 1 < first < last:
        axes.set_xscale("log" if first > 1 else "linear")
        return

    def forward(x: np.ndarray) -> np.ndarray:
        x = np.maximum(x, 0.1)
        return np.where(x <= first, np.log(x) / np.log(first), 1 + (x - first) / (last - first))

    def inverse(u: np.ndarray) -> np.ndarray:
        return np.where(u <= 1, first ** np.minimum(u, 1.0), first + (u - 1) * (last - first))

    axes.set_xscale("function", functions=(forward, inverse))
    axes.axvline(first, color=plots.GREY, linewidth=0.8, linestyle="--")
    from matplotlib.ticker import MaxNLocator

    even = [
        tick
        for tick in MaxNLocator(5).tick_values(first, last)
        if first + (last - first) / 8 < tick <= last
    ]
    ticks = [tick for tick in (1, 2, 5, 10, 20) if tick < first / 1.5] + [first, *map(int, even)]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xlim(0.9, last * 1.01)


def weights(W: np.ndarray, dataset: "data.Dataset") -> "Figure":
    """Returns a picture of each column of W [features, classes], all on one scale that is white at 0."""
    shown = min(len(dataset.class_names), MOST_CLASSES)
    rows = -(-shown // 5)
    figure = new_figure(0.4 + 1.68 * rows)
    templates = W.T.reshape(-1, *dataset.image_shape).mean(axis=-1)
    limit = np.abs(templates[:shown]).max() or 1.0
    panels = figure.subplots(rows, 5, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, template, name in zip(
        panels.flat, templates[:shown], dataset.class_names, strict=False
    ):
        image = axes.imshow(template, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_title(name, loc="center")
    bar = figure.colorbar(image, ax=panels, fraction=0.03, pad=0.02)
    bar.set_label("against  ←  weight  →  for")
    bar.outline.set_visible(False)
    of_all = f" (the first {shown} of {len(templates)} classes)" if shown < len(templates) else ""
    figure.suptitle(
        f"The weights: what each class looks for{of_all}", x=0.01, ha="left", fontsize=11
    )
    return figure


def confusion(labels: np.ndarray, predicted: np.ndarray, class_names: list[str]) -> "Figure":
    """Returns the counts of true class (row) against answer (column); colour is for mistakes alone."""
    shown = min(len(class_names), MOST_CLASSES)
    counts = np.zeros([len(class_names)] * 2, int)
    np.add.at(counts, (labels, predicted), 1)
    counts = counts[:shown, :shown]
    mistakes = np.ma.masked_array(counts, np.eye(shown, dtype=bool))
    figure = new_figure(4.6)
    axes = figure.subplots()
    most = max(1, mistakes.max() if shown > 1 else 1)
    image = axes.imshow(mistakes, aspect="auto", cmap="Blues", vmin=0, vmax=most)
    for row, column in np.argwhere(counts):
        dark = row != column and counts[row, column] > 0.6 * most
        axes.text(
            column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=9 if shown <= 12 else 5,
            color="white" if dark else plots.INK, fontweight="bold" if row == column else "normal",
        )  # fmt: skip
    axes.set_xticks(
        range(shown), class_names[:shown], rotation=0 if max(map(len, class_names)) < 4 else 90
    )
    axes.set_yticks(range(shown), class_names[:shown])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.set_title(
        f"Test images: {np.sum(labels == predicted):,} of {len(labels):,} right (diagonal), the rest wrong"
    )
    figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02, label="mistakes").outline.set_visible(
        False
    )
    return figure


def pick(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Returns indices of test images for each of GROUPS: right and surest, right by a hair, wrong and surest.

    In each group the true classes differ, as long as there are enough of them.
    """
    ordered = np.sort(probabilities, axis=1)
    certainty, margin = ordered[:, -1], ordered[:, -1] - ordered[:, -2]
    right = probabilities.argmax(axis=1) == labels
    orders = {
        "sure": np.argsort(-certainty + ~right, kind="stable")[: right.sum()],
        "unsure": np.argsort(margin + ~right, kind="stable")[: right.sum()],
        "wrong": np.argsort(-certainty + right, kind="stable")[: (~right).sum()],
    }
    firsts = {
        name: order[np.sort(np.unique(labels[order], return_index=True)[1])]
        for name, order in orders.items()
    }
    return {name: first[:EXAMPLES] for name, first in firsts.items()}


def predictions(probabilities: np.ndarray, labels: np.ndarray, dataset: "data.Dataset") -> "Figure":
    """Returns sure, unsure and wrong test images, each with its probabilities [n, classes] as bars."""
    figure = new_figure(6.6)
    says = {
        "sure": "Sure, and right",
        "unsure": "Unsure: right by a hair",
        "wrong": "Wrong, and sure of it (orange: its answer, blue: the truth)",
    }
    chosen = pick(probabilities, labels)
    for part, group in zip(np.asarray(figure.subfigures(len(GROUPS), 1)), GROUPS, strict=True):
        part.suptitle(says[group], x=0.01, ha="left", fontsize=11)
        panels = part.subplots(2, EXAMPLES, height_ratios=(3, 2))
        for column in panels.T:
            for axes in column:
                axes.set_axis_off()
        for index, column in zip(chosen[group], panels.T, strict=False):
            image = np.asarray(dataset.test.images[index : index + 1]).reshape(dataset.image_shape)
            _one_prediction(
                column, image, int(labels[index]), probabilities[index], dataset.class_names
            )
    return figure


def _one_prediction(
    panels: np.ndarray, image: np.ndarray, label: int, shares: np.ndarray, names: list[str]
) -> None:
    """Draws a test image above the bars of its probabilities: blue for its true class, vermilion for a wrong answer."""
    picture, bars = panels
    answer = int(shares.argmax())
    picture.imshow(image.squeeze(), cmap="gray_r", vmin=0, vmax=255)
    verdict = f"{names[answer]}: {shares[answer]:.0%}"
    picture.set_title(
        verdict if label == answer else f"{verdict}, is {names[label]}", loc="center", fontsize=10
    )
    colours = [plots.GREY] * len(shares)
    colours[answer], colours[label] = plots.VERMILION, plots.BLUE
    bars.bar(range(len(shares)), shares, color=colours)
    bars.set_axis_on()
    bars.set_ylim(0, 1)
    bars.set_yticks([])
    bars.spines["left"].set_visible(False)
    short = len(names) <= 12 and max(map(len, names)) == 1
    bars.set_xticks(
        range(len(names)) if short else [answer], names if short else [names[answer]], fontsize=8
    )
    bars.tick_params(length=0)
