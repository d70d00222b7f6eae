"""How fast the program is at its own job, against what it must beat and against an earlier state of itself.

python -m benchmarks.speed --before=DIR --write
"""

import dataclasses
import itertools
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import runs
from common import children
from common.errors import InputError, RunError
from common.flagging import TEXT, List, choice, flag
from comparison.contenders import CONTENDERS
from comparison.results import KEY
from storage import cache

IMPORT = "import tensorflow, os; os._exit(0)"
BATCHES = (10, 30, 100, 300, 500, 1_000, 2_000, 5_000, 10_000, 55_000)
STREAMED = (10, 100, 1_000, 10_000)
TEN, LARGE = 10, 70  # times MNIST; the larger has 3.3 GB
ALONE = ("--eval_every=0", "--loss_reduction=mean")  # of a run whose training alone is looked at
Rows = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Bench:
    """A checkout of this project, measured: the flags, its folder, and where the datasets made for it are."""

    config: "Config"
    project: pathlib.Path
    folder: pathlib.Path

    def python(self, *arguments: str) -> runs.Run:
        return runs.run(self.config, *arguments, cwd=self.project)

    def train(self, *arguments: str) -> runs.Run:
        return runs.train(self.config, *arguments, cwd=self.project)

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
            "cwd": self.project,
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

    def us_per_step(self, contender: str) -> float:
        """Returns what compare.py measures for a contender on the CPU."""
        output = pathlib.Path(tempfile.mkdtemp(dir=self.folder), "found.json")
        job = (f"--contenders={contender}", "--devices=cpu", "--rounds=2", "--max_steps=5500")
        self.python("compare.py", *self.config.where, *job, f"--output={output}")
        samples = json.loads(output.read_text())[KEY]["runs"][0]["samples"]
        return statistics.median(sample["us_per_step"] for sample in samples)


def start(bench: Bench, _: Bench) -> Rows:
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


def steps(bench: Bench, now: Bench) -> Rows:
    """A step at batch 10, against the same rivals for every checkout."""
    xla = bench.us_per_step("xla")
    rows = {"a step in mode xla, us": xla}
    if "c" in CONTENDERS and shutil.which(os.environ.get("CC", "cc")):
        rows["a step in mode xla over plain C"] = xla / now.us_per_step("c")
    with runs.one_core():
        graph, article = bench.us_per_step("graph"), now.us_per_step("article")
    return rows | {
        "a step in mode graph on one core, us": graph,
        "a step in mode graph over the article's program, both on one core": graph / article,
    }


def batches(bench: Bench, _: Bench) -> Rows:
    """Images/s over the batch size."""
    rates = {size: bench.rate(size, "--epochs=20") for size in BATCHES}
    best = itertools.accumulate(rates.values(), max)
    with runs.one_core():
        alone = bench.rate(10_000, "--epochs=20")
    return {f"batch {size:,}, thousand images/s": rate for size, rate in rates.items()} | {
        "the deepest fall of images/s as the batch grows, %": max(
            100 * (1 - rate / most) for rate, most in zip(rates.values(), best, strict=True)
        ),
        "batch 10,000, all cores over one": rates[10_000] / alone,
    }


def stream(bench: Bench, _: Bench) -> Rows:
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


def large(bench: Bench, _: Bench) -> Rows:
    """3.3 GB of training images in memory."""
    made = bench.folder / f"made{LARGE}"
    path = cache.folder_in(bench.folder, made.name) / "train_images.npy"
    size = path.stat().st_size
    read = runs.elsewhere(
        seconds_of_fromfile, path if bench.project == runs.PROJECT else made / "decoded.npz"
    )
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


def epochs(bench: Bench, _: Bench) -> Rows:
    """What a long plan costs before the first step."""
    one, many = (bench.until(b"step 1/", f"--epochs={count}") for count in (1, 100_000))
    return {
        "--epochs=100000 over --epochs=1: time to the first step": many.seconds / one.seconds,
        "--epochs=100000 over --epochs=1: memory at the first step": many.peak_mib / one.peak_mib,
    }


GROUPS = {
    "start": start,
    "steps": steps,
    "batches": batches,
    "stream": stream,
    "large": large,
    "epochs": epochs,
}
# what the project reaches stands in docs/results.md, the rest in docs/performance.md
RESULTS = ("batches", "stream")
Found = dict[str, list[list[float]]]  # the samples of a row, of each checkout


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(runs.Config):
    """The flags of this benchmark."""

    before: str | None = flag(
        None, TEXT, "Another checkout of this project, measured in turn with this one."
    )
    only: tuple[str, ...] = flag(
        tuple(GROUPS), List(choice(*GROUPS), f"some of {', '.join(GROUPS)}"), "What to measure."
    )


def seconds_of_fromfile(path: pathlib.Path) -> float:
    """Returns how long NumPy takes to read a file."""
    began = time.perf_counter()
    np.fromfile(path, np.uint8)
    return time.perf_counter() - began


def make(root: pathlib.Path, times: int, data_dir: str | None, npz: bool) -> None:
    """Puts MNIST, so many times, below `root` as the dataset made<times>; if asked to, in the earlier form too."""
    import data  # and with it TensorFlow

    mnist = data.load("mnist", data_dir)
    folder = cache.folder_in(root, f"made{times}")
    folder.mkdir(parents=True)
    shape = (len(mnist.train) * times, mnist.num_features)
    images = np.lib.format.open_memmap(folder / "train_images.npy", "w+", np.uint8, shape)
    for first in range(0, len(images), len(mnist.train)):
        images[first:][: len(mnist.train)] = mnist.train.images
    images.flush()
    np.save(folder / "train_labels.npy", np.tile(mnist.train.labels, times))
    for name in ("validation", "test"):
        np.save(folder / f"{name}_images.npy", getattr(mnist, name).images)
        np.save(folder / f"{name}_labels.npy", getattr(mnist, name).labels)
    cache.describe(folder, mnist.class_names, mnist.image_shape)
    if npz:
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
        np.savez(
            folder.parent / "decoded.npz",
            **arrays,
            class_names=mnist.class_names,
            image_shape=mnist.image_shape,
        )


def table(found: Found) -> list[str]:
    """Returns the Markdown of the samples of each row: those of this state last, before them those of --before."""
    two = len(next(iter(found.values()))) == 2
    lines = (
        ["| what | before | now | now over before |", "|---|--:|--:|--:|"]
        if two
        else ["| what | now |", "|---|--:|"]
    )
    for name, columns in found.items():
        cells = [runs.middle(values) if values else "" for values in columns]
        if two:
            ratios = [now / before for before, now in zip(*columns, strict=False) if before]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def measure(config: Config) -> None:
    """Measures every row of every checkout in turn; prints and writes the tables."""
    projects = [pathlib.Path(config.before).resolve()] if config.before else []
    if projects and not (projects[0] / "train.py").is_file():
        raise InputError(
            f"--before={config.before}: must be a checkout of this project, with train.py in it"
        )
    found: dict[str, Found] = {group: {} for group in config.only}
    with tempfile.TemporaryDirectory() as folder:
        benches = [
            Bench(config, project, pathlib.Path(folder)) for project in [*projects, runs.PROJECT]
        ]
        for times in {"stream": TEN, "large": LARGE}.items():
            if times[0] in config.only:
                runs.elsewhere(make, benches[0].folder, times[1], config.data_dir, bool(projects))
        for number, group in itertools.product(range(config.rounds), config.only):
            print(f"round {number + 1} of {config.rounds}: {group}", file=sys.stderr, flush=True)
            for place, bench in enumerate(benches):
                for name, value in GROUPS[group](bench, benches[-1]).items():
                    found[group].setdefault(name, [[] for _ in benches])[place].append(value)
    publish(config, found)


def publish(config: Config, found: dict[str, Found]) -> None:
    """Prints and writes a table for each of RESULTS, and one of all else."""
    for group in RESULTS:
        if rows := found.pop(group, None):
            runs.publish(
                group, config, table(rows), "docs/results.md", rows, f"speed --only={group}"
            )
    if rest := {name: columns for rows in found.values() for name, columns in rows.items()}:
        runs.publish("speed", config, table(rest), "docs/performance.md")


if __name__ == "__main__":
    runs.main(Config, measure, __doc__)
