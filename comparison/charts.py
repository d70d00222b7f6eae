"""The charts: bars of one batch size, curves of a sweep. Transparent, in colours for light pages and dark ones."""

import importlib.util
import pathlib
from typing import TYPE_CHECKING

from comparison import summary, sweep
from comparison.results import Results
from comparison.tables import number
from comparison.work import REFERENCE_BATCH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#757a80"  # 4.3:1 on white and on GitHub's dark page
BASELINE, OTHER = "#d55e00", "#3b8ec2"  # Okabe and Ito's: told apart by colour-blind readers too
COLOURS = ("#d55e00", "#3b8ec2", "#009e73", "#cc79a7", "#b8860b", "#757a80", "#8a63d2", "#1f9696", "#c0504d", "#6b8e23")
MARKERS = "osD^vPX*hp"


def missing() -> str | None:
    """Returns None if matplotlib is installed, else what to do."""
    if importlib.util.find_spec("matplotlib"):
        return None
    return "matplotlib is not installed: python -m pip install -r requirements-plots.txt"


def draw(results: Results, stem: pathlib.Path) -> list[pathlib.Path]:
    """Writes STEM-bars, and for more than one batch size STEM-sweep, as PNG and SVG; returns the PNGs' paths."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    style |= {"savefig.transparent": True, "font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
    with pyplot.rc_context(style):
        figures = {"bars": _bars(results)} | ({"sweep": _sweep(results)} if len(results.jobs) > 1 else {})
        for name, figure in figures.items():
            for suffix in ("png", "svg"):
                figure.savefig(f"{stem}-{name}.{suffix}", dpi=150, bbox_inches="tight")
            pyplot.close(figure)
    return [pathlib.Path(f"{stem}-{name}.png") for name in figures]


def files(stem: pathlib.Path) -> list[pathlib.Path]:
    """Returns the paths that `draw` may write."""
    return [pathlib.Path(f"{stem}-{name}.{suffix}") for name in ("bars", "sweep") for suffix in ("png", "svg")]


def _bars(results: Results) -> "Figure":
    """Returns us a step of each contender at batch 10, or the first size there is, fastest on top, with intervals."""
    from matplotlib import pyplot

    sizes = [job.batch_size for job in results.jobs]
    batch_size = REFERENCE_BATCH if REFERENCE_BATCH in sizes else sizes[0]
    rows = [row for row in summary.rows(results, batch_size) if row.time][::-1]
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.42 * len(rows)))
    medians = [row.time.median for row in rows]
    errors = [
        [max(0, row.time.median - row.time.low) for row in rows],
        [max(0, row.time.high - row.time.median) for row in rows],
    ]
    colours = [BASELINE if row.words == "baseline" else OTHER for row in rows]
    axes.barh([row.label for row in rows], medians, xerr=errors, color=colours, ecolor=INK, capsize=3, height=0.65)
    for place, row in enumerate(rows):
        ratio = f"  ({number(row.ratio.median)}×)" if row.ratio and row.words != "baseline" else ""
        end = row.time.high if row.time.n > 1 else row.time.median
        axes.annotate(
            f"{number(row.time.median)} µs{ratio}", (end, place), (7, 0), textcoords="offset points", va="center"
        )
    axes.set(xscale="log", xlabel=f"µs a step, batch {batch_size:,} (log scale; shorter is faster)")
    axes.set_xlim(min(medians, default=1) / 3, max(medians, default=1) * 8)
    axes.tick_params(axis="y", length=0)
    return figure


def _sweep(results: Results) -> "Figure":
    """Returns images/s over batch size for each contender and device, with each device's limit dashed."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for place, ((index, contender, device), curve) in enumerate(sweep.curves(results).items()):
        label = results.label(index, contender, device)
        speeds = [size / us * 1e6 for size, us in curve.items()]
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        axes.plot(list(curve), speeds, color=colour, marker=marker, label=label, linewidth=2)
    for index, run in enumerate(results.runs):
        for device in run.limits:
            speeds = [job.batch_size / sweep.limit_us(run, device, job) * 1e6 for job in results.jobs]
            sizes = [job.batch_size for job in results.jobs]
            axes.plot(sizes, speeds, "--", color=INK, label=results.label(index, "limit", device))
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="images/s")
    axes.grid(color=INK, alpha=0.25)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
