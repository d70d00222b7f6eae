"""The charts: bars of one batch size, curves of a sweep, in the look of plots.py."""

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from common import plots
from comparison import stats, summary, sweep
from comparison.results import Results
from comparison.tables import number
from comparison.work import REFERENCE_BATCH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (
    plots.VERMILION,
    plots.BLUE,
    plots.GREEN,
    plots.ORANGE,
    plots.PINK,
    plots.SKY,
    plots.GREY,
)
MARKERS = "osD^vPX*hp"  # ten of them: with seven colours, no two of 70 curves look alike


def draw(results: Results, stem: pathlib.Path) -> list[pathlib.Path]:
    """Writes STEM-bars, and for more than one batch size STEM-sweep, as PNG and SVG; returns their paths.

    Raises InputError without matplotlib.
    """
    with plots.look("a chart"):
        figures = {"bars": _bars(results)} | (
            {"sweep": _sweep(results)} if len(results.jobs) > 1 else {}
        )
        for name, figure in figures.items():
            for path in _files(stem, name):
                plots.save(figure, path)
    return [path for name in figures for path in _files(stem, name)]


def files(stem: pathlib.Path) -> list[pathlib.Path]:
    """Returns the paths that `draw` may write."""
    return [*_files(stem, "bars"), *_files(stem, "sweep")]


def _files(stem: pathlib.Path, name: str) -> list[pathlib.Path]:
    return [pathlib.Path(f"{stem}-{name}.{suffix}") for suffix in ("png", "svg")]


def _bars(results: Results) -> "Figure":
    """Returns us a step of each contender at batch 10, or the first size there is, fastest on top, with intervals."""
    from matplotlib.figure import Figure

    job = next((job for job in results.jobs if job.batch_size == REFERENCE_BATCH), results.jobs[0])
    timed = [(row, row.time) for row in summary.rows(results, job) if row.time][::-1]
    rows = [row for row, _ in timed]
    figure = Figure(figsize=(plots.WIDTH, 1 + 0.42 * len(rows)))
    axes = figure.subplots()
    medians = [time.median for _, time in timed]
    errors = np.transpose(
        [(max(0, time.median - time.low), max(0, time.high - time.median)) for _, time in timed]
    )
    colours = [plots.VERMILION if row.words.startswith("baseline") else plots.BLUE for row in rows]
    bars = axes.barh(
        [row.label for row in rows],
        medians,
        xerr=errors,
        color=colours,
        ecolor=plots.INK,
        capsize=3,
        height=0.65,
    )
    for bar, row in zip(bars, rows, strict=True):
        bar.set(hatch="///" if row.is_noisy else "", edgecolor="white")
    for floor in [time.median for row, time in timed if row.contender == "c"][:1]:
        axes.axvline(floor, color=plots.INK, linestyle="--", linewidth=1)
    for place, (row, time) in enumerate(timed):
        end = time.high if time.n > 1 else time.median
        axes.annotate(
            _says(row, time), (end, place), (7, 0), textcoords="offset points", va="center"
        )
    plain = "; dashed: plain C" if any(row.contender == "c" for row in rows) else ""
    axes.set(
        xscale="log",
        xlabel=f"µs a step, batch {job.batch_size:,} (log scale; shorter is faster{plain})",
    )
    axes.set_xlim(min(medians, default=1) / 3, max(medians, default=1) * 8)
    axes.tick_params(axis="y", length=0)
    return figure


def _says(row: summary.Row, time: stats.Estimate) -> str:
    """Returns what stands behind a bar."""
    ratio = (
        f"{number(row.ratio.median)}×" if row.ratio and not row.words.startswith("baseline") else ""
    )
    said = ", ".join(filter(None, [ratio, "noisy" if row.is_noisy else ""]))
    return f"{number(time.median)} µs" + (f"  ({said})" if said else "")


def _sweep(results: Results) -> "Figure":
    """Returns images/s over batch size for each contender and device."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(plots.WIDTH, 5))
    axes = figure.subplots()
    for place, ((index, contender, device), curve) in enumerate(sweep.curves(results).items()):
        label = results.label(index, contender, device)
        speeds = [size / us * 1e6 for size, us in curve.items()]
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        axes.plot(list(curve), speeds, color=colour, marker=marker, label=label)
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="images/s")
    axes.grid()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
