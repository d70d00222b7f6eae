"""The results of a sweep: its rows, the file that keeps them, a table and two charts.

A row describes a run: its flags, where it ran, and what it reached or that it diverged.
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
from callbacks.base import writing
from common import plots, stats
from common.errors import InputError
from sweeps.options import DEFAULTS, SWEPT

Row = dict[str, Any]

# Values that all rows of a sweep share. Only a file of a sweep has `data`, so it is checked first.
SAME = ["data", *({"tensorflow", "device_name", *DEFAULTS} - flags.PLACES - {*SWEPT, "device"})]
NOTE = """
Accuracies are means over the seeds ± standard deviation. The best is chosen by
validation. "Worse on" counts seeds. * marks p < 0.05 in a sign test; fewer than
6 seeds cannot reach p < 0.05."""


def key(row: Row) -> tuple:
    """Returns the values that distinguish a run from the others of its sweep."""
    return tuple(row[name] for name in SWEPT)


def read(path: pathlib.Path, new: Row) -> dict[tuple, Row]:
    """Returns the rows of a file that belong to the sweep of the `new` row, by their keys.

    Creates a missing file, and cuts off an incomplete last line, which a kill may have left. Raises
    InputError, and leaves the file unchanged, if it contains anything but rows.
    """
    path.touch()
    whole, newline, torn = path.read_bytes().rpartition(b"\n")
    try:
        found = (DEFAULTS | json.loads(line) for line in (whole or torn).splitlines())
        rows = {key(row): row for row in found if all(row[name] == new[name] for name in SAME)}
        if runs := sorted(rows.values(), key=key):
            cells(runs, runs)  # which fails if a row cannot be shown
    except (ValueError, TypeError, LookupError):
        raise InputError(
            f"--output={path}: must be a new file, or one that sweep.py has written: "
            "choose another name"
        ) from None
    if torn:
        os.truncate(path, len(whole + newline))
    # the run of an incomplete line is trained again, even if only the newline is missing
    return rows if newline else {}


def add(path: pathlib.Path, row: Row) -> None:
    """Appends a row to the file; raises RunError if it cannot be written."""
    with writing("output", path), path.open("a") as file:
        print(json.dumps(row), file=file)


def show(rows: Collection[Row], figures: str | None) -> None:
    """Prints a Markdown table, with one line for all seeds of a combination of flags.

    Draws the charts in the folder `figures`, if it is given.
    """
    varying = [name for name in SWEPT if name != "seed" and len({row[name] for row in rows}) > 1]
    groups = grouped(rows, varying).values()
    best = max(groups, key=mean)
    names = [name.removesuffix("_size").removesuffix("_reduction") for name in varying]
    headings = *names, "validation", "test", "beside the best"
    table = Table(*headings, box=MARKDOWN, show_edge=False)
    for runs in groups:
        table.add_row(*(str(runs[0][name]) for name in varying), *cells(runs, best))
    Console(width=1000).print(table, NOTE)
    if figures:
        draw(rows, varying, pathlib.Path(figures))


def grouped(rows: Iterable[Row], names: list[str]) -> dict[str, list[Row]]:
    """Returns the runs grouped by their values of some flags; a label of these is the key."""
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
    """Returns the cells of a combination, compared with the best one."""
    sd = f" ± {statistics.stdev(map(last, runs)):.4f}" if len(runs) > 1 else ""
    test = statistics.fmean(run["test_accuracy"] for run in runs)
    said = "**best**" if runs is best else verdict(runs, best)
    if diverged := sum("diverged" in run for run in runs):
        said = f"{diverged} of {len(runs)} diverged"
    return [f"{mean(runs):.4f}{sd}", f"{test:.4f}", said]


def verdict(runs: list[Row], best: list[Row]) -> str:
    """Returns the number of common seeds for which a combination is worse than the best.

    A star marks p < 0.05 in a two-sided sign test.
    """
    gains = [np.sign(last(a) - last(b)) for a in runs for b in best if a["seed"] == b["seed"]]
    worse, better = gains.count(-1), gains.count(1)
    p = 1 - stats.coverage(worse + better, min(worse, better) + 1)
    return f"worse on {worse} of {len(gains)}{' *' if p < 0.05 else ''}"


def draw(rows: Iterable[Row], varying: list[str], folder: pathlib.Path) -> None:
    """Draws the validation accuracy over the learning rate, and over the steps for the best run and
    those that differ from it only in rate and seed; raises RunError."""
    lines = grouped(rows, [name for name in varying if name != "lr"])
    best = max(lines.values(), key=lambda runs: max(map(last, runs)))
    with plots.look(), writing("figures", folder):
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
