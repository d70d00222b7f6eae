"""A dataset in three splits: found decoded below the folder of prepared datasets, or prepared there."""

import dataclasses
import os
import pathlib
import re
import sys
from collections.abc import Iterator

import numpy as np

from common.errors import InputError, RunError
from common.files import PROJECT
from storage import decoded

ARCHIVES = PROJECT / "archives"
NAME = r"\w+(/[\w.+-]+)?(:[\d.*]+)?"  # dataset/config:version


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples in the dataset's own order: images [n, features] uint8, in memory or on the disk, labels [n] int32."""

    images: decoded.Images
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def chunks(self, rows: int = 5_000) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (images, labels), some rows at a time."""
        for first in range(0, len(self), rows):
            yield self.images[first : first + rows], self.labels[first : first + rows]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The three splits of an image-classification dataset, flattened, with what its classes are called."""

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: list[str]
    image_shape: tuple[int, ...]
    checksum: str = ""  # of all images and labels

    @property
    def num_features(self) -> int:
        return self.train.images.shape[1]

    @property
    def on_disk(self) -> bool:
        """Says whether the images were left on the disk."""
        return not isinstance(self.train.images, np.ndarray)


def load(name: str, data_dir: str | None, manual_dir: str | None, most_bytes: float) -> Dataset:
    """Returns the dataset `name`; arguments and errors are those of `data.load`."""
    if not re.fullmatch(NAME, name):
        raise InputError(
            f"--dataset={name}: must be a name of tfds such as mnist, emnist/letters or mnist:3.0.1"
        )
    root = _root(data_dir)
    found, archives_read = _decoded(name, root, most_bytes), False
    if not found:
        from storage import prepare  # tfds takes a second to import

        archives = pathlib.Path(manual_dir or ARCHIVES / re.split("[/:]", name)[0]).expanduser()
        folder, archives_read = prepare.decoded_folder(name, root, archives, most_bytes)
        try:
            found = _dataset(name, decoded.read(folder, most_bytes))
        except ValueError as error:
            raise RunError(
                f"--data_dir: cannot read what was just written: {error}; check the disk"
            ) from None
    if not found.validation:
        least = decoded.VALIDATION_SHARE
        raise InputError(
            f"--dataset={name}: has {len(found.train)} training examples; at least {least} are needed, "
            f"of which one in {least} validates"
        )
    if manual_dir and not archives_read:
        print(
            f"--manual_dir={manual_dir} is not read: {name} is prepared already in {root}",
            file=sys.stderr,
        )
    return found


def _decoded(name: str, root: pathlib.Path, most_bytes: float) -> Dataset | None:
    """Returns the dataset if it stands decoded below `root`; says so if it is damaged or of another format."""
    for folder in decoded.folders(name, root)[:1]:  # an older version is another dataset
        try:
            return _dataset(name, decoded.read(folder, most_bytes))
        except ValueError as error:
            print(f"{error}: decoding {name} again", file=sys.stderr)
    return None


def _root(data_dir: str | None) -> pathlib.Path:
    return pathlib.Path(
        data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    ).expanduser()


def _dataset(name: str, found: decoded.Decoded) -> Dataset:
    train, validation, test = (
        Split(*examples) for examples in (found.train, found.validation, found.test)
    )
    return Dataset(
        name, train, validation, test, found.class_names, found.image_shape, found.checksum
    )
