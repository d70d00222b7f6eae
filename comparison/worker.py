"""A contender in Python, through the protocol in docs/comparison.md.

python -m comparison.worker MODULE:FUNCTION FOLDER

FUNCTION takes the `Work` and returns `train`, which does the whole job once. This file needs only
NumPy, so that a contender can have its own Python.
"""

import dataclasses
import functools
import json
import os
import pathlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import numpy as np

LEFT_OUT = 77  # exit code of a contender that cannot use the device or the precision
# of contenders: their versions are in the results
LIBRARIES = ("tensorflow", "keras", "numpy", "jax", "jaxlib", "torch")


def leave_out(why: str) -> NoReturn:
    """Ends the process of a contender that cannot run here, or use the device or the precision."""
    print(why, file=sys.stderr)
    os._exit(LEFT_OUT)


# Does the job from W = b = 0; returns W [features, classes] and b [classes], both float32.
Train = Callable[[], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """The job of one contender: the content of job.json, and metadata of a results file.

    The job is `steps` batches of plain SGD on the summed cross-entropy from W = b = 0. seed: of the
    order of the examples. device: "cpu" or "gpu", the only visible one. precision: "float32" or
    "tf32". cores: the number of cores of the process. again: 1 for the baseline's second
    measurement in a round.
    """

    dataset: str
    data_sha256: str
    num_examples: int
    num_features: int
    num_classes: int
    batch_size: int
    steps: int
    lr: float
    seed: int
    contender: str
    device: str
    cores: int
    precision: str
    again: int = 0

    def __str__(self) -> str:
        """Returns the name of its row: contender, device and precision, without the usual ones."""
        name = f"{self.contender}, {self.device}, {self.precision}{', again' * self.again}"
        return name.replace(", cpu", "").replace(", float32", "")

    @property
    def job(self) -> str:
        """Returns the facts that two comparable measurements share."""
        return (
            f"batch {self.batch_size:,}, {self.steps:,} steps, {self.dataset} "
            f"{self.data_sha256[:8]}, seed {self.seed}, lr {self.lr:g}"
        )

    @property
    def name(self) -> str:
        """Returns the name of its benchmark. It includes the job, since pyperf compares by name."""
        return f"{self}, cores {self.cores}, {self.job}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work(Task):
    """A task with its data.

    images [n, features] uint8, labels [n] int32, order [epochs, n] int32: the rows of each epoch,
    whose last batch may be smaller.
    """

    images: np.ndarray
    labels: np.ndarray
    order: np.ndarray

    def epochs(self) -> Iterator[np.ndarray]:
        """Yields the rows [n] int32 of each epoch; the last epoch ends with the last step."""
        steps_per_epoch = -(-self.num_examples // self.batch_size)
        for epoch, first in enumerate(range(0, self.steps, steps_per_epoch)):
            yield self.order[epoch, : (self.steps - first) * self.batch_size]

    def blocks(self, max_rows: int = sys.maxsize) -> Iterator[np.ndarray]:
        """Yields the same rows as blocks [steps, batch] of at most `max_rows` rows, or one batch.

        A smaller last batch of an epoch is a separate block.
        """
        steps = max(1, max_rows // self.batch_size)
        for rows in self.epochs():
            count = len(rows) // self.batch_size
            full, rest = np.split(rows, [count * self.batch_size])
            yield from np.split(full.reshape(count, -1), range(steps, count, steps))
            if rest.size:
                yield rest[np.newaxis]


def load(folder: pathlib.Path) -> Work:
    """Returns the work in a folder: job.json and the arrays beside it."""
    arrays = {name: np.load(folder / f"{name}.npy") for name in ("images", "labels", "order")}
    return Work(**json.loads((folder / "job.json").read_text()), **arrays)


def main() -> None:
    """Prepares the contender that the arguments name, and does its job once for each line on
    stdin."""
    folder = pathlib.Path(sys.argv[2])
    say = functools.partial(print, flush=True)
    try:
        build: Callable[[Work], Train] = pkgutil.resolve_name(sys.argv[1])
    except ModuleNotFoundError as error:
        leave_out(f"{error}: python -m pip install -r requirements/compare.txt")
    work = load(folder)
    say("loaded")
    train = build(work)
    say("ready")
    while sys.stdin.readline():
        W, b = train()
        say("done")
        np.save(folder / "W.npy", W)
        np.save(folder / "b.npy", b)
        say("ready")
    os._exit(0)  # at once, because an orderly shutdown of a library takes long


if __name__ == "__main__":
    main()
