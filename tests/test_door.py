"""A contender in Python speaks through the door, and ends with whoever started it."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from comparison import worker
from tests.conftest import PROJECT

JOB = {
    "num_classes": 4,
    "batch_size": 25,
    "steps": 12,
    "lr": 0.01,
    "device": "cpu",
    "seed": 0,
    "cores": 1,
    "precision": "float32",
}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with 110 examples: two epochs of four batches and a smaller one, then two steps."""
    rng = np.random.default_rng(3)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (110, 12), np.uint8))
    np.save(tmp_path / "labels.npy", rng.integers(0, 4, 110).astype(np.int32))
    order = [rng.permutation(110).astype(np.int32) for _ in range(3)]
    np.save(tmp_path / "order.npy", np.stack(order))
    (tmp_path / "job.json").write_text(json.dumps(JOB))
    return tmp_path


def test_blocks_and_epochs_are_the_same_rows_and_end_with_the_last_step(folder):
    work = worker.load(folder)
    in_epochs = np.concatenate(list(work.epochs()))
    blocks = list(work.blocks(max_steps=3))
    np.testing.assert_array_equal(np.concatenate([block.ravel() for block in blocks]), in_epochs)
    assert [block.shape for block in blocks] == [(3, 25), (1, 25), (1, 10)] * 2 + [(2, 25)]
    assert [block.shape for block in work.blocks()] == [(4, 25), (1, 10)] * 2 + [(2, 25)]
    assert sorted(in_epochs[:110]) == list(range(110))


def test_a_contender_does_the_job_at_each_go_and_ends_with_its_stdin(folder):
    command = [sys.executable, "-m", "comparison.worker", "comparison.peers.numpy_sgd:best"]
    done = subprocess.run(
        [*command, str(folder)], cwd=PROJECT, input="go\ngo\n", capture_output=True, text=True
    )
    assert done.stdout.split() == ["loaded", *["ready", "done"] * 2, "ready"], done.stderr
    assert done.returncode == 0
    assert np.load(folder / "W.npy").dtype == np.load(folder / "b.npy").dtype == np.float32


def test_one_that_cannot_use_the_device_says_why_and_is_left_out(folder):
    (folder / "mine.py").write_text(
        "from comparison.worker import CannotUse\n"
        "def build(work):\n    print('noise')\n    raise CannotUse('no GPU here')\n"
    )
    command = [sys.executable, "-m", "comparison.worker", "mine:build", str(folder)]
    env = {"PYTHONPATH": f"{folder}:{PROJECT}"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == worker.LEFT_OUT
    assert done.stderr.splitlines()[-1] == "no GPU here"
    assert done.stdout == "loaded\n"
