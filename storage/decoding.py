"""Writes the decoded folder of a dataset, some examples at a time."""

import math
import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm  # as tfds itself uses it

from common.errors import InputError
from storage import catalog, decoded

TOGETHER = 1000  # examples decoded together


def write(builder: tfds.core.DatasetBuilder, folder: pathlib.Path, default_config: bool) -> None:
    """Writes every example of train and test to `folder`, in the order tfds keeps them, and what they are.

    Labels count the classes that occur, in their order: those of emnist/letters are 1 to 26, and become 0 to 25.

    Raises:
      InputError: an example has no label, or there are too few examples.
      tf.errors.OpError: a file of tfds is damaged.
    """
    label = builder.info.features[builder.info.supervised_keys[1]]
    splits = catalog.splits(builder.info).items()
    labels = {
        name: _write_images(folder / f"{name}_images.npy", builder, split) for name, split in splits
    }
    classes = np.unique(np.concatenate(list(labels.values())))
    least, (train, test) = decoded.VALIDATION_SHARE, (labels["train"], labels["test"])
    if (
        (unlabelled := sum(int((each < 0).sum()) for each in labels.values()))
        or len(train) < least
        or not len(test)
    ):
        raise InputError(
            f"--dataset={builder.name}: needs {least} examples to train on, one to test on and a label for each; "
            f"found {len(train)} and {len(test)}, {unlabelled} of them unlabelled"
        )
    for name, each in labels.items():
        np.save(folder / f"{name}_labels.npy", np.searchsorted(classes, each).astype(np.int32))
    names = [label.int2str(each) if label.num_classes else str(each) for each in classes.tolist()]
    decoded.describe(
        folder, names, builder.info.features[builder.info.supervised_keys[0]].shape, default_config
    )


def _write_images(path: pathlib.Path, builder: tfds.core.DatasetBuilder, split: str) -> np.ndarray:
    """Writes the images of a split to `path`, and returns their labels [n]."""
    image_key, label_key = builder.info.supervised_keys
    shape = (
        builder.info.splits[split].num_examples,
        math.prod(builder.info.features[image_key].shape),
    )
    labels = []
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        with tqdm(
            desc=f"Decoding {split}", total=shape[0], unit=" images", leave=False, disable=None
        ) as bar:
            for batch in builder.as_dataset(split=split, batch_size=TOGETHER).as_numpy_iterator():
                file.write(np.ascontiguousarray(batch[image_key]).data)
                labels.append(batch[label_key])
                bar.update(len(batch[label_key]))
    together = np.concatenate(labels) if labels else np.empty(0, np.int64)
    if len(together) != shape[0]:
        raise tf.errors.DataLossError(
            None, None, f"{split} has {len(together)} examples, not {shape[0]}"
        )
    return together
