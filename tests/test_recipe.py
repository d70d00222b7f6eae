"""The recipes of docs/architecture.md, applied to a copy of the project, train right everywhere."""

import re
import shutil

import pytest

from tests.conftest import PROJECT, python


def recipes():
    """Yields the name of a file, and lines of it: some unchanged before some changed."""
    page = (PROJECT / "docs" / "architecture.md").read_text()
    for block in re.findall(r"```diff\n(.*?)```", page, re.S):
        for name, lines in re.findall(r"^--- (\S+)\n((?:[ +-](?!--).*\n)+)", block, re.M):
            for change in re.findall(r"(?:^ .*\n)+(?:^[+-].*\n)+", lines, re.M):
                yield name, change


@pytest.mark.slow
def test_every_mode_and_mirrored_devices_have_the_terms_once_and_the_rule(tmp_path):
    """With an L2 penalty and a momentum unless a test says otherwise, its oracle too."""
    others = shutil.ignore_patterns(".*", "__pycache__", "archives")
    copy = shutil.copytree(PROJECT, tmp_path / "copy", ignore=others)
    for name, change in recipes():
        text = (copy / name).read_text()
        before, after = (
            re.sub("^[ +-]", "", re.sub(rf"^[{other}].*\n", "", change, flags=re.M), flags=re.M)
            for other in "+-"
        )
        assert text.count(before) == 1, before
        (copy / name).write_text(text.replace(before, after))
    path = copy / "flags.py"
    text = path.read_text()
    for flag, value in (("l2", 0.03), ("momentum", 0.6)):
        text = text.replace(f'"{flag}", 0.0', f'"{flag}", {value}')
    path.write_text(text)
    tests = ["tests/test_modes.py", "tests/test_distribute.py", "-k", "oracles or mirrored_devices"]
    done = python("-m", "pytest", "-n", "1", *tests, cwd=copy)
    assert done.returncode == 0, done.stdout
