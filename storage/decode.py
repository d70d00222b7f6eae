"""Writes the cache of a dataset from the data that tfds has prepared, in batches of examples."""

import pathlib
import sys

import numpy as np
import rich.console
import rich.progress
import tensorflow_datasets as tfds

from common.errors import InputError
from storage import cache, catalog

EXAMPLES_AT_A_TIME = 1_000
TRANSPOSED = "emnist"  # tfds stores its images transposed
# shows what happens, on a terminal alone, also in a notebook or where FORCE_COLOR is set
SCREEN = rich.console.Console(stderr=True, force_terminal=sys.stderr.isatty(), force_jupyter=False)


def write(builder: tfds.core.DatasetBuilder, folder: pathlib.Path) -> None:
    """Writes all examples of `builder` to `folder`, in tfds's order.

    The classes that occur are numbered from 0, in order: emnist/letters has 1 to 26, which become 0
    to 25.

    Raises:
      InputError: an example has no label, or there are too few examples.
      tf.errors.OpError: a file of tfds is damaged.
    """
    labels = {
        split: _write_images(builder, source, folder / f"{split}_images.npy")
        for split, source in catalog.sources(builder.info).items()
    }
    classes = sorted(set().union(*labels.values()))
    if classes[0] < 0:
        raise InputError(
            f"--dataset={builder.name}: needs a label from 0 for each example, and has labels "
            f"from {classes[0]}"
        )
    for split, own in labels.items():
        np.save(folder / f"{split}_labels.npy", np.searchsorted(classes, own).astype(np.int32))
    image, label = (builder.info.features[key] for key in builder.info.supervised_keys)
    cache.describe(folder, [label.int2str(each) for each in classes], image.shape)


def _write_images(builder: tfds.core.DatasetBuilder, source: str, path: pathlib.Path) -> list[int]:
    """Writes the images of `source`, upright, to a .npy file, and returns their labels.

    Raises:
      tf.errors.FailedPreconditionError: there are more or fewer examples than tfds has counted.
    """
    examples = builder.as_dataset(split=source, as_supervised=True).batch(EXAMPLES_AT_A_TIME)
    labels: list[int] = []
    with open(path, "wb") as file:
        features = examples.element_spec[0].shape[1:].num_elements()
        shape = builder.info.splits[source].num_examples, features
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        for images, numbers in rich.progress.track(
            tfds.as_numpy(examples),
            f"Decoding {path.stem}",
            console=SCREEN,
            transient=True,
            disable=not SCREEN.is_terminal,  # otherwise it would print an empty line
        ):
            if builder.name == TRANSPOSED:
                images = images.swapaxes(1, 2)
            file.write(images.tobytes())
            labels += numbers.tolist()
    return labels
