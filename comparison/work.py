"""The work of every contender, and the runs in NumPy that tell what it must end with.

`prepare` runs in a process of its own, python -m comparison.work FOLDER, so that TensorFlow is
never in the process that keeps the clock.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import pathlib
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from common.errors import InputError, RunError, exit_with_one_line, reason
from common.files import PROJECT
from runtime import startup

if TYPE_CHECKING:
    import data

REFERENCE_BATCH = 10  # --lr is meant for this batch
MIN_STEPS = 300  # of a job, in whole epochs: long enough for the clock of a fast GPU
SLOW_STEPS = 1_000  # of a contender that takes seconds for an epoch
EXAMPLES = "examples"  # the folder of a prepared work that contenders are handed

Weights = tuple[np.ndarray, np.ndarray]  # W [features, classes], b [classes]
Rounding = Callable[[np.ndarray], np.ndarray]


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


def weights_after(
    job: Job,
    examples: Sequence[np.ndarray],
    dtype: type,
    rounded: Rounding = np.asarray,
) -> Weights:
    """Returns W and b after the steps of a job, from W = b = 0.

    examples: images [n, features] uint8, labels [n] int32, order [epochs, n] int32, of which each
    epoch's last batch may be smaller. The factors of each matrix product are `rounded`; what is
    added up is of `dtype`, each batch first.
    """
    images, labels, order = examples
    W: np.ndarray = np.zeros((job.num_features, job.num_classes), dtype)
    b: np.ndarray = np.zeros(job.num_classes, dtype)
    starts = range(0, job.num_examples, job.batch_size)
    batches = (rows[first : first + job.batch_size] for rows in order for first in starts)
    for rows in itertools.islice(batches, job.steps):
        x = rounded(images[rows].astype(dtype) / dtype(255))
        logits = x @ rounded(W) + b
        delta = np.exp(logits - logits.max(axis=1, keepdims=True))
        delta /= delta.sum(axis=1, keepdims=True)
        delta[np.arange(len(rows)), labels[rows]] -= 1
        W -= dtype(job.lr) * (x.T @ rounded(delta))
        b -= dtype(job.lr) * delta.sum(axis=0)
    return W, b


def relative_error(found: Weights, expected: Weights) -> float:
    """Returns the largest difference of W or b, as a share of the largest weight; inf for NaN."""
    differences = [np.abs(f - e).max() for f, e in zip(found, expected, strict=True)]
    largest = max(np.abs(e).max() for e in expected)
    error = float(max(differences) / largest)
    return error if math.isfinite(error) else math.inf


def save_reference(
    folder: pathlib.Path, job: Job, examples: Sequence[np.ndarray], precisions: Collection[str]
) -> None:
    """Leaves W and b after a job in float64, and how far off NumPy in float32 is in each
    precision."""
    exact = weights_after(job, examples, np.float64)
    rounding: dict[str, Rounding] = {"float32": np.asarray, "tf32": as_tf32}
    errors: dict[str, Any] = {
        name: relative_error(weights_after(job, examples, np.float32, rounding[name]), exact)
        for name in precisions
    }
    np.savez(_path(folder, job), W=exact[0], b=exact[1], **errors)


def reference(folder: pathlib.Path, job: Job) -> dict[str, np.ndarray]:
    """Returns W and b after a job in float64, and by precision the relative error of NumPy."""
    with np.load(_path(folder, job)) as found:
        return dict(found)


def _path(folder: pathlib.Path, job: Job) -> pathlib.Path:
    return folder / f"reference-{job.batch_size}-{job.steps}.npz"


def prepare(
    folder: pathlib.Path, environment: dict[str, str], request: dict[str, Any]
) -> list[Job]:
    """Leaves the examples and the references in `folder`; returns the jobs, one for a batch size.

    request: dataset, data_dir, manual_dir, batch_sizes, max_steps, lr, seed and precision, as the
    flags of these names. Where it fails, its process has said why, and this one ends with its code.
    """
    (folder / "request.json").write_text(json.dumps(request))
    command = [sys.executable, "-m", "comparison.work", str(folder)]
    # Ctrl-C on a terminal reaches this process alone, which ends the other
    done = subprocess.run(command, cwd=PROJECT, env=environment, start_new_session=True)
    if done.returncode < 0:
        raise RunError(f"the preparation was ended by signal {-done.returncode}")
    if done.returncode:
        sys.exit(done.returncode)
    return [Job(**job) for job in json.loads((folder / "jobs.json").read_text())]


def jobs_of(dataset: "data.Dataset", request: dict[str, Any]) -> list[Job]:
    """Returns the job at each batch size; raises InputError if one is larger than the training
    split."""
    images, labels = dataset.train.images, dataset.train.labels
    count = len(labels)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    shape = {"num_features": dataset.num_features, "num_classes": len(dataset.class_names)}
    jobs = []
    for size in map(int, request["batch_sizes"]):
        if size > count:
            raise InputError(
                f"--batch_sizes={size}: must be at most the {count} training images of "
                f"{dataset.name}"
            )
        steps, lr = steps_of(size, count, request["max_steps"]), lr_of(size, request["lr"])
        job = Job(
            request["dataset"],
            digest,
            count,
            **shape,
            batch_size=size,
            steps=steps,
            lr=lr,
            seed=request["seed"],
        )
        jobs.append(job)
    return jobs


def save(folder: pathlib.Path, request: dict[str, Any]) -> None:
    """Does what a request asks for, and leaves jobs.json behind all else."""
    with startup.quiet(), startup.without_keras():
        import data

    dataset = data.load(request["dataset"], request["data_dir"], request["manual_dir"])
    jobs = jobs_of(dataset, request)
    count, seed = jobs[0].num_examples, request["seed"]
    epochs = max(-(-job.steps // -(-count // job.batch_size)) for job in jobs)
    order = np.stack([data.epoch_order(count, seed, epoch) for epoch in range(epochs)])
    examples = np.asarray(dataset.train.images), np.asarray(dataset.train.labels), order
    (folder / EXAMPLES).mkdir()
    for name, array in zip(("images", "labels", "order"), examples, strict=True):
        np.save(folder / EXAMPLES / f"{name}.npy", array)
    for job in {*jobs, *(job.cut() for job in jobs)}:
        save_reference(folder, job, examples, request["precision"])
    (folder / "jobs.json").write_text(json.dumps([dataclasses.asdict(job) for job in jobs]))


def main() -> None:
    """Saves what the request in the folder asks for."""
    folder = pathlib.Path(sys.argv[1])
    try:
        save(folder, json.loads((folder / "request.json").read_text()))
    except OSError as error:  # some have no name of a file
        raise RunError(f"{error.filename or folder}: {reason(error)}") from None


if __name__ == "__main__":
    exit_with_one_line(main)
