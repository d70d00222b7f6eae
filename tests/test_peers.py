"""Every contender, in a process of its own as compare.py runs it, does the work of the float64 reference."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

import data
from comparison import measure, work
from comparison.contenders import CONTENDERS

# 660 examples in batches of 25: seven epochs of 26 batches and a smaller one, then 11 steps.
JOB = work.Job("tiny", "", num_features=784, num_classes=10, batch_size=25, steps=200, lr=0.01, seed=0)


@pytest.fixture(scope="module")
def folder(tiny_dataset: data.Dataset, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder as the survey leaves it, with the tiny examples."""
    path = tmp_path_factory.mktemp("survey")
    np.savez(
        path / "data.npz",
        images=tiny_dataset.train.images,
        labels=tiny_dataset.train.labels,
        test_images=tiny_dataset.test.images,
        test_labels=tiny_dataset.test.labels,
        order=np.stack([data.epoch_order(660, JOB.seed, epoch) for epoch in range(8)]),
    )
    return path


@pytest.mark.parametrize("name", CONTENDERS)
def test_weights_after_200_steps_are_those_of_the_reference(name: str, folder: pathlib.Path):
    if not CONTENDERS[name].installed():
        pytest.skip(f"{CONTENDERS[name].package} is not installed: see requirements/peers.txt")
    result = folder / f"{name}.npz"
    request = {"folder": str(folder), "contender": name, "device": "cpu", "result": str(result)}
    request["job"] = dataclasses.asdict(JOB)
    done = measure.child("comparison.worker", request, "cpu")
    assert done.returncode == 0, done.stderr
    given = work.load(folder, JOB)
    W, b = work.reference(given)
    with np.load(result) as found:
        # After 200 steps b is at most 0.003, so that float32's own rounding is up to 3e-5 of it.
        assert work.difference((found["W"], found["b"]), (W, b)) < work.TOLERANCE
        np.testing.assert_allclose(found["W"], W, atol=1e-5 * np.abs(W).max())
        assert found["W"].shape == (784, 10)
        predictions = (given.test_images / 255 @ W + b).argmax(axis=1)
        assert found["num_correct"] == (predictions == given.test_labels).sum() > 80
        seconds = json.loads(str(found["seconds"]))
    assert all(seconds[part] > 0 for part in ("start", "compile", "train", "evaluate"))
