"""What is asked once, in a process that ends before the first measurement: python -m comparison.survey REQUEST.

It leaves the examples and the order of their epochs in FOLDER/work, the weights after each job in FOLDER, and what the
machine and the jobs are in FOLDER/survey.json.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import pathlib
import signal
import sys
from typing import Any

import numpy as np

from common.errors import InputError, exit_with_one_line
from comparison import gpus, machine, measure, work
from runtime import devices, startup

PACKAGES = ("numpy", "keras", "scikit-learn", "torch", "jax", "jaxlib")
TENSORFLOW = (
    "TF_XLA_",
    "TF_ENABLE_",
    "TF_NUM_",
    "TF_GPU_",
    "TF_FORCE_",
    "TF_CUDNN_",
    "TF_DETERMINISTIC_",
)
VARIABLES = (
    *TENSORFLOW,
    "XLA_",
    "JAX_",
    "KERAS_BACKEND",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
    "CUDA_VISIBLE_",
    "NVIDIA_TF32_",
)


def versions() -> dict[str, str]:
    """Returns the version of each contender's package that is installed."""
    installed = {
        distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()
    }
    return {
        package: importlib.metadata.version(package) for package in PACKAGES if package in installed
    }


def environment(device_names: list[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns the description of each of the named devices that is there, and of all that surrounds them."""
    import tensorflow as tf

    # Once: what a TensorFlow sees cannot be changed any more.
    first = devices.choose("auto" if "gpu" in device_names else "cpu", tf32=False)
    there = {"cpu": tf.config.list_logical_devices("CPU")[0], first.device_type.lower(): first}
    chosen = {name: there[name] for name in device_names if name in there}
    common = devices.environment(next(iter(chosen.values()), first), "xla", tf32=False)
    for key in ("device_kind", "device_name", "xla", "tf32"):
        del common[key]
    common["load_average"] = os.getloadavg()[0]
    variables = {
        name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)
    }
    common |= versions() | {
        "variables": variables,
        "clocks": machine.clocks(),
        "gpus": gpus.listed(),
    }
    return {name: devices.describe(device) for name, device in chosen.items()}, common


def save_examples(request: dict[str, Any], folder: pathlib.Path) -> list[work.Job]:
    """Leaves the examples, their order and the weights that each job must end with; returns the jobs.

    Raises InputError if the dataset cannot be had or a batch is larger than its training split.
    """
    import data

    dataset = data.load(request["dataset"], request["data_dir"], request["manual_dir"])
    count = len(dataset.train)
    for job in request["jobs"]:
        if (size := job["batch_size"]) > count:
            raise InputError(
                f"--batch_sizes={size}: must be at most the {count} training images of {dataset.name}"
            )
    epochs = max(-(-job["steps"] // -(-count // job["batch_size"])) for job in request["jobs"])
    order = np.stack([data.epoch_order(count, request["seed"], epoch) for epoch in range(epochs)])
    splits = dataset.train, dataset.test
    examples = [np.asarray(array) for split in splits for array in (split.images, split.labels)]
    (folder / measure.WORK).mkdir()
    for name, array in zip(work.ARRAYS, (*examples, order), strict=True):
        np.save(folder / measure.WORK / f"{name}.npy", array)
    digest = hashlib.sha256(b"".join(array.tobytes() for array in examples)).hexdigest()
    known = {
        "dataset": request["dataset"],
        "seed": request["seed"],
        "data_sha256": digest,
        "num_examples": count,
    }
    known |= {"num_features": dataset.num_features, "num_classes": len(dataset.class_names)}
    jobs = [work.Job(**known, **job) for job in request["jobs"]]
    for job in jobs:
        W, b = work.reference(work.load(folder / measure.WORK, job))
        np.savez(folder / f"expected-{job.batch_size}.npz", W=W, b=b)
    return jobs


def main() -> None:
    """Reads the request, asks, writes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is answered by compare.py
    request = json.loads(sys.argv[1])
    folder = pathlib.Path(request["folder"])
    with startup.quiet():
        names, common = environment(request["devices"])
    jobs = [dataclasses.asdict(job) for job in save_examples(request, folder)]
    found = {"devices": names, "environment": common, "jobs": jobs}
    (folder / "survey.json").write_text(json.dumps(found))


if __name__ == "__main__":
    exit_with_one_line(main)
