"""Measures the speed of train.py; each function measures one round of a record."""

import pathlib
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from benchmarks import common
from storage import cache

IMPORT = "import tensorflow, os; os._exit(0)"
WARM = "a warm run, the whole process, s"
# Flags of a run in which only the training is measured.
ALONE = ("--eval_every=0", "--loss_reduction=mean")
BY_HAND = "tf.function a batch, µs/step"
MODES = {"xla": "--epochs=10", "graph": "--epochs=2", "eager": "--max_steps=2000"}
BATCHES = (10, 30, 100, 300, 500, 1_000, 3_000, 10_000, 55_000)
FEW_BATCHES = (10, 100, 1_000, 10_000)
LARGE = 70  # times MNIST's training images: 3.0 GB


def start() -> dict[str, float]:
    """A whole run, compared with an import of TensorFlow alone."""
    imported, run = common.python("-c", IMPORT), common.train()
    return {
        WARM: run.seconds,
        f'a warm run over `python -c "{IMPORT}"`': run.seconds / imported.seconds,
        "peak memory beyond that import, MiB": run.peak_mib - imported.peak_mib,
    }


def modes() -> dict[str, float]:
    """Microseconds per step at batch 10 in each mode of train.py, and in the README's loop."""
    eager = ("--mode=eager", MODES["eager"], *ALONE)
    by_hand = common.train(*eager, program=("-m", "benchmarks.by_hand"))
    found = {BY_HAND: by_hand.record["us_per_step"]}
    for mode, length in MODES.items():
        record = common.train(f"--mode={mode}", length, *ALONE).record
        found[f"mode {mode}, µs/step"] = record["us_per_step"]
    return found


def batches() -> dict[str, float]:
    """Thousands of images/s of training alone, by batch size."""
    return images_per_second(BATCHES, "--epochs=20")


def images_per_second(sizes: Iterable[int], *job: str) -> dict[str, float]:
    """Returns the thousands of images/s of a job, by batch size."""
    found = {}
    for size in sizes:
        record = common.train(f"--batch_size={size}", *job, *ALONE).record
        found[f"batch {size:,}, thousand images/s"] = record["examples_per_second"] / 1000
    return found


def large() -> dict[str, float]:
    """A dataset of 3.0 GB: the speed of a stream over that from memory, and their peak memory."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        with ProcessPoolExecutor(1) as maker:  # its memory must not count as that of the runs
            size_mib = maker.submit(make, pathlib.Path(folder)).result() / 2**20
        job = (f"--dataset=made{LARGE}", f"--data_dir={folder}", *ALONE)
        for size in FEW_BATCHES:
            rates = {}
            for source in ("stream", "memory"):
                run = common.train(*job, f"--batch_size={size}", f"--input={source}")
                rates[source] = run.record["examples_per_second"]
                found[f"peak memory over the images, {source}"] = run.peak_mib / size_mib
            found[f"images/s, stream over memory, batch {size:,}"] = (
                rates["stream"] / rates["memory"]
            )
    return found


def make(root: pathlib.Path, times: int = LARGE) -> int:
    """Writes a cache below `root`: MNIST, with its training images repeated `times` times. The name
    of the dataset is made{times}.

    Returns the bytes of the training images.
    """
    folder = cache.folder_in(root, f"made{times}")
    folder.mkdir(parents=True)
    for path in cache.folder_in(cache.root_folder(None), "mnist").glob("*.npy"):
        copies = times if path.name.startswith("train") else 1
        np.save(folder / path.name, np.concatenate([np.load(path)] * copies))
    cache.describe(folder, list("0123456789"), (28, 28, 1))
    return (folder / "train_images.npy").stat().st_size


def replicas() -> dict[str, float]:
    """Thousands of images/s of two replicas, which are parts of one CPU, by their common batch."""
    two = ("--strategy=mirrored", "--replicas=2")
    return images_per_second(FEW_BATCHES, "--epochs=1000", "--max_steps=500", *two)
