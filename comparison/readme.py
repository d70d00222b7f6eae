"""Fills the tables of the READMEs from the result files that its markers name: python -m comparison.readme

A marker is <!-- comparison: FILE.json --> ... <!-- end -->; what stands between is written anew.
"""

import pathlib
import re

from comparison import tables
from comparison.results import load
from errors import exit_with_one_line
from files import write_atomically

PROJECT = pathlib.Path(__file__).parent.parent
READMES = (PROJECT / "README.md", PROJECT / "README.es.md")
MARKER = re.compile(r"(<!-- comparison: (\S+) -->\n).*?(<!-- end -->)", re.S)


def filled(text: str, root: pathlib.Path) -> str:
    """Returns the README's text with each marker's table and charts; raises InputError if a file is not a result."""

    def fill(marker: re.Match) -> str:
        file = pathlib.Path(marker[2])
        names = [file.with_name(f"{file.stem}-{kind}.png") for kind in ("bars", "sweep")]
        drawn = [name.as_posix() for name in names if (root / name).exists()][-1:]  # of a sweep, its curves
        return f"{marker[1]}{tables.markdown(load(root / file), drawn, brief=True)}{marker[3]}"

    return MARKER.sub(fill, text)


def main() -> None:
    """Fills the READMEs beside this package."""
    for path in READMES:
        text = filled(path.read_text(), PROJECT)
        write_atomically(path, lambda file, text=text: file.write(text.encode()))


if __name__ == "__main__":
    exit_with_one_line(main)
