"""The Markdown pages, and the blocks in them that a script writes, between <!-- name --> and <!-- /name -->."""

import pathlib
import re

from common.errors import RunError
from common.files import PROJECT, write_atomically

RECORDS = PROJECT / "benchmarks" / "records"
READMES = {"en": PROJECT / "README.md", "es": PROJECT / "README.es.md"}


def with_block(page: str, name: str, content: str) -> str:
    """Returns the text of a page with `content` in its block `name`; raises RunError unless it has one such block."""
    parts = re.split(rf"(?<=<!-- {name} -->\n)(?:.*?)(?=<!-- /{name} -->)", page, flags=re.DOTALL)
    if len(parts) != 2:
        raise RunError(
            f"a page must have one block <!-- {name} --> ... <!-- /{name} -->, found {len(parts) - 1}"
        )
    content = content.strip("\n")
    return f"{parts[0]}{content}\n{parts[1]}"


def not_measured(command: str) -> str:
    """Returns what stands in a block whose record is missing."""
    return f"Not measured yet: `{command}` does it."


def rewrite_blocks(path: pathlib.Path, blocks: dict[str, str]) -> None:
    """Writes the content of each block, by name, into the page at `path`: all of them or none."""
    page = path.read_text()
    for name, content in blocks.items():
        page = with_block(page, name, content)
    write_atomically(path, lambda file: file.write(page.encode()))
