"""Every contender, in a process of its own, does the same work as float64 NumPy, again and
again."""

import importlib.util
import json
import os
import subprocess

import numpy as np
import pytest

import data
from comparison.peers import CONTENDERS, threads
from comparison.worker import LEFT_OUT, Work
from tests import oracle

# 660 examples in batches of 25: seven epochs of 26 batches and a smaller one, then 11 steps.
SMALL = {"batch_size": 25, "steps": 200, "cores": 1}
# In batches of 600, which cores share: six epochs of one and a smaller one, then a step.
LARGE = {"batch_size": 600, "steps": 13, "cores": 2}
SHARING = ("c", "xla", "jax_best")
SLOW = ("usual", "keras", "keras_best", "article", "eager", "torch_best")


def given(changes):
    """Returns what job.json has."""
    own = {"num_classes": 10, "num_features": 784, "num_examples": 660, "lr": 0.001, "seed": 0}
    return own | {"device": "cpu", "device_index": 0, "precision": "float32"} | changes


def job_folder(path, split, job):
    """Fills a folder as compare.py does; returns W and b of the job in float64."""
    epochs = -(-job["steps"] // -(-660 // job["batch_size"]))
    order = np.stack([data.epoch_order(660, job["seed"], epoch) for epoch in range(epochs)])
    for name, array in (("images", split.images), ("labels", split.labels), ("order", order)):
        np.save(path / f"{name}.npy", array)
    (path / "job.json").write_text(json.dumps(job))
    W, b = np.zeros((784, 10)), np.zeros(10)
    size = job["batch_size"]
    batches = (rows[at : at + size] for rows in order for at in range(0, 660, size))
    for _, rows in zip(range(job["steps"]), batches, strict=False):
        dW, db = oracle.gradients(W, b, split.images[rows] / 255, split.labels[rows])
        W, b = W - job["lr"] * dW, b - job["lr"] * db
    return W, b


def run(contender, folder, lines):
    """Runs a contender on a folder with these lines on its stdin."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "KERAS_HOME": str(folder)}
    return subprocess.run(
        contender.argv(folder),
        cwd=contender.place,
        env=environment,
        input=lines,
        capture_output=True,
        text=True,
    )


def skip_if_absent(contender):
    if contender.lacks_tool() or not importlib.util.find_spec(contender.package):
        pytest.skip(f"{contender.tool or contender.package} is not here")


CASES = [
    *(pytest.param(n, SMALL, marks=[pytest.mark.slow] * (n in SLOW)) for n in CONTENDERS),
    *((name, LARGE) for name in SHARING),
]


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_weights_are_those_of_float64_each_time(name, changes, tiny_dataset, tmp_path):
    contender = CONTENDERS[name]
    skip_if_absent(contender)
    expected = job_folder(tmp_path, tiny_dataset.train, given(changes))
    done = run(contender, tmp_path, "go\ngo\n")
    assert done.returncode == 0, done.stderr[-2000:]
    words = [word for word in done.stdout.split() if word != "loaded"]
    assert words == ["ready", "done"] * 2 + ["ready"]
    scale = np.abs(expected[0]).max()
    for file, right in zip(("W.npy", "b.npy"), expected, strict=True):
        found = np.load(tmp_path / file)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, right, atol=1e-5 * scale)


@pytest.mark.parametrize("name", ["jax", "jax_best", "torch", "torch_best", "graph", "usual"])
def test_a_contender_without_a_gpu_is_left_out(name, tiny_dataset, tmp_path):
    contender = CONTENDERS[name]
    skip_if_absent(contender)
    job_folder(tmp_path, tiny_dataset.train, given(SMALL | {"device": "gpu"}))
    done = run(contender, tmp_path, "")
    assert done.returncode == LEFT_OUT
    assert done.stderr.strip().endswith("sees no GPU")


@pytest.mark.parametrize(("batch_size", "expected"), [(10, 1), (499, 1), (500, 4)])
def test_only_a_large_batch_is_shared_among_the_cores(batch_size, expected):
    empty = np.zeros((0, 4), np.uint8), np.zeros(0, np.int32), np.zeros((1, 0), np.int32)
    work = Work(*empty, 2, batch_size, 1, 0.1, 0, "cpu", 4, "float32")
    assert threads(work) == expected
