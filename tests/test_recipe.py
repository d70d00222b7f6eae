"""The recipes of docs/architecture.md, applied to a copy of the project, train right everywhere."""

import json
import os
import re
import shutil

import numpy as np
import pytest

import data
from tests import forked, oracle, recipe
from tests.conftest import PROJECT

ROOMS = ("common", "callbacks", "runtime", "storage", "sweeps")


def recipes():
    """Returns the recipes, each a list of files with their lines."""
    page = (PROJECT / "docs" / "architecture.md").read_text()
    for block in re.findall(r"```diff\n(.*?)```", page, re.S):
        yield re.findall(r"^--- (\S+)\n((?:[ +-](?!--).*\n)+)", block, re.M)


def apply(lines, text):
    """Returns a text in which a recipe's lines, some unchanged before some changed, are new."""
    for change in re.findall(r"(?:^ .*\n)+(?:^[+-].*\n)+", lines, re.M):
        before = re.sub(r"^\+.*\n", "", change, flags=re.M)
        after = re.sub(r"^-.*\n", "", change, flags=re.M)
        before, after = (re.sub(r"^[ +-]", "", each, flags=re.M) for each in (before, after))
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with an L2 penalty and a momentum."""
    folder = tmp_path_factory.mktemp("copy")
    for path in PROJECT.glob("*.py"):
        shutil.copy(path, folder)
    for room in ROOMS:
        shutil.copytree(PROJECT / room, folder / room)
    for files in recipes():
        for name, lines in files:
            path = folder / name
            path.write_text(apply(lines, path.read_text()))
    return folder


@pytest.mark.slow
def test_every_mode_has_the_term_once_and_the_rule(project, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(project)}
    done = forked.run([PROJECT / "tests" / "recipe.py", tmp_path], env=environment)
    assert done.returncode == 0, done.stderr
    images, labels = recipe.made()
    orders = [data.epoch_order(len(labels), 0, epoch) for epoch in range(2)]
    for name, size in recipe.JOBS:
        lr = recipe.LR / size
        W, b, _ = oracle.train(images, labels, orders, size, lr, l2=0.03, momentum=0.6)
        oracle.assert_weights(np.load(tmp_path / f"{name}-{size}.npz"), W, b)


@pytest.mark.slow
def test_the_flag_is_swept_and_is_a_resumes_identity(project, tiny_data_dir, tmp_path):
    def run(program, *arguments):
        job = f"--data_dir={tiny_data_dir}", "--mode=graph", *arguments
        return forked.run([project / program, *job], cwd=project)

    rows, kept = tmp_path / "rows.jsonl", f"--checkpoint_dir={tmp_path / 'kept'}"
    assert run("sweep.py", "--l2=0,0.05", f"--output={rows}").returncode == 0
    swept = map(json.loads, rows.read_text().splitlines())
    weights = {row["weights_sha256"]: row["l2"] for row in swept}
    assert {*weights.values()} == {0, 0.05}
    assert run("train.py", "--l2=0.05", kept).returncode == 0
    refused = run("train.py", "--l2=0.1", kept)
    assert refused.returncode == 2 and "--l2=0.1" in refused.stderr
