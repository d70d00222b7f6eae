"""Checks that a dataset of tfds can be trained on, and divides its examples into splits."""

import difflib
import json
import pathlib
import re

import numpy as np
import tensorflow_datasets as tfds

from common.errors import InputError, reason

MIN_EXAMPLES = 12  # of train: one in twelve is for validation, as 5,000 of 60,000 in the article
# without a test split, the last seventh of train is for the test, as 10,000 of 70,000 in MNIST
TEST_SHARE = 7
GOOD = ("mnist", "fashion_mnist", "cifar10")  # suggested if no name is similar


def builder(name: str, root: pathlib.Path) -> tfds.core.DatasetBuilder:
    """Returns the builder of `name`, such as "mnist", "emnist/letters" or "mnist:3.*.*".

    Its data is below `root`.

    Raises:
      InputError: there is none, or its examples are not uint8 images of one size with one label
        each.
      Exception: any error of tfds, if prepared data cannot be read.
    """
    try:
        found = tfds.builder(name, data_dir=root)
    except (json.JSONDecodeError, UnicodeDecodeError):  # ValueErrors too
        raise
    except (ValueError, AssertionError, TypeError, ImportError):
        raise InputError(
            f"--dataset={name}: tfds has no such dataset, config or version. "
            f"Nearest: {_nearest(name)}"
        ) from None
    keys = found.info.supervised_keys or ()
    match [found.info.features[key] for key in keys if isinstance(key, str)]:
        case [tfds.features.Image(np_dtype=np.uint8) as image, tfds.features.ClassLabel()]:
            if None not in image.shape:
                return found
    raise InputError(
        f"--dataset={name}: needs uint8 images of one size with one label each, and has "
        f"{reason(str(found.info.features))}. Try {', '.join(GOOD)}"
    )


def _nearest(name: str) -> str:
    """Returns the names most like `name`: of datasets, or of the configs of its dataset."""
    known = tfds.list_builders(with_community_datasets=False)
    if (dataset := re.split("[/:]", name)[0]) in known:
        configs = tfds.builder_cls(dataset).builder_configs
        known = [f"{dataset}/{config}" for config in configs] or [dataset]
    return ", ".join(difflib.get_close_matches(name, known, cutoff=0.5) or GOOD)


def sources(info: tfds.core.DatasetInfo) -> dict[str, str]:
    """Returns the examples of validation, train and test, as slices of tfds's splits.

    Without a test split, the test examples are the validation split, or otherwise the end of train.
    The validation examples are the beginning of the rest of train.

    Raises InputError if there is no train split, or too few examples are left to train on.
    """
    train = info.splits["train"].num_examples if "train" in info.splits else 0
    test = "test" if "test" in info.splits else "validation"
    if test not in info.splits:
        train = train * (TEST_SHARE - 1) // TEST_SHARE
        test = f"train[{train}:]"
    if train < MIN_EXAMPLES:
        raise InputError(
            f"--dataset={info.name}: needs {MIN_EXAMPLES} examples to train on, and has {train}"
        )
    validation = train // MIN_EXAMPLES
    return {
        "validation": f"train[:{validation}]",
        "train": f"train[{validation}:{train}]",
        "test": test,
    }
