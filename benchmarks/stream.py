"""Streaming against memory: speed as a ratio, and peak memory on a dataset ten times MNIST.

python -m benchmarks.stream --runs=5
"""

import dataclasses
import pathlib
import sys
import tempfile

import numpy as np

import data
from benchmarks import runs
from common import flagging
from common.errors import exit_with_one_line

TIMES = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of this benchmark."""

    data_dir: str | None = flagging.flag(None, flagging.TEXT, "Prepared datasets; default: tfds's own.")
    runs: int = flagging.flag(5, flagging.COUNT, "Pairs of runs, in memory and streamed.")
    epochs: int = flagging.flag(10, flagging.COUNT, "Epochs of a run.")
    write: bool = flagging.flag(False, flagging.SWITCH, "Write the tables into docs/streaming.md.")


def make(root: pathlib.Path, data_dir: str | None) -> None:
    """Puts MNIST, repeated, below `root` as the dataset `made`."""
    mnist = data.load("mnist", data_dir)
    folder = root / "made" / "1.0.0"
    folder.mkdir(parents=True)
    train = {"train_images": mnist.train.images, "train_labels": mnist.train.labels}
    arrays = {name: np.concatenate([array] * TIMES) for name, array in train.items()}
    names = {"class_names": mnist.class_names, "image_shape": mnist.image_shape}
    np.savez(folder / data.DECODED, **arrays, test_images=mnist.test.images, test_labels=mnist.test.labels, **names)


def main() -> None:
    """Runs in turn, so that a busy moment hits both; prints and writes the tables."""
    config = flagging.parse(Config, sys.argv, __doc__)
    where = runs.where(config.data_dir)
    job = [*where, f"--epochs={config.epochs}", "--eval_every=0"]
    speeds = {"memory": [], "stream": []}
    for _ in range(config.runs):
        for source, found in speeds.items():
            run = runs.together([*job, f"--input={source}"])
            found.append(run.record["us_per_step"])
    ratios = [memory / stream for memory, stream in zip(*speeds.values(), strict=True)]
    lines = [
        "| input | us/step |",
        "|---|---|",
        *(f"| {name} | {runs.middle(found)} |" for name, found in speeds.items()),
    ]
    lines += ["", f"Speed of the stream, memory being 1: {runs.middle(ratios, 2)}. {runs.conditions(run, config.runs)}"]
    lines += ["", f"| peak resident memory, MiB | MNIST | {TIMES} times MNIST |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        make(pathlib.Path(folder), config.data_dir)
        for source in speeds:
            one = runs.together([*where, f"--input={source}", "--eval_every=0"])
            ten = runs.together(["--dataset=made", f"--data_dir={folder}", f"--input={source}", "--eval_every=0"])
            lines.append(f"| {source} | {one.peak_mib:,.0f} | {ten.peak_mib:,.0f} |")
    runs.publish("stream", lines, ("docs/streaming.md",) if config.write else ())


if __name__ == "__main__":
    exit_with_one_line(main)
