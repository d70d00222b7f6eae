"""Prints the first command of the README section whose heading is the argument."""

import pathlib
import re
import sys

readme = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
section = re.search(rf"^## {re.escape(sys.argv[1])}\n(.*?)(?=^## |\Z)", readme, re.M | re.S)
if not section:
    sys.exit(f"README.md has no section {sys.argv[1]!r}")
print(re.search(r"^\$ (.+)$", section[1], re.M)[1])
