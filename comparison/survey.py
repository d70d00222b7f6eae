"""What is asked once, in a process that ends before the first measurement: python -m comparison.survey REQUEST.

It leaves the examples and the order of their epochs in FOLDER/data.npz, and what the machine is in FOLDER/survey.json.
"""

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
from comparison import machine
from runtime import devices

PACKAGES = ("numpy", "keras", "torch", "jax", "jaxlib")
TENSORFLOW = ("TF_XLA_", "TF_ENABLE_", "TF_NUM_", "TF_GPU_", "TF_FORCE_", "TF_CUDNN_", "TF_DETERMINISTIC_")
VARIABLES = (*TENSORFLOW, "XLA_", "JAX_", "KERAS_BACKEND", "OMP_", "OPENBLAS_", "MKL_", "CUDA_VISIBLE_", "NVIDIA_TF32_")


def versions() -> dict[str, str]:
    """Returns the version of each contender's package that is installed."""
    installed = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    return {package: importlib.metadata.version(package) for package in PACKAGES if package in installed}


def environment(device_names: list[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns the description of each of the named devices that is there, and of all that surrounds them."""
    import tensorflow as tf

    there = {"cpu": True, "gpu": bool(tf.config.list_physical_devices("GPU"))}
    chosen = {name: devices.choose(name, tf32=False) for name in device_names if there[name]}
    common = devices.environment(next(iter(chosen.values()), devices.choose("cpu", tf32=False)), "xla", tf32=False)
    for key in ("device_kind", "device_name", "xla", "tf32"):
        del common[key]
    common["load_average"] = os.getloadavg()[0]
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)}
    common |= versions() | {"variables": variables, "clocks": machine.clocks(), "gpus": machine.gpus()}
    return {name: devices.describe(device) for name, device in chosen.items()}, common


def save_examples(request: dict[str, Any], folder: pathlib.Path) -> dict[str, Any]:
    """Leaves examples and order in data.npz; returns what a Job says of them.

    Raises InputError if the dataset cannot be had or a batch is larger than its training split.
    """
    import data

    dataset = data.load(request["dataset"], request["data_dir"], request["manual_dir"])
    num_examples, epochs = len(dataset.train), 1
    for batch_size, steps in request["sizes"]:
        if batch_size > num_examples:
            raise InputError(
                f"--batch_sizes={batch_size}: must be at most the {num_examples} training images of {dataset.name}"
            )
        epochs = max(epochs, -(-steps // -(-num_examples // batch_size)))
    arrays = {
        "images": dataset.train.images,
        "labels": dataset.train.labels,
        "test_images": dataset.test.images,
        "test_labels": dataset.test.labels,
    }
    order = np.stack([data.epoch_order(num_examples, request["seed"], epoch) for epoch in range(epochs)])
    np.savez(folder / "data.npz", **arrays, order=order)
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()
    return {"data_sha256": digest, "num_features": dataset.num_features, "num_classes": len(dataset.class_names)}


def main() -> None:
    """Reads the request, asks, writes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is answered by compare.py
    request = json.loads(sys.argv[1])
    folder = pathlib.Path(request["folder"])
    with devices.quiet():
        names, common = environment(request["devices"])
    found = {"devices": names, "environment": common, "data": save_examples(request, folder)}
    (folder / "survey.json").write_text(json.dumps(found))


if __name__ == "__main__":
    exit_with_one_line(main)
