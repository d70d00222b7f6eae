"""The Markdown pages, and the blocks in them that a script writes, between <!-- name --> and <!-- /name -->."""

import pathlib
import re

from common.errors import RunError
from common.files import write_atomically

PROJECT = pathlib.Path(__file__).resolve().parent
READMES = {"en": PROJECT / "README.md", "es": PROJECT / "README.es.md"}


def with_block(page: str, name: str, content: str) -> str:
    """Returns the text of a page with `content` in its block `name`; raises RunError unless it has one such block."""
    content = content.strip("\n")
    new, count = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
        lambda markers: f"{markers[1]}{content}\n{markers[2]}",
        page,
        flags=re.DOTALL,
    )
    if count != 1:
        raise RunError(f"a page must have one block <!-- {name} --> ... <!-- /{name} -->, found {count}")
    return new


def rewrite_blocks(path: pathlib.Path, blocks: dict[str, str]) -> None:
    """Writes the content of each block, by name, into the page at `path`: all of them or none."""
    page = path.read_text()
    for name, content in blocks.items():
        page = with_block(page, name, content)
    write_atomically(path, lambda file: file.write(page.encode()))
