"""The look that all charts share, and how they become files."""

import contextlib
import io
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from common.errors import InputError
from common.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextlib.contextmanager
def look(*more: str) -> Iterator[None]:
    """Sets the look of charts that are made and saved in the `with` block.

    It is common/look.mplstyle, and then the styles `more`.

    Raises InputError if matplotlib is not installed. compare.py has said that before.
    """
    try:
        from matplotlib import style
    except ImportError:
        raise InputError(
            "--figures needs matplotlib: run `python -m pip install -r requirements/plots.txt`"
        ) from None
    with style.context(["common.look", *more]):
        yield


def figure(height: float, title: str) -> "Figure":
    """Returns an empty figure with the width of a README and this height in inches."""
    from matplotlib.figure import Figure

    # A README shows a picture about 830 pixels wide: a text of 10 points is 14 pixels high there.
    figure = Figure(figsize=(8.3, height))
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def save(figure: "Figure", path: pathlib.Path) -> None:
    """Writes a figure to `path` as PNG, completely or not at all."""
    content = io.BytesIO()
    figure.savefig(content)
    write_atomically(path, content.getvalue())
