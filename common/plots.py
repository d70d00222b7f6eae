"""The look that all pictures share, and how they become files."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from common.errors import InputError
from common.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours stay apart for every kind of colour blindness; what is right or wrong is
# told by more than colour (a sign, a word). A README shows a picture about 830 pixels wide: 8.3
# inches make 10 points there 14 pixels.
BLUE, VERMILION, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#E69F00", "#9A9A9A", "#333333"
GREEN, PINK, SKY = "#009E73", "#CC79A7", "#56B4E9"
WIDTH, DPI = 8.3, 160
LOOK: dict[Any, Any] = {
    "figure.constrained_layout.use": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": f"cycler(color=['{BLUE}', '{VERMILION}'])",
    "axes.edgecolor": INK,
    "text.color": INK,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
}


@contextlib.contextmanager
def look(flag: str) -> Iterator[None]:
    """Gives the pictures made in the `with` block their look.

    Raises InputError, which names `flag`, without matplotlib.
    """
    try:
        import matplotlib.figure
    except ImportError:
        raise InputError(
            f"{flag} needs matplotlib: run `python -m pip install -r requirements/plots.txt`"
        ) from None
    with matplotlib.rc_context(LOOK):
        yield


def figure(height: float, title: str) -> "Figure":
    """Returns an empty figure of README width and this height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def save(figure: "Figure", path: pathlib.Path) -> None:
    """Writes a figure to `path`, as PNG, SVG or what its suffix says, whole or not at all."""
    write_atomically(path, lambda file: figure.savefig(file, format=path.suffix[1:], dpi=DPI))
