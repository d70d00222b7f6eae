"""Real MNIST, through tfds and the real command; the first run prepares it from the project's
archives."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import data
from tests import oracle
from tests.conftest import PROJECT, trained

pytestmark = pytest.mark.slow

ARCHIVES = PROJECT / "archives" / "mnist"
NO_NETWORK = {
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "no_proxy": "",
}


FirstRun = tuple[pathlib.Path, subprocess.CompletedProcess]


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """The main job on an empty data_dir, without a network."""
    data_dir = tmp_path_factory.mktemp("mnist")
    flags = [
        "--batch_size=10",
        "--lr=0.01",
        f"--data_dir={data_dir}",
        f"--record={data_dir / 'run.json'}",
    ]
    command, env = [sys.executable, "train.py", *flags], {**os.environ, **NO_NETWORK}
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=300, env=env
    )
    return data_dir, done


def test_the_main_job_reaches_the_articles_accuracy_from_the_archives_alone(
    first_run: FirstRun,
) -> None:
    data_dir, done = first_run
    assert done.returncode == 0, done.stderr
    assert "55,000 training, 5,000 validation, 10,000 test images" in done.stdout
    accuracy, count = re.search(
        r"test accuracy (0\.\d{4}) of ([\d,]+) images", done.stdout
    ).groups()
    assert 0.905 <= float(accuracy) < 0.93 and count == "10,000"
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["preparing", "decoding"]
    record = json.loads((data_dir / "run.json").read_text())
    assert (record["steps"], record["examples"]) == (5_500, 55_000)


def test_the_splits_are_those_of_the_archives(first_run: FirstRun) -> None:
    loaded = data.load("mnist", str(first_run[0]))
    archive = {
        name: oracle.read_idx(ARCHIVES / f"{name}-ubyte.gz")
        for name in ("train-images-idx3", "train-labels-idx1")
    }
    archive |= {
        name: oracle.read_idx(ARCHIVES / f"{name}-ubyte.gz")
        for name in ("t10k-images-idx3", "t10k-labels-idx1")
    }
    both = np.concatenate([loaded.validation.images, loaded.train.images])
    assert (len(loaded.validation), len(loaded.train), len(loaded.test)) == (5_000, 55_000, 10_000)
    for images, expected in (
        (both, archive["train-images-idx3"]),
        (loaded.test.images, archive["t10k-images-idx3"]),
    ):
        assert images.astype(np.int64).sum() == expected.astype(np.int64).sum()
        sums = np.sort(images.reshape(len(images), -1) @ np.arange(784, dtype=np.int64))
        np.testing.assert_array_equal(
            sums, np.sort(expected.reshape(len(expected), -1) @ np.arange(784, dtype=np.int64))
        )
    assert (np.bincount(loaded.test.labels) == np.bincount(archive["t10k-labels-idx1"])).all()


def test_a_whole_unshuffled_epoch_ends_at_the_oracles_weights(first_run: FirstRun) -> None:
    loaded = data.load("mnist", str(first_run[0]))
    ran = trained(loaded, shuffle=False, eval_every=0)
    W, b, _ = oracle.train(
        loaded.train.images, loaded.train.labels, [np.arange(55_000)], batch=10, lr=0.01
    )
    np.testing.assert_allclose(ran.model.W, W, atol=1e-5)
    np.testing.assert_allclose(ran.model.b, b, atol=1e-5)
