"""Real MNIST, through tfds and the real command, prepared from the project's archives."""

import gzip
import json
import os

import numpy as np
import pytest

import data
from tests import oracle
from tests.conftest import PROJECT, python

pytestmark = pytest.mark.slow

NO_NETWORK = {**dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9"), "no_proxy": ""}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """The main job on an empty data_dir, without a network."""
    folder = tmp_path_factory.mktemp("mnist")
    written = f"--record={folder / 'run.json'}", f"--export_dir={folder / 'model'}"
    job = "--batch_size=10", "--lr=0.01", f"--data_dir={folder}", *written
    done = python("train.py", *job, env=os.environ | NO_NETWORK)
    assert done.returncode == 0, done.stderr
    return folder, done, data.load("mnist", str(folder))


def test_the_main_job_reaches_the_articles_accuracy_from_the_archives_alone(first_run):
    folder, done, _ = first_run
    assert "55,000 training, 5,000 validation, 10,000 test images" in done.stdout
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["preparing", "decoding"]
    record = json.loads((folder / "run.json").read_text())
    assert (record["steps"], record["examples"]) == (5_500, 55_000)
    assert 0.905 <= record["test_accuracy"] < 0.93


def test_the_splits_are_those_of_the_archives(first_run):
    mnist = first_run[2]
    assert (len(mnist.validation), len(mnist.train), len(mnist.test)) == (5_000, 55_000, 10_000)
    for name, splits in (("train", [mnist.validation, mnist.train]), ("t10k", [mnist.test])):
        images = bytes_of(f"{name}-images-idx3-ubyte.gz", header=16)
        labels = bytes_of(f"{name}-labels-idx1-ubyte.gz", header=8)
        found = [row for split in splits for row in rows(split.images, split.labels)]
        assert sorted(found) == sorted(rows(images.reshape(-1, 784), labels))


def bytes_of(archive, header):
    raw = gzip.decompress((PROJECT / "archives" / "mnist" / archive).read_bytes())
    return np.frombuffer(raw, np.uint8, offset=header)


def rows(images, labels):
    return map(bytes, np.column_stack([images, labels.astype(np.uint8)]))


def test_an_epoch_ends_at_the_oracles_weights(first_run):
    folder, _, mnist = first_run
    order = data.epoch_order(55_000, seed=0, epoch=0)
    W, b, _ = oracle.train(mnist.train.images, mnist.train.labels, [order], batch=10, lr=0.01)
    oracle.assert_weights(np.load(folder / "model" / "weights.npz"), W, b)
