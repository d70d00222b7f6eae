"""The recipes of docs/architecture.md, applied to a copy of the project, train right everywhere."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests import oracle, recipe
from tests.conftest import PROJECT

ROOMS = ("common", "callbacks", "runtime", "storage", "sweeps")


def recipes():
    """Returns the recipes, each as [(file, text before, text after)] and its changed lines."""
    page = (PROJECT / "docs" / "architecture.md").read_text()
    for block in re.findall(r"```diff\n(.*?)```", page, re.S):
        changes = []
        for name, lines in re.findall(r"^--- (\S+)\n((?:[ +-](?!--).*\n)+)", block, re.M):
            for hunk in re.findall(r"(?:^ .*\n)+(?:^[+-].*\n)+", lines, re.M):
                rows = hunk.splitlines()
                before = "\n".join(row[1:] for row in rows if row[0] != "+")
                after = "\n".join(row[1:] for row in rows if row[0] != "-")
                changes.append((name, before, after))
        yield changes, len(re.findall(r"^[+-](?!--)", block, re.M))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with an L2 penalty and a momentum."""
    folder = tmp_path_factory.mktemp("copy")
    for path in PROJECT.glob("*.py"):
        shutil.copy(path, folder)
    for room in ROOMS:
        shutil.copytree(PROJECT / room, folder / room)
    for changes, _ in recipes():
        for name, before, after in changes:
            text = (folder / name).read_text()
            assert text.count(before) == 1, before
            (folder / name).write_text(text.replace(before, after))
    return folder


def test_a_term_and_a_rule_take_twelve_lines_in_two_files_at_most():
    assert len(list(recipes())) == 2
    for changes, lines in recipes():
        assert len({name for name, _, _ in changes}) <= 2 and 0 < lines <= 12


@pytest.mark.slow
def test_every_mode_has_the_term_once_and_the_rule(project, tmp_path):
    script = [sys.executable, str(PROJECT / "tests" / "recipe.py"), str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(project)}
    done = subprocess.run(script, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    images, labels = recipe.made()
    for batch_size in recipe.BATCH_SIZES:
        W, b = oracle.train_with_terms(images, labels, batch_size, recipe.CHANGES)
        for mode in recipe.MODES:
            path = tmp_path / f"{mode}-{batch_size}.npz"
            found = np.load(path)
            np.testing.assert_allclose(found["W"], W, atol=1e-5, err_msg=path.stem)
            np.testing.assert_allclose(found["b"], b, atol=1e-5, err_msg=path.stem)


@pytest.mark.slow
def test_the_flag_is_swept_and_is_a_resumes_identity(project, tiny_data_dir, tmp_path):
    def run(program, *arguments):
        command = [sys.executable, program, f"--data_dir={tiny_data_dir}", "--epochs=1", *arguments]
        return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)

    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    record = tmp_path / "record.json"
    assert run("train.py", "--l2=0.05", kept, f"--record={record}").returncode == 0
    rows = tmp_path / "rows.jsonl"
    assert run("sweep.py", "--l2=0,0.05", f"--output={rows}").returncode == 0
    hashes = {}
    for line in rows.read_text().splitlines():
        row = json.loads(line)
        if "l2" in row:
            hashes[row["l2"]] = row["weights_sha256"]
    assert hashes[0.05] == json.loads(record.read_text())["weights_sha256"] != hashes[0.0]
    refused = run("train.py", "--l2=0.1", kept)
    assert refused.returncode == 2 and "--l2=0.1" in refused.stderr
    assert pathlib.Path(tmp_path, "kept").exists()
