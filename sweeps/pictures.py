"""The pictures of a sweep: validation accuracy over the learning rate, and over the steps of all seeds."""

import itertools
import pathlib
import statistics
from typing import TYPE_CHECKING

from common import plots
from common.errors import RunError, reason
from sweeps.report import Groups, best, validation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (plots.BLUE, plots.VERMILION, plots.GREEN, plots.ORANGE, plots.PINK, plots.SKY, plots.GREY, plots.INK)


def draw(groups: Groups, folder: pathlib.Path) -> None:
    """Writes the pictures of the combinations of which no seed diverged; raises RunError if they cannot be."""
    with plots.look("--figures"):
        figures = {"learning_rate.png": over_learning_rate(groups), "steps.png": over_steps(groups)}
        try:
            for name, figure in figures.items():
                plots.save(figure, folder / name)
        except OSError as error:
            raise RunError(f"--figures={folder}: cannot write {name}: {reason(error)}") from None
    print(f"figures: {', '.join(figures)} in {folder}")


def over_learning_rate(groups: Groups) -> "Figure":
    """Returns the mean of all seeds over lr, in a band from the least to the most, a line for all else that differs."""
    figure, axes = _new("learning rate", "Mean of all seeds, in a band from the least to the most")
    lines: dict[tuple, dict[float, list[float]]] = {}
    for values, accuracies in validation(groups).items():
        lines.setdefault(values[:-1], {})[values[-1]] = [*accuracies.values()]
    for colour, (others, line) in zip(itertools.cycle(COLOURS), lines.items(), strict=False):
        lrs, means, least, most = [*line], *([*map(of, line.values())] for of in (statistics.fmean, min, max))
        axes.plot(lrs, means, color=colour, marker="o", label=_named(*others))
        axes.fill_between(lrs, least, most, color=colour, alpha=0.2, linewidth=0)
    all_lrs = sorted({lr for line in lines.values() for lr in line})
    axes.set_xticks(all_lrs, [f"{lr:g}" for lr in all_lrs])
    axes.minorticks_off()
    axes.legend()
    return figure


def over_steps(groups: Groups) -> "Figure":
    """Returns the course of every seed, a thin line each, for the best combination and those with another lr."""
    winner = best(found := validation(groups)) or ()
    figure, axes = _new("step", f"A line for each seed: {_named(*winner)}" if winner else "No run to show")
    beside = [values for values in found if values[:-1] == winner[:-1]]
    for colour, values in zip(itertools.cycle(COLOURS), beside, strict=False):
        axes.plot([], [], color=colour, label=f"lr {values[-1]:g}")
        for run in groups[values]:
            steps, accuracies = zip(*run["validation_accuracy"], strict=True)
            axes.plot(steps, accuracies, color=colour, linewidth=0.5, marker="." if len(steps) == 1 else "")
    axes.legend()
    return figure


def _named(batch_size: int, loss: str, epochs: int, *_: float) -> str:
    """Returns what a combination is called, but for its lr."""
    return f"batch {batch_size:,}, {loss} loss, {epochs:,} epoch{'s' * (epochs > 1)}"


def _new(x: str, title: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(plots.WIDTH, 4.2))
    axes = figure.subplots()
    axes.set(xscale="log", xlabel=x, ylabel="validation accuracy", title=title)
    axes.grid(True)
    return figure, axes
