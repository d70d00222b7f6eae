"""The requirements: each an exact version on every Python, and whatever is imported is among them."""

import ast
import importlib.metadata
import pathlib
import re
import sys

import pytest

from tests.conftest import PROJECT

FILES = [PROJECT / "requirements.txt", *sorted((PROJECT / "requirements").glob("*.txt"))]
NOT_THE_PROJECT = {".venv", "archives"}
# not installed
OTHERWISE = {"sklearn": "scikit-learn", "cv2": "opencv-python-headless", "skimage": "scikit-image"}
SUPPORTED = ["3.10", "3.11", "3.12", "3.13"]


def lines(path: pathlib.Path) -> list[str]:
    """Returns the requirements in a file, without comments and the files it includes."""
    found = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return [line for line in found if line and not line.startswith("-r ")]


def names() -> set[str]:
    return {
        re.split(r"[=\[]", line)[0].lower().replace("_", "-")
        for path in FILES
        for line in lines(path)
    }


@pytest.mark.parametrize("version", SUPPORTED)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_package_has_one_exact_version_on_every_python(
    path: pathlib.Path, version: str
) -> None:
    from packaging.requirements import Requirement

    parsed = [Requirement(line) for line in lines(path)]
    assert parsed and all(str(each.specifier).startswith("==") for each in parsed)
    held = [
        each.name
        for each in parsed
        if not each.marker or each.marker.evaluate({"python_version": version})
    ]
    assert len(held) == len(set(held))
    if path.name == "requirements.txt":
        assert {"tensorflow", "numpy", "filelock", "psutil", "setuptools"} <= set(held)


def test_whatever_is_imported_is_required() -> None:
    own = {path.stem for path in PROJECT.iterdir()}
    distributions = {"pynvml": ["nvidia-ml-py"]} | importlib.metadata.packages_distributions()
    imported = set()
    for path in PROJECT.rglob("*.py"):
        if not NOT_THE_PROJECT & set(path.relative_to(PROJECT).parts):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    imported.add(str(node.module).split(".")[0])
    foreign = imported - own - set(sys.stdlib_module_names)
    assert {"tensorflow", "numpy", "absl"} <= foreign
    missing = {
        name
        for name in foreign
        if not {
            each.lower().replace("_", "-")
            for each in distributions.get(name, [OTHERWISE.get(name, name)])
        }
        & names()
    }
    assert missing == set()
