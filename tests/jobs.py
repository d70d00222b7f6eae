"""A job in a folder, as compare.py hands it to contenders."""

import dataclasses
import json
import pathlib

import numpy as np

import data
from comparison.measure import Task

# 660 examples in batches of 25: seven epochs of 26 batches and a smaller one, then 11 steps.
SMALL = {"batch_size": 25, "steps": 200, "cores": 1, "lr": 0.001}
SMALL |= {"device": "cpu", "precision": "float32", "contender": "mine", "seed": 0}


def fill(folder: pathlib.Path, split: data.Split, **changes) -> tuple[Task, list[np.ndarray]]:
    """Leaves a job in `folder`; returns it, and images, labels and the order of the examples."""
    count, features = split.images.shape
    task = Task("tiny", "0" * 64, count, features, 10, **SMALL | changes)
    order = np.stack([data.epoch_order(count, task.seed, epoch) for epoch in range(8)])
    examples = [split.images, split.labels, order]
    for name, array in zip(("images", "labels", "order"), examples, strict=True):
        np.save(folder / f"{name}.npy", array)
    (folder / "job.json").write_text(json.dumps(dataclasses.asdict(task)))
    return task, examples
