"""Real MNIST, through tfds and the real command; the first run prepares it from the project's archives."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import data
import model
from storage import cache
from tests import forked, oracle
from tests.conftest import PROJECT, trained

pytestmark = pytest.mark.slow

ARCHIVES = PROJECT / "archives" / "mnist"
NO_NETWORK = {
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "no_proxy": "",
}


def run(*arguments: str) -> subprocess.CompletedProcess:
    return forked.run([PROJECT / "train.py", *arguments], env={**os.environ, **NO_NETWORK})


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


def test_ten_epochs_are_the_articles_55000_steps(first_run: FirstRun) -> None:
    done = run("--epochs=10", f"--data_dir={first_run[0]}", "--eval_every=0")
    assert "55,000 steps" in done.stdout and done.stderr == ""
    assert 0.91 <= float(re.search(r"test accuracy (\S+)", done.stdout)[1]) < 0.935


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


def test_the_first_ten_losses_by_hand_are_the_oracles(first_run: FirstRun) -> None:
    train = data.load("mnist", str(first_run[0])).train
    net = model.SoftmaxRegression(784, 10)
    losses = [
        model.sgd_step(net, *batch, 0.01) for batch in data.pipeline(train, batch_size=10).take(10)
    ]
    rows = data.epoch_order(55_000, 0, 0)[:100]
    _, _, expected = oracle.train(train.images, train.labels, [rows], batch=10, lr=0.01)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_the_loop_of_the_readme_ends_with_the_weights_of_the_program(first_run: FirstRun) -> None:
    mnist = data.load("mnist", str(first_run[0]))
    net, step = model.SoftmaxRegression(784, 10), tf.function(model.sgd_step)
    for images, labels in data.pipeline(mnist.train, batch_size=10, seed=0, epoch=0):
        step(net, images, labels, 0.01)
    program = trained(mnist, eval_every=0).model
    np.testing.assert_allclose(net.W, program.W, atol=1e-5)
    np.testing.assert_allclose(net.b, program.b, atol=1e-5)


def test_the_same_loop_without_tf_function_goes_the_same_way(first_run: FirstRun) -> None:
    mnist = data.load("mnist", str(first_run[0]))
    net = model.SoftmaxRegression(784, 10)
    for images, labels in data.pipeline(mnist.train, batch_size=10, seed=0, epoch=0).take(300):
        model.sgd_step(net, images, labels, 0.01)
    program = trained(mnist, max_steps=300, eval_every=0).model
    np.testing.assert_allclose(net.W, program.W, atol=1e-5)
    np.testing.assert_allclose(net.b, program.b, atol=1e-5)


def test_a_flipped_bit_in_an_archive_is_named_with_both_checksums(tmp_path: pathlib.Path) -> None:
    shutil.copytree(ARCHIVES, tmp_path / "archives")
    archive = tmp_path / "archives" / "t10k-images-idx3-ubyte.gz"
    raw = bytearray(archive.read_bytes())
    raw[1000] ^= 1
    archive.write_bytes(raw)
    done = run(f"--data_dir={tmp_path / 'data'}", f"--manual_dir={tmp_path / 'archives'}")
    error = done.stderr.splitlines()[-1]
    assert (
        done.returncode == 2
        and "Traceback" not in done.stderr
        and error.startswith("error: --manual_dir: ")
    )
    assert (
        "t10k-images-idx3-ubyte.gz" in error
        and len(set(re.findall(r"\b[0-9a-f]{64}\b", error))) == 2
    )


def test_without_archives_and_network_the_four_files_are_named(tmp_path: pathlib.Path) -> None:
    done = run(f"--data_dir={tmp_path / 'data'}", f"--manual_dir={tmp_path}")
    error = done.stderr.splitlines()[-1]
    assert (
        done.returncode == 2
        and "Traceback" not in done.stderr
        and error.startswith("error: --manual_dir: ")
    )
    assert (
        all(archive.name in error for archive in ARCHIVES.glob("*.gz")) and str(tmp_path) in error
    )


def test_damaged_files_are_repaired_and_that_is_said(
    first_run: FirstRun, tmp_path: pathlib.Path
) -> None:
    copy = shutil.copytree(first_run[0], tmp_path / "data")
    images = cache.folder_in(copy, "mnist") / "train_images.npy"
    images.write_bytes(images.read_bytes()[:1_000_000])
    records = next(copy.glob("mnist/*/mnist-train.tfrecord*"))
    records.write_bytes(records.read_bytes()[:1_000_000])
    done = run(f"--data_dir={copy}", "--max_steps=1")
    assert done.returncode == 0, done.stderr
    assert f"{cache.FOLDER}: " in done.stderr and ": decoding mnist again" in done.stderr
    assert "is damaged" in done.stderr and "preparing mnist again" in done.stderr
    np.testing.assert_array_equal(
        data.load("mnist", str(copy)).train.images,
        data.load("mnist", str(first_run[0])).train.images,
    )
