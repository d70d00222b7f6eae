"""Writes the cache of a dataset from the data that tfds has prepared, in batches of examples."""

import functools
import math
import pathlib
import sys
from collections.abc import Callable

import numpy as np
import rich.console
import rich.progress
import tensorflow_datasets as tfds

from common.errors import InputError
from storage import cache, catalog

EXAMPLES_AT_A_TIME = 1_000
TRANSPOSED = ("emnist",)  # tfds stores their images transposed


def progress_bar() -> rich.progress.Progress:
    """Returns a bar for terminals, which disappears at its end."""
    return rich.progress.Progress(
        console=rich.console.Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def write(builder: tfds.core.DatasetBuilder, folder: pathlib.Path) -> None:
    """Writes all examples of `builder` to `folder`, in tfds's order.

    The classes that occur are numbered from 0, in order: emnist/letters has 1 to 26, which become 0
    to 25.

    Raises:
      InputError: an example has no label, or there are too few examples.
      tf.errors.OpError: a file of tfds is damaged.
    """
    sources, labels = catalog.sources(builder.info), {}
    total = sum(builder.info.splits[source].num_examples for source in sources.values())
    with progress_bar() as bar:
        task = bar.add_task("Decoding", total=total)
        advance = functools.partial(bar.advance, task)
        for split, source in sources.items():
            labels[split] = _write_images(builder, source, folder / f"{split}_images.npy", advance)
    classes = np.unique(np.concatenate(list(labels.values()))).tolist()
    if classes[0] < 0:
        raise InputError(
            f"--dataset={builder.name}: needs a label from 0 for each example, and has labels "
            f"from {classes[0]}"
        )
    for split, own in labels.items():
        np.save(folder / f"{split}_labels.npy", np.searchsorted(classes, own).astype(np.int32))
    image, label = (builder.info.features[key] for key in builder.info.supervised_keys)
    names = [label.int2str(each) if label.num_classes else str(each) for each in classes]
    cache.describe(folder, names, image.shape)


def _write_images(
    builder: tfds.core.DatasetBuilder,
    source: str,
    path: pathlib.Path,
    advance: Callable[[int], None],
) -> list[int]:
    """Writes the images of `source`, upright, to a .npy file, and returns their labels.

    Raises:
      tf.errors.FailedPreconditionError: there are more or fewer examples than tfds has counted.
    """
    image = builder.info.features[builder.info.supervised_keys[0]]
    examples = builder.as_dataset(split=source, as_supervised=True)
    labels: list[int] = []
    with open(path, "wb") as file:
        shape = builder.info.splits[source].num_examples, math.prod(image.shape)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for images, numbers in examples.batch(EXAMPLES_AT_A_TIME).as_numpy_iterator():
            if builder.name in TRANSPOSED:
                images = images.swapaxes(1, 2)
            file.write(images.tobytes())
            labels += numbers.tolist()
            advance(len(images))
    return labels
