"""Every contender, in a process of its own, does the same work as float64 NumPy, each time."""

import subprocess

import numpy as np
import pytest

from comparison import measure, system, work, worker
from comparison.peers import CONTENDERS
from tests import jobs, oracle
from tests.conftest import PROJECT, python

# In batches of 600, which cores share: six epochs of one and a smaller one, then a step.
LARGE = {"batch_size": 600, "steps": 13, "cores": 2}
SHARING = ("c", "xla", "jax_best")
SLOW = ("graph", "usual", "keras", "keras_best", "article", "eager", "torch_best")


def run(contender, folder, lines):
    """Runs a contender on a folder with these lines on its stdin."""
    done = subprocess.run(
        contender.argv(folder),
        cwd=PROJECT,
        env=system.environment("cpu", folder, []),
        input=lines,
        capture_output=True,
        text=True,
    )
    if done.returncode == worker.LEFT_OUT and "sees no GPU" not in done.stderr:
        pytest.skip(done.stderr)
    return done


CASES = [
    *(pytest.param(n, {}, marks=[pytest.mark.slow] * (n in SLOW)) for n in CONTENDERS),
    *(pytest.param(n, LARGE, marks=[pytest.mark.slow] * (n == "xla")) for n in SHARING),
]


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_weights_are_those_of_float64_each_time(name, changes, tiny_dataset, tmp_path):
    task, examples = jobs.fill(tmp_path, tiny_dataset.train, contender=name, **changes)
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
    task, examples = jobs.fill(tmp_path, tiny_dataset.train, **changes)
    # the same rows as contenders are given them
    rows = map(np.ravel, worker.load(tmp_path).blocks(max_rows=500))
    W, b, losses = oracle.train(*examples[:2], rows, task.batch_size, task.lr)
    assert len(losses) == task.steps
    assert work.relative_error(work.weights_after(task, examples, np.float64), (W, b)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jax", "jax_best", "torch", "torch_best", "graph", "usual"])
def test_a_contender_without_a_gpu_is_left_out(name, tiny_dataset, tmp_path):
    jobs.fill(tmp_path, tiny_dataset.train, device="gpu")
    done = run(CONTENDERS[name], tmp_path, "")
    assert done.returncode == worker.LEFT_OUT
    assert done.stderr.strip().endswith("sees no GPU")


def test_a_contender_in_python_that_fails_says_why(tiny_dataset, tmp_path):
    jobs.fill(tmp_path, tiny_dataset.train)
    (tmp_path / "mine.py").write_text("def build(work):\n    1 / 0\n")
    done = python(
        *("-m", "comparison.worker", "mine:build", tmp_path), env={"PYTHONPATH": str(tmp_path)}
    )
    assert (done.returncode, done.stdout) == (1, "loaded\n")
    assert measure.telling_line(done.stderr) == "ZeroDivisionError: division by zero"
