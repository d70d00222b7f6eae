"""The charts, each for a light and a dark page: dots with intervals, and curves over the batch
size."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyperf

from common import plots
from comparison import report
from comparison.peers import CONTENDERS
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
INKS = {"light": (plots.INK, "white", "#DDDDDD"), "dark": ("#E6EDF3", "#0D1117", "#30363D")}
NAMED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")


def draw(suite: pyperf.BenchmarkSuite, stem: pathlib.Path) -> list[pathlib.Path]:
    """Writes STEM-times, and for several batch sizes STEM-sizes, each for a light and a dark page.

    Returns their paths. Raises InputError without matplotlib.
    """
    kinds = {"times": times} | ({"sizes": sizes} if len(report.batch_sizes(suite)) > 1 else {})
    drawn = []
    for kind, figure_of in kinds.items():
        for page in INKS:
            with plots.look("a chart"), inked(page):
                path = _file(stem, kind, page)
                plots.save(figure_of(suite), path)
                drawn.append(path)
    return drawn


@contextlib.contextmanager
def inked(page: str) -> Iterator[None]:
    """Gives the figures made inside the colours of a light or a dark page."""
    import matplotlib

    ink, paper, grid = INKS[page]
    look: dict[Any, Any] = dict.fromkeys(NAMED, ink) | {"grid.color": grid, "axes.facecolor": paper}
    look |= {"figure.facecolor": paper, "savefig.facecolor": paper}
    with matplotlib.rc_context(look):
        yield


def files(stem: pathlib.Path) -> list[pathlib.Path]:
    """Returns the paths that `draw` may write."""
    return [_file(stem, kind, page) for kind in ("times", "sizes") for page in INKS]


def _file(stem: pathlib.Path, kind: str, page: str) -> pathlib.Path:
    return pathlib.Path(f"{stem}-{kind}-{page}.png")


def in_words(row: report.Row, suite: pyperf.BenchmarkSuite) -> str:
    """Returns what a row is, in words rather than by its name on the command line."""
    name = report.label(row.task, row.machine, suite)
    contender = CONTENDERS.get(row.task.contender)
    return name.replace(row.task.contender, contender.words, 1) if contender else name


def times(suite: pyperf.BenchmarkSuite) -> "Figure":
    """Returns microseconds a step at batch 10, or the first size there is, fastest on top."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    found = report.batch_sizes(suite)
    size = REFERENCE_BATCH if REFERENCE_BATCH in found else found[0]
    base = report.baseline(suite, size)
    rows = [row for row in report.shown_rows(suite, size) if not row.task.again][::-1]
    figure = Figure(figsize=(plots.WIDTH, 1 + 0.36 * len(rows)))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        time, colour = row.time, plots.VERMILION if row == base else plots.BLUE
        low, high = (time.low, time.high) if time.n > 1 else (time.median, time.median)
        axes.plot([1e6 * low, 1e6 * high], [place, place], color=colour, linewidth=3, alpha=0.5)
        axes.plot(1e6 * time.median, place, "o", color=colour, markersize=6)
        text = f"{report.number(1e6 * time.median)} µs"
        if base and row != base:
            text += f"  ({report.number(row.ratio_to(base).median)}×)"
        axes.annotate(text, (1e6 * high, place), (8, 0), textcoords="offset points", va="center")
    medians = [1e6 * row.time.median for row in rows]
    axes.set_yticks(range(len(rows)), [in_words(row, suite) for row in rows])
    axes.set(xscale="log", xlabel=f"µs a step, batch {size:,} (logarithmic; left is faster)")
    axes.set_xlim(min(medians) / 1.4, max(medians) * 3)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    return figure


def sizes(suite: pyperf.BenchmarkSuite) -> "Figure":
    """Returns images a second over the batch size, with intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(plots.WIDTH, 4.5))
    axes = figure.subplots()
    for place, by_size in enumerate(report.curves(suite).values()):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        first = next(iter(by_size.values()))
        rates = [size / row.time.median for size, row in by_size.items()]
        axes.plot(list(by_size), rates, color=colour, marker=marker, label=in_words(first, suite))
        for size, row in by_size.items():
            if row.time.n > 1:
                ends = [size / row.time.high, size / row.time.low]
                axes.plot([size, size], ends, color=colour, linewidth=3, alpha=0.5)
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="images/s")
    axes.grid()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
