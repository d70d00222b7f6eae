"""Which datasets of tfds can be trained on, and which of their examples train and which test."""

import contextlib
import difflib
import json
import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf import json_format, message
from tensorflow_datasets.core.registered import DatasetNotFoundError

from common.errors import InputError

# where a dataset has no test split, the last seventh of train tests: MNIST's 10,000 of 70,000
TEST_SHARE = 7
DAMAGE = (  # what a file that is cut, altered or gone raises
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,  # other examples than dataset_info.json counts
    tf.errors.NotFoundError,
    json.JSONDecodeError,
    UnicodeDecodeError,
    json_format.ParseError,
    message.DecodeError,
)


def builder(name: str, root: pathlib.Path) -> tfds.core.DatasetBuilder:
    """Returns the builder of `name`, such as "mnist", "emnist/letters" or "mnist:3.*.*", with its data below `root`.

    Raises InputError if there is none, or if its examples are not images of one size and type with one label each, and
    whatever tfds raises if what is prepared cannot be read.
    """
    try:
        found = tfds.builder(name, data_dir=root)
    except (json.JSONDecodeError, UnicodeDecodeError):  # ValueErrors too
        raise
    except (ValueError, AssertionError) as error:  # not found; no such config or version
        reason = str(error).split("\n")[0].rpartition('": ')[2].split(": Here are")[0].rstrip(".")
        raise InputError(f"--dataset={name}: {reason}. {_nearest(name)}") from None
    if fault := _fault(found.info):
        raise InputError(f"--dataset={name}: {fault}. {_nearest(name)}")
    return found


def _fault(info: tfds.core.DatasetInfo) -> str | None:
    """Returns why a dataset cannot be trained on, if so."""
    keys, features = info.supervised_keys, info.features
    if not keys or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        return "not an image-classification dataset (it has no pair of image and label)"
    image, label = (features[key] for key in keys)
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        return f"not an image-classification dataset (it maps {type(image).__name__} to {type(label).__name__})"
    if None in image.shape:
        return f"its images vary in size ({image.shape}), and softmax regression needs one size"
    if np.dtype(image.np_dtype) != np.uint8:
        return f"its images are {np.dtype(image.np_dtype)}; uint8 is what can be trained on"
    if "train" not in info.splits and info.splits:
        return f"it has no train split, only {', '.join(info.splits)}"
    return None


def shows_damage(error: Exception) -> bool:
    """Says whether an error of tfds, which it may have wrapped, shows damage; anything else may have another cause."""
    return isinstance(error, DAMAGE) or isinstance(error.__cause__, DAMAGE)


def is_default_config(builder: tfds.core.DatasetBuilder) -> bool:
    """Says whether the name of the dataset alone means this config."""
    config = builder.builder_config
    with contextlib.suppress(DatasetNotFoundError):
        return (
            not config or config.name == tfds.builder_cls(builder.name).default_builder_config.name
        )
    return not config


def _nearest(name: str) -> str:
    """Returns a sentence with the names of tfds, or of a dataset's configs, that are most like `name`."""
    dataset, _, config = name.partition(":")[0].partition("/")
    known = tfds.list_builders(with_community_datasets=False)
    if config and dataset in known:
        configs = sorted(tfds.builder_cls(dataset).builder_configs)
        known, name = [f"{dataset}/{each}" for each in configs], f"{dataset}/{config}"
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.5) or [
        "mnist",
        "fashion_mnist",
        "cifar10",
    ]
    return f"Nearest: {', '.join(each for each in near if each != name) or 'none'}"


def splits(info: tfds.core.DatasetInfo) -> dict[str, str]:
    """Returns what to read from tfds as train and as test: without a test split, validation or a share of train."""
    for name in ("test", "validation"):
        if name in info.splits and info.splits[name].num_examples:
            return {"train": "train", "test": name}
    cut = info.splits["train"].num_examples * (TEST_SHARE - 1) // TEST_SHARE
    return {"train": f"train[:{cut}]", "test": f"train[{cut}:]"}
