"""A job in a folder, as compare.py hands it to contenders."""

import dataclasses
import json
import pathlib

import numpy as np

import data
from comparison.worker import Task

# 660 examples in batches of 25: seven epochs of 26 batches and a smaller one, then 11 steps.
JOB = {"dataset": "tiny", "data_sha256": "0" * 64, "num_examples": 660, "num_features": 784}
JOB |= {"num_classes": 10, "batch_size": 25, "steps": 200, "lr": 0.001, "seed": 0}
SMALL = JOB | {"contender": "mine", "device": "cpu", "cores": 1, "precision": "float32"}


def fill(folder: pathlib.Path, split: data.Split, **changes) -> tuple[Task, list[np.ndarray]]:
    """Leaves a job in `folder`; returns it, and images, labels and the order of the examples."""
    task = Task(**SMALL | changes)
    order = np.stack([data.epoch_order(task.num_examples, task.seed, epoch) for epoch in range(8)])
    examples = [split.images, split.labels, order]
    for name, array in zip(("images", "labels", "order"), examples, strict=True):
        np.save(folder / f"{name}.npy", array)
    (folder / "job.json").write_text(json.dumps(dataclasses.asdict(task)))
    return task, examples
