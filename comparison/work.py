"""The work of every contender, and the runs in NumPy that tell what it must end with.

`prepare` runs in a process of its own, python -m comparison.work FOLDER, so that TensorFlow is
never in the process that keeps the clock.
"""

import dataclasses
import hashlib
import json
import math
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from common.errors import InputError, RunError, exit_with_one_line, reason
from common.files import PROJECT
from runtime import startup

REFERENCE_BATCH = 10  # --lr is meant for this batch
MIN_STEPS = 300  # of a job, in whole epochs: long enough for the clock of a fast GPU
SLOW_STEPS = 1_000  # of a contender that takes seconds for an epoch
EXAMPLES = "examples"  # the folder of a prepared work that contenders are handed

Weights = tuple[np.ndarray, np.ndarray]  # W [features, classes], b [classes]


@dataclasses.dataclass(frozen=True)
class Job:
    """What must be equal for two times to be comparable, beside device, cores and precision."""

    dataset: str
    data_sha256: str
    num_examples: int
    num_features: int
    num_classes: int
    batch_size: int
    steps: int
    lr: float
    seed: int

    def __str__(self) -> str:
        data = f"{self.dataset} {self.data_sha256[:8]}, seed {self.seed}, lr {self.lr:g}"
        return f"batch {self.batch_size:,}, {self.steps:,} steps, {data}"

    def cut(self) -> "Job":
        """Returns the job of a slow contender."""
        return dataclasses.replace(self, steps=min(self.steps, SLOW_STEPS))


@dataclasses.dataclass(frozen=True)
class Reference:
    """W and b after a job in float64, and how far off NumPy is in each precision."""

    weights: Weights
    errors: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Request:
    """What `prepare` is asked for: a job for each batch size on a dataset."""

    dataset: str
    data_dir: str | None
    manual_dir: str | None
    batch_sizes: list[int]
    max_steps: int
    lr: float
    seed: int
    precisions: list[str]


def steps_of(batch_size: int, num_examples: int, max_steps: int) -> int:
    """Returns the steps of a job: as many whole epochs as have MIN_STEPS, or max_steps if not 0."""
    steps_per_epoch = math.ceil(num_examples / batch_size)
    steps = steps_per_epoch * math.ceil(MIN_STEPS / steps_per_epoch)
    return min(steps, max_steps or steps)


def lr_of(batch_size: int, lr: float) -> float:
    """Returns the learning rate, which falls as the batch grows beyond 10.

    The loss is a sum over the batch: with the same rate the weights would explode.
    """
    return lr * min(1, REFERENCE_BATCH / batch_size)


def as_tf32(array: np.ndarray) -> np.ndarray:
    """Returns float32 numbers rounded to the 10 bits behind the point that TF32 keeps."""
    bits = array.astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def batches(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yields the rows of each batch; the last one of an epoch may be smaller."""
    for rows in order:
        for first in range(0, len(rows), batch_size):
            yield rows[first : first + batch_size]


def weights_after(
    job: Job,
    examples: Sequence[np.ndarray],
    steps: Collection[int],
    dtype: type,
    rounded: Callable[[np.ndarray], np.ndarray] = lambda array: array,
) -> dict[int, Weights]:
    """Returns W and b after these numbers of steps, from W = b = 0.

    examples: images [n, features] uint8, labels [n] int32, order [epochs, n] int32. The factors of
    each matrix product are `rounded`; what is added up is of `dtype`, each batch first.
    """
    images, labels, order = examples
    W: np.ndarray = np.zeros((job.num_features, job.num_classes), dtype)
    b: np.ndarray = np.zeros(job.num_classes, dtype)
    found = {}
    for step, rows in enumerate(batches(order, job.batch_size), 1):
        x = rounded(images[rows].astype(dtype) / dtype(255))
        logits = x @ rounded(W) + b
        delta = np.exp(logits - logits.max(axis=1, keepdims=True))
        delta /= delta.sum(axis=1, keepdims=True)
        delta[np.arange(len(rows)), labels[rows]] -= 1
        W -= dtype(job.lr) * (x.T @ rounded(delta))
        b -= dtype(job.lr) * delta.sum(axis=0)
        if step in steps:
            found[step] = W.copy(), b.copy()
        if step >= max(steps):
            return found
    return found


def relative_error(found: Weights, expected: Weights) -> float:
    """Returns the largest difference of W or b, as a share of the largest weight; inf for NaN."""
    differences = [np.abs(f - e).max() for f, e in zip(found, expected, strict=True)]
    largest = max(np.abs(e).max() for e in expected)
    error = float(max(differences) / largest)
    return error if math.isfinite(error) else math.inf


def references(
    job: Job, examples: Sequence[np.ndarray], precisions: Collection[str]
) -> dict[int, Reference]:
    """Returns the reference of a job and, by its steps, of its cut."""
    steps = {job.steps, job.cut().steps}
    exact = weights_after(job, examples, steps, np.float64)
    kinds = {"float32": lambda array: array, "tf32": as_tf32}
    found = {
        name: weights_after(job, examples, steps, np.float32, kinds[name]) for name in precisions
    }
    return {
        n: Reference(exact[n], {p: relative_error(found[p][n], exact[n]) for p in precisions})
        for n in steps
    }


def prepare(request: Request, folder: pathlib.Path, environment: dict[str, str]) -> list[Job]:
    """Leaves the examples and the references in `folder`; returns the jobs, one for a batch size.

    Where it fails, its process has said why, and this one ends with its code.
    """
    (folder / "request.json").write_text(json.dumps(dataclasses.asdict(request)))
    command = [sys.executable, "-m", "comparison.work", str(folder)]
    done = subprocess.run(command, cwd=PROJECT, env=environment)
    if done.returncode < 0:
        raise RunError(f"the preparation was ended by signal {-done.returncode}")
    if done.returncode:
        sys.exit(done.returncode)
    return [Job(**job) for job in json.loads((folder / "jobs.json").read_text())]


def reference(folder: pathlib.Path, job: Job) -> Reference:
    """Returns the reference of a job that `prepare` has left."""
    with np.load(folder / f"reference-{job.batch_size}-{job.steps}.npz") as found:
        weights = found["W"], found["b"]
        return Reference(weights, json.loads(str(found["errors"])))


def save_examples(request: Request, folder: pathlib.Path) -> list[Job]:
    """Leaves images, labels and order in `folder`; returns the jobs.

    Raises InputError if the dataset cannot be had or a batch is larger than its training split.
    """
    with startup.starting():
        import data

    dataset = data.load(request.dataset, request.data_dir, request.manual_dir)
    count = len(dataset.train)
    for size in request.batch_sizes:
        if size > count:
            raise InputError(
                f"--batch_sizes={size}: must be at most the {count} training images of "
                f"{dataset.name}"
            )
    images, labels = np.asarray(dataset.train.images), np.asarray(dataset.train.labels)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    jobs = [
        Job(
            dataset=request.dataset,
            data_sha256=digest,
            num_examples=count,
            num_features=dataset.num_features,
            num_classes=len(dataset.class_names),
            batch_size=size,
            steps=steps_of(size, count, request.max_steps),
            lr=lr_of(size, request.lr),
            seed=request.seed,
        )
        for size in request.batch_sizes
    ]
    epochs = max(math.ceil(job.steps / math.ceil(count / job.batch_size)) for job in jobs)
    order = np.stack([data.epoch_order(count, request.seed, epoch) for epoch in range(epochs)])
    folder.mkdir()
    for name, array in {"images": images, "labels": labels, "order": order}.items():
        np.save(folder / f"{name}.npy", array)
    return jobs


def main() -> None:
    """Does what the request in the folder asks for, and leaves jobs.json behind all else."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is answered by compare.py
    folder = pathlib.Path(sys.argv[1])
    request = Request(**json.loads((folder / "request.json").read_text()))
    try:
        jobs = save_examples(request, folder / EXAMPLES)
        names = ("images", "labels", "order")
        examples = [np.load(folder / EXAMPLES / f"{name}.npy") for name in names]
        for job in jobs:
            for steps, found in references(job, examples, request.precisions).items():
                path = folder / f"reference-{job.batch_size}-{steps}.npz"
                W, b = found.weights
                np.savez(path, W=W, b=b, errors=json.dumps(found.errors))
        text = json.dumps([dataclasses.asdict(job) for job in jobs])
        (folder / "jobs.json").write_text(text)
    except OSError as error:
        raise RunError(f"{error.filename or folder}: {reason(error)}") from None


if __name__ == "__main__":
    exit_with_one_line(main)
