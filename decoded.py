"""Writes the decoded file of a dataset, an uncompressed .npz, a piece at a time."""

import math
import zipfile
from typing import BinaryIO

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

import catalog
import data
from errors import InputError

PIECE = 1000  # examples decoded together
LEAST = data.VALIDATION_SHARE  # training examples, so that at least one validates


def write(builder: tfds.core.DatasetBuilder, file: BinaryIO) -> None:
    """Writes every example of train and test, in the order tfds keeps them, holding no more than PIECE images.

    Labels count the classes that occur, in their order: those of emnist/letters are 1 to 26, and become 0 to 25.

    Raises:
      InputError: an example has no label, or there are too few examples.
      tf.errors.OpError: a file of tfds is damaged.
    """
    label = builder.info.features[builder.info.supervised_keys[1]]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        labels = {
            name: _write_images(archive, name, builder, split) for name, split in catalog.splits(builder.info).items()
        }
        together = np.concatenate(list(labels.values()))
        if (together < 0).any() or len(labels["train"]) < LEAST or not len(labels["test"]):
            raise InputError(
                f"--dataset={builder.name}: needs {LEAST} examples to train on, one to test on and a label for each; "
                f"found {len(labels['train'])} and {len(labels['test'])}, {(together < 0).sum()} of them unlabelled"
            )
        classes = np.unique(together)
        arrays = {f"{name}_labels": np.searchsorted(classes, each).astype(np.int32) for name, each in labels.items()}
        arrays["class_names"] = np.array([label.int2str(each) if label.num_classes else str(each) for each in classes])
        arrays["image_shape"] = np.array(builder.info.features[builder.info.supervised_keys[0]].shape)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)


def _write_images(
    archive: zipfile.ZipFile, name: str, builder: tfds.core.DatasetBuilder, split: str
) -> np.ndarray:  # labels [n]
    image_key, label_key = builder.info.supervised_keys
    shape = (builder.info.splits[split].num_examples, math.prod(builder.info.features[image_key].shape))
    labels = []
    with archive.open(f"{name}_images.npy", "w", force_zip64=True) as member:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        for batch in builder.as_dataset(split=split, batch_size=PIECE).as_numpy_iterator():
            member.write(np.ascontiguousarray(batch[image_key]).data)
            labels.append(batch[label_key])
    labels = np.concatenate(labels) if labels else np.empty(0, np.int64)
    if len(labels) != shape[0]:
        raise tf.errors.DataLossError(None, None, f"{split} has {len(labels)} examples, not {shape[0]}")
    return labels
