"""Prints the commands of the README section whose heading is the argument, one a line."""

import pathlib
import re
import sys

readme = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
section = re.search(rf"^## {re.escape(sys.argv[1])}\n(.*?)(?=^## |\Z)", readme, re.M | re.S)
if not section:
    sys.exit(f"README.md has no section {sys.argv[1]!r}")
print("\n".join(re.findall(r"^\$ (.+)$", section[1], re.M)))
