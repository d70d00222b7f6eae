"""What a sweep found: its rows, the file whose lines they are, a table of them, and two charts.

A row tells all of a run: its flags, where it ran, and what it reached or that it diverged.
`pandas.read_json(file, lines=True)` makes a table of a file.
"""

import json
import os
import pathlib
import statistics
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

import flags
from callbacks.base import refused, writing
from common import plots, stats
from sweeps.options import DEFAULTS, SWEPT

Row = dict[str, Any]

# What all rows of a sweep have in common. The data come first: no file but a sweep's tells them.
SAME = ["data", *({"tensorflow", "device_name", *DEFAULTS} - flags.PLACES - {*SWEPT, "device"})]
NOTE = """
Accuracies are means over the seeds ± standard deviation. The best is chosen by
validation. "Worse on" counts seeds. * marks p < 0.05 in a sign test; fewer than
6 seeds cannot reach p < 0.05."""


def key(row: Row) -> tuple:
    """Returns what tells a run from the others of its sweep."""
    return tuple(row[name] for name in SWEPT)


def read(path: pathlib.Path, new: Row) -> dict[tuple, Row]:
    """Returns those rows of a file that are of the sweep of the `new` row, by their keys.

    Makes the file if it is not there, and cuts off a last line that a kill has torn. Raises
    InputError, and leaves the file as it is, if it has something else than rows.
    """
    path.touch()
    *lines, torn = path.read_bytes().split(b"\n")
    try:
        found = (DEFAULTS | json.loads(line) for line in lines or filter(None, [torn]))
        rows = {key(row): row for row in found if all(row[name] == new[name] for name in SAME)}
    except (ValueError, TypeError, KeyError):
        why = "must be a new file, or one that sweep.py has written: choose another name"
        raise refused("output", path, why) from None
    if torn:
        os.truncate(path, path.stat().st_size - len(torn))
    # what was torn is trained again, even if only the end of its line is missing
    return rows if lines else {}


def add(path: pathlib.Path, row: Row) -> None:
    """Writes a row behind the others; raises RunError if the file cannot take it."""
    with writing("output", path), path.open("a") as file:
        print(json.dumps(row), file=file)


def show(rows: Collection[Row], figures: str | None) -> None:
    """Prints a table in Markdown, a line for the seeds of each combination of flags.

    Draws the charts in the folder `figures`, if one is named.
    """
    varying = [name for name in SWEPT if name != "seed" and len({row[name] for row in rows}) > 1]
    groups = grouped(rows, varying).values()
    best = max(groups, key=mean)
    headings = [name.removesuffix("_size").removesuffix("_reduction") for name in varying]
    headings += ["validation", "test", "beside the best"]
    table = Table(*headings, box=MARKDOWN, show_edge=False)
    for runs in groups:
        table.add_row(*(str(runs[0][name]) for name in varying), *cells(runs, best))
    Console(width=1000).print(table, NOTE)
    if figures:
        draw(rows, varying, pathlib.Path(figures))


def grouped(rows: Iterable[Row], names: list[str]) -> dict[str, list[Row]]:
    """Returns the runs with the same values of some flags together, by what these are."""
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=key):
        label = ", ".join(f"{name} {row[name]}" for name in names)
        groups.setdefault(label, []).append(row)
    return groups


def last(run: Row) -> float:
    """Returns the last validation accuracy of a run."""
    return run["validation_accuracy"][-1][1]


def mean(runs: list[Row]) -> float:
    """Returns the mean of the last validation accuracies."""
    return statistics.fmean(map(last, runs))


def cells(runs: list[Row], best: list[Row]) -> list[str]:
    """Returns what the table says of a combination beside the best one."""
    sd = f" ± {statistics.stdev(map(last, runs)):.4f}" if len(runs) > 1 else ""
    test = statistics.fmean(run["test_accuracy"] for run in runs)
    said = "**best**" if runs is best else verdict(runs, best)
    if diverged := sum("diverged" in run for run in runs):
        said = f"{diverged} of {len(runs)} diverged"
    return [f"{mean(runs):.4f}{sd}", f"{test:.4f}", said]


def verdict(runs: list[Row], best: list[Row]) -> str:
    """Returns on how many of the seeds that both have a combination is worse than the best.

    A star says that a fair coin falls as one-sidedly, to either side, less than once in 20 times.
    """
    gains = [np.sign(last(a) - last(b)) for a in runs for b in best if a["seed"] == b["seed"]]
    worse, better = gains.count(-1), gains.count(1)
    p = 1 - stats.coverage(worse + better, min(worse, better) + 1)
    return f"worse on {worse} of {len(gains)}{' *' if p < 0.05 else ''}"


def draw(rows: Iterable[Row], varying: list[str], folder: pathlib.Path) -> None:
    """Draws the validation accuracy over the learning rate, and over the steps of the best run and
    those that differ from it in rate and seed; raises RunError."""
    lines = grouped(rows, [name for name in varying if name != "lr"])
    best = max(lines.values(), key=lambda runs: max(map(last, runs)))
    with plots.look("--figures"), writing("figures", folder):
        chart(lines, lambda run: [[run["lr"], last(run)]], folder / "learning_rate.png")
        chart(grouped(best, ["lr"]), lambda run: run["validation_accuracy"], folder / "steps.png")


def chart(groups: dict[str, list[Row]], points: Callable, path: pathlib.Path) -> None:
    """Draws accuracies over x: for each label, the mean of its runs."""
    figure = plots.figure(4.2, "validation accuracy")
    axes = figure.add_subplot(xscale="log", xlabel=path.stem)
    for label, runs in groups.items():
        x, y = np.array([pair for run in runs for pair in points(run)]).T
        places = np.unique(x)
        axes.plot(
            places, [y[x == place].mean() for place in places], ".-", label=label or "all runs"
        )
    axes.legend()
    plots.save(figure, path)
