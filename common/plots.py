"""The look that all charts share, and how they become files."""

import contextlib
import io
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from common.errors import InputError
from common.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours differ for every kind of colour blindness, and right and wrong never
# differ by colour alone. A README shows a picture about 830 pixels wide, so with 8.3 inches a text
# of 10 points is 14 pixels high there.
BLUE = "#0072B2"
CYCLE = [BLUE, "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#9A9A9A"]
WIDTH = 8.3
LOOK: dict[Any, Any] = {
    "figure.constrained_layout.use": True,
    "savefig.dpi": 160,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": f"cycler(color={CYCLE})",
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
}


@contextlib.contextmanager
def look() -> Iterator[None]:
    """Sets the look of the charts that are made and saved in the `with` block.

    Raises InputError if matplotlib is not installed. compare.py has said that before.
    """
    try:
        import matplotlib.figure
    except ImportError:
        raise InputError(
            "--figures needs matplotlib: run `python -m pip install -r requirements/plots.txt`"
        ) from None
    with matplotlib.rc_context(LOOK):
        yield


def figure(height: float, title: str) -> "Figure":
    """Returns an empty figure with the width of a README and this height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def save(figure: "Figure", path: pathlib.Path) -> None:
    """Writes a figure to `path` as PNG, completely or not at all."""
    content = io.BytesIO()
    figure.savefig(content)
    write_atomically(path, content.getvalue())
