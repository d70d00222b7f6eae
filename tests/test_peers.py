"""Every contender, in a process of its own, does the same work as float64 NumPy, again and
again."""

import os
import subprocess
import sys
import types

import numpy as np
import pytest

from comparison import measure, system, work, worker
from comparison.peers import CONTENDERS, threads
from tests import jobs, oracle
from tests.conftest import PROJECT

# In batches of 600, which cores share: six epochs of one and a smaller one, then a step.
LARGE = {"batch_size": 600, "steps": 13, "cores": 2}
SHARING = ("c", "xla", "jax_best")
SLOW = ("graph", "usual", "keras", "keras_best", "article", "eager", "torch_best")


def run(contender, folder, lines):
    """Runs a contender on a folder with these lines on its stdin."""
    options = {"cwd": PROJECT, "env": system.environment("cpu", 0, folder, ())}
    pipes = {"input": lines, "capture_output": True, "text": True}
    done = subprocess.run(contender.argv(folder), **options, **pipes)
    if done.returncode == worker.LEFT_OUT and "sees no GPU" not in done.stderr:
        pytest.skip(done.stderr)
    return done


CASES = [
    *(pytest.param(n, {}, marks=[pytest.mark.slow] * (n in SLOW)) for n in CONTENDERS),
    *(pytest.param(n, LARGE, marks=[pytest.mark.slow] * (n == "xla")) for n in SHARING),
]


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_weights_are_those_of_float64_each_time(name, changes, tiny_dataset, tmp_path):
    task, examples = jobs.fill(tmp_path, tiny_dataset.train, **changes)
    done = run(CONTENDERS[name], tmp_path, "go\ngo\n")
    assert done.returncode == 0, done.stderr[-2000:]
    words = [word for word in done.stdout.split() if word != "loaded"]
    assert words == ["ready", "done"] * 2 + ["ready"]
    found = [np.load(tmp_path / file) for file in measure.WEIGHTS]
    assert [array.dtype for array in found] == [np.float32] * 2
    assert work.relative_error(found, work.weights_after(task, examples, np.float64)) < 1e-5


def test_jax_takes_a_large_batch_in_pieces(tiny_dataset, tmp_path, monkeypatch):
    in_jax = pytest.importorskip("comparison.peers.in_jax")
    monkeypatch.setattr(in_jax, "PIECE", 100)  # of 250 rows, so that three pieces are filled up
    task, examples = jobs.fill(tmp_path, tiny_dataset.train, batch_size=250, steps=8)
    found = in_jax.best(worker.load(tmp_path))()
    assert work.relative_error(found, work.weights_after(task, examples, np.float64)) < 1e-5


@pytest.mark.parametrize("changes", [{}, LARGE])
def test_the_reference_takes_the_oracles_steps(changes, tiny_dataset, tmp_path):
    task, (images, labels, order) = jobs.fill(tmp_path, tiny_dataset.train, **changes)
    W, b = np.zeros((784, 10)), np.zeros(10)
    size = task.batch_size
    batches = [rows[at : at + size] for rows in order for at in range(0, 660, size)]
    for rows in batches[: task.steps]:
        dW, db = oracle.gradients(W, b, images[rows] / 255, labels[rows])
        W, b = W - task.lr * dW, b - task.lr * db
    found = work.weights_after(task, (images, labels, order), np.float64)
    assert work.relative_error(found, (W, b)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jax", "jax_best", "torch", "torch_best", "graph", "usual"])
def test_a_contender_without_a_gpu_is_left_out(name, tiny_dataset, tmp_path):
    jobs.fill(tmp_path, tiny_dataset.train, device="gpu")
    done = run(CONTENDERS[name], tmp_path, "")
    assert done.returncode == worker.LEFT_OUT
    assert done.stderr.strip().endswith("sees no GPU")


def test_what_a_contender_in_python_prints_is_no_answer(tiny_dataset, tmp_path):
    jobs.fill(tmp_path, tiny_dataset.train)
    (tmp_path / "mine.py").write_text("def build(work):\n    print('ready')\n    1 / 0\n")
    command = [sys.executable, "-m", "comparison.worker", "mine:build", str(tmp_path)]
    env = {"PYTHONPATH": os.pathsep.join(map(str, (tmp_path, PROJECT)))}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "loaded\n")
    assert measure.telling_line(done.stderr) == "ZeroDivisionError: division by zero"


def test_blocks_and_epochs_are_the_same_rows_and_end_with_the_last_step(tiny_dataset, tmp_path):
    order = jobs.fill(tmp_path, tiny_dataset.train, batch_size=250, steps=8)[1][2]
    job = worker.load(tmp_path)
    in_epochs = np.concatenate(list(job.epochs()))
    np.testing.assert_array_equal(in_epochs, order.ravel()[: 2 * 660 + 500])
    for max_rows, first in ((1, [(1, 250), (1, 250)]), (660, [(2, 250)])):
        blocks = list(job.blocks(max_rows))
        np.testing.assert_array_equal(np.concatenate([b.ravel() for b in blocks]), in_epochs)
        assert [b.shape for b in blocks] == [*first, (1, 160)] * 2 + first


@pytest.mark.parametrize(("batch_size", "expected"), [(10, 1), (499, 1), (500, 4)])
def test_only_a_large_batch_is_shared_among_the_cores(batch_size, expected):
    assert threads(types.SimpleNamespace(batch_size=batch_size, cores=4)) == expected
