"""What the tests share: small learnable data in tfds's place, and what runs the commands on it."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import psutil
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import data
import flags
import train
from common import commandline, errors
from common.files import PROJECT
from runtime import cluster
from runtime.clock import Ledger
from runtime.state import State
from storage import cache
from tests import forked

# A shell starts a command in the background with SIGINT ignored, and what the tests start would
# inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores


@pytest.fixture(autouse=True)
def not_alone(monkeypatch):
    """Nothing that a test calls ends pytest itself, not even without pytest-xdist's workers."""
    monkeypatch.setattr(errors, "is_alone", lambda: False)


def learnable_split(num_examples: int, seed: int) -> data.Split:
    """Returns 28x28 images with a bright row pair that says the class, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=num_examples).astype(np.int32)
    images = rng.integers(0, 120, size=(num_examples, 28, 28), dtype=np.uint8)
    images += 90 * (np.arange(28) // 2 == labels[:, None]).astype(np.uint8)[:, :, None]
    return data.Split(images.reshape(num_examples, 784), labels)


def python(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    """Runs Python in a process of its own, in the project's folder."""
    options = {"cwd": PROJECT, "capture_output": True, "text": True, "timeout": 300} | options
    return subprocess.run([sys.executable, *map(str, arguments)], **options)


def trained(dataset: data.Dataset, **changes: object) -> State:
    """Returns the run that these flags make of a dataset, in this process."""
    state = train.start(flags.training_config(**changes), dataset, Ledger())
    train.train(state, train.compiled(state))
    return state


def gone(pid: int) -> bool:
    """Says whether a process has ended, within ten seconds; it may not have been waited for yet."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(10)
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def spoilt(path: pathlib.Path, bits: Iterable[int], lengths: Iterable[int]) -> Iterator[str]:
    """Yields after each damage of a file: a bit flipped, its end lost, all of it gone; mends it."""
    whole = path.read_bytes()
    for bit in bits:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        yield f"bit {bit}"
    for length in lengths:
        path.write_bytes(whole[:length])
        yield f"length {length}"
    path.unlink()
    yield "gone"
    path.write_bytes(whole)


@pytest.fixture(scope="session")
def tiny_dataset() -> data.Dataset:
    """660 training, 60 validation and 100 test examples that softmax regression can learn."""
    train, test = learnable_split(720, seed=1), learnable_split(100, seed=2)
    rest, validation = (
        data.Split(train.images[rows], train.labels[rows]) for rows in (slice(60, None), slice(60))
    )
    return data.Dataset("mnist", rest, validation, test, [*"0123456789"], (28, 28, 1))


@pytest.fixture
def tiny_data_dir(tiny_dataset: data.Dataset, tmp_path: pathlib.Path) -> pathlib.Path:
    """A data_dir in which `tiny_dataset` stands decoded as mnist, so that no run needs tfds."""
    folder = cache.folder_in(tmp_path / "data", "mnist")
    folder.mkdir(parents=True)
    for name in cache.SPLITS:
        for kind in ("images", "labels"):
            np.save(folder / f"{name}_{kind}.npy", getattr(getattr(tiny_dataset, name), kind))
    cache.describe(folder, tiny_dataset.class_names, tiny_dataset.image_shape)
    return tmp_path / "data"


pytest_plugins = ["tests.campaign"]
Command = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def run_train(tiny_data_dir: pathlib.Path) -> Command:
    """Runs train.py as a command on the tiny data; further flags are the arguments."""
    return lambda *more, **options: forked.run(
        [PROJECT / "train.py", f"--data_dir={tiny_data_dir}", *more], **options
    )


@pytest.fixture
def run_here(tiny_data_dir: pathlib.Path) -> Callable[..., dict]:
    """Runs what `python train.py` runs, on the tiny data, in this process; returns the record."""

    def run(*arguments: str) -> dict:
        argv = ["train.py", f"--data_dir={tiny_data_dir}", *arguments]
        return train.run(
            cluster.checked(commandline.parse(flags.train_flags(), argv, "")), Ledger()
        )

    return run
