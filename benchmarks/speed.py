"""How fast the program is at its own job, against what it must beat: python -m benchmarks.speed --write"""

import dataclasses
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

import data
from benchmarks import runs
from common import children
from common.errors import RunError
from common.flagging import List, choice, flag
from storage import cache

IMPORT = "import tensorflow, os; os._exit(0)"
STREAMED = (10, 100, 1_000, 10_000)
TEN, LARGE = 10, 70  # times MNIST; the larger has 3.3 GB
ALONE = ("--eval_every=0", "--loss_reduction=mean")  # of a run whose training alone is looked at
Rows = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Bench:
    """This project, measured: the flags, and where the datasets made for it are."""

    config: "Config"
    folder: pathlib.Path

    def python(self, *arguments: str) -> runs.Run:
        return runs.run(self.config, *arguments)

    def train(self, *arguments: str) -> runs.Run:
        return runs.train(self.config, *arguments)

    def rate(self, batch_size: int, *arguments: str) -> float:
        """Returns thousand images/s of training alone."""
        return (
            self.train(f"--batch_size={batch_size}", *ALONE, *arguments).record[
                "examples_per_second"
            ]
            / 1000
        )

    def until(self, words: bytes, *arguments: str, terminal: bool = False) -> runs.Run:
        """Runs train.py until it has printed `words`, anything if they are empty, and ends it there."""
        reading, writing = os.openpty() if terminal else os.pipe()
        command = [sys.executable, "train.py", *self.config.where, *arguments]
        options = {
            "cwd": runs.PROJECT,
            "stdin": subprocess.DEVNULL,
            "stdout": writing,
            "stderr": writing,
        }
        began, seen = time.perf_counter(), b""
        with (
            children.started(command, self.config.timeout, **options) as process,
            open(reading, "rb", 0) as output,
        ):
            os.close(writing)
            while not seen or words not in seen:
                if not (some := output.read(4096)):
                    raise RunError(f"{' '.join(command)} ended before it said {words!r}")
                seen += some
            seconds = time.perf_counter() - began
            process.kill()
            return runs.Run(seconds, runs.wait(process))


def start(bench: Bench) -> Rows:
    """A run around its steps."""
    bench.train("--max_steps=1")  # what a first run keeps is there then
    imported, run = bench.python("-c", IMPORT), bench.train()
    ledger = run.record["seconds"]
    return {
        "a warm run, the whole process, s": run.seconds,
        f'a warm run over `python -c "{IMPORT}"`': run.seconds / imported.seconds,
        "compile, of its ledger, s": ledger["compile"],
        "compile over import, of its ledger": ledger["compile"] / ledger["import"],
        "peak memory of a warm run beyond that import, MiB": run.peak_mib - imported.peak_mib,
        "from the command to the first output on a terminal, s": bench.until(
            b"", terminal=True
        ).seconds,
        "`--help`, s": bench.python("train.py", "--help").seconds,
    }


def stream(bench: Bench) -> Rows:
    """Images/s from the disk over those from memory, and the memory that both take."""
    rows: Rows = {}
    for name, job in (
        ("MNIST", ("--epochs=20",)),
        ("ten times MNIST", (f"--dataset=made{TEN}", f"--data_dir={bench.folder}", "--epochs=2")),
    ):
        for size in STREAMED:
            memory, streamed = (
                bench.rate(size, *job, f"--input={source}") for source in ("memory", "stream")
            )
            rows[f"stream over memory, images/s, {name}, batch {size:,}"] = streamed / memory
        for source in ("memory", "stream"):
            peak = bench.train("--eval_every=0", *job, "--epochs=1", f"--input={source}").peak_mib
            rows[f"peak memory, {name}, --input={source}, MiB"] = peak
    return rows


def large(bench: Bench) -> Rows:
    """3.3 GB of training images in memory."""
    path = cache.folder_in(bench.folder, f"made{LARGE}") / "train_images.npy"
    size = path.stat().st_size
    read = runs.elsewhere(seconds_of_fromfile, path)
    job = (
        f"--dataset=made{LARGE}",
        f"--data_dir={bench.folder}",
        "--input=memory",
        "--max_steps=1000",
    )
    run, small = bench.train(*job, *ALONE), bench.train("--max_steps=1000", *ALONE)
    ledger = run.record["seconds"]  # reading begins while TensorFlow is imported
    loading = ledger["import"] + ledger["data"] - small.record["seconds"]["import"]
    return {
        "3.3 GB in memory: what loading adds to a run over `np.fromfile` of the file": loading
        / read,
        "3.3 GB in memory: peak memory over the images": run.peak_mib * runs.MIB / size,
    }


GROUPS = {"start": start, "stream": stream, "large": large}
Found = dict[str, list[float]]  # the samples of each row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(runs.Config):
    """The flags of this benchmark."""

    only: tuple[str, ...] = flag(
        tuple(GROUPS), List(choice(*GROUPS), f"some of {', '.join(GROUPS)}"), "What to measure."
    )


def seconds_of_fromfile(path: pathlib.Path) -> float:
    """Returns how long NumPy takes to read a file."""
    began = time.perf_counter()
    np.fromfile(path, np.uint8)
    return time.perf_counter() - began


def make(root: pathlib.Path, times: int, data_dir: str | None) -> None:
    """Puts MNIST, so many times, below `root` as the dataset made<times>."""
    mnist = data.load("mnist", data_dir)
    folder = cache.folder_in(root, f"made{times}")
    folder.mkdir(parents=True)
    shape = (len(mnist.validation) + len(mnist.train), mnist.num_features)
    images = np.lib.format.open_memmap(
        folder / "train_images.npy", "w+", np.uint8, (shape[0] * times, shape[1])
    )
    labels = np.concatenate([mnist.validation.labels, mnist.train.labels])
    for first in range(0, len(images), shape[0]):
        images[first:][: len(mnist.validation)] = mnist.validation.images
        images[first + len(mnist.validation) :][: len(mnist.train)] = mnist.train.images
    images.flush()
    np.save(folder / "train_labels.npy", np.tile(labels, times))
    np.save(folder / "test_images.npy", mnist.test.images)
    np.save(folder / "test_labels.npy", mnist.test.labels)
    cache.describe(folder, mnist.class_names, mnist.image_shape)


def table(found: Found) -> list[str]:
    """Returns the Markdown of the samples of each row."""
    lines = ["| what | now |", "|---|--:|"]
    return lines + [f"| {name} | {runs.middle(values)} |" for name, values in found.items()]


def measure(config: Config) -> None:
    """Measures every row in turn; prints and writes the tables."""
    found: dict[str, Found] = {group: {} for group in config.only}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(config, pathlib.Path(folder))
        for group, times in {"stream": TEN, "large": LARGE}.items():
            if group in config.only:
                runs.elsewhere(make, bench.folder, times, config.data_dir)
        for number, group in itertools.product(range(config.rounds), config.only):
            print(f"round {number + 1} of {config.rounds}: {group}", file=sys.stderr, flush=True)
            for name, value in GROUPS[group](bench).items():
                found[group].setdefault(name, []).append(value)
    publish(config, found)


def publish(config: Config, found: dict[str, Found]) -> None:
    """Prints and writes a table of the streams, which is a result, and one of all else."""
    if rows := found.pop("stream", None):
        page, command = "docs/results.md", "speed --only=stream"
        runs.publish("stream", config, table(rows), page, rows, command)
    if rest := {name: values for rows in found.values() for name, values in rows.items()}:
        runs.publish("speed", config, table(rest), "docs/performance.md")


if __name__ == "__main__":
    runs.main(Config, measure, __doc__)
