"""The chart of a results file, for a light and a dark page.

It has dots with intervals of one batch size, and curves over several of them.
"""

import itertools
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from common import plots
from common.stats import number
from comparison import report
from comparison.peers import CONTENDERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vP"  # six, of seven colours: no two of 42 curves look alike
PAGES = {  # the styles of a page's chart
    "light": [],
    # the second has colours that the first has replaced
    "dark": ["dark_background", "common.look", "comparison.dark"],
}


def files(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the paths that `draw` writes beside NAME.json: NAME-light.png and NAME-dark.png."""
    return [path.with_name(f"{path.stem}-{page}.png") for page in PAGES]


def draw(rows: Iterable[report.Row], path: pathlib.Path) -> None:
    """Draws the chart for both pages, beside `path`."""
    shown = report.shown_rows(rows)
    draw_on = curves if len(shown) > 1 else dots
    for look, file in zip(PAGES.values(), files(path), strict=True):
        with plots.look(*look):
            chart = plots.figure(1.5 + 0.3 * max(map(len, shown.values())), title="")
            draw_on(chart.subplots(), shown)
            plots.save(chart, file)


def in_words(name: str) -> str:
    """Returns a row's name with its contender in words, instead of the command line's name."""
    contender, *more = name.split(", ")
    words = CONTENDERS[contender].words if contender in CONTENDERS else contender
    return ", ".join([words, *more])


def dots(axes: "Axes", shown: dict[int, list[report.Row]]) -> None:
    """Draws the microseconds per step at one batch size, fastest on top."""
    ((size, rows),) = shown.items()
    for row in rows:
        time = row.time
        figures = f"{number(time.median)} µs ({number(row.ratio.median)} ×)"
        place = f"{in_words(row.name)}  {row.note}  {figures}"  # on the vertical axis
        interval = [time.low, time.median, time.high]
        axes.plot(interval, [place] * 3, "o-", markevery=[1], color="C0")
    axes.set(xscale="log", xlabel=f"µs a step, batch {size:,} (logarithmic; left is faster)")
    axes.invert_yaxis()
    axes.grid(axis="x")


def curves(axes: "Axes", shown: dict[int, list[report.Row]]) -> None:
    """Draws images/s over the batch size."""
    markers = itertools.cycle(MARKERS)
    for name, rates in report.curves(shown).items():
        axes.plot(list(rates), list(rates.values()), marker=next(markers), label=in_words(name))
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="images/s")
    axes.grid()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
