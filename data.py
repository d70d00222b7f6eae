"""The dataset: prepared by tfds once, kept decoded beside it, and handed out as blocks of batches."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import sys
import zipfile

import numpy as np
import tensorflow as tf

ARCHIVES = pathlib.Path(__file__).parent / "archives"
DECODED = "decoded.npz"
VERSIONS = {"mnist": "3.*.*"}  # the version this project is written for; any other dataset: its newest
VALIDATION_SHARE = 12  # one twelfth of the training split validates: the article's 5,000 of 60,000


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples: images [n, features] uint8 and labels [n] int32, in the dataset's own order."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The three splits of an image-classification dataset, flattened, with what its classes are called."""

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: list[str]
    image_shape: tuple[int, ...]

    @property
    def num_features(self) -> int:
        return self.train.images.shape[1]


def load(name: str, data_dir: str | None = None, manual_dir: str | None = None) -> Dataset:
    """Returns the dataset, from its decoded file if that is whole, else through tfds.

    Args:
      name: a tfds name such as "mnist" or "emnist/letters".
      data_dir: where tfds keeps prepared datasets; None for its own default.
      manual_dir: the dataset's downloaded archives; None for archives/NAME of this project.

    Raises:
      InputError: the dataset cannot be had, or a folder or archive is not as it must be.
    """
    root = pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    for decoded in decoded_files(name, root):
        with contextlib.suppress(ValueError):
            return read_decoded(name, decoded)
        print(f"{decoded} is damaged: decoding {name} again", file=sys.stderr)
    import prepare

    return read_decoded(name, prepare.decoded_file(name, root, pathlib.Path(manual_dir or ARCHIVES / name)))


def decoded_files(name: str, root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the decoded files of a dataset below `root`, the newest version first."""
    return sorted(root.glob(f"{name}/{VERSIONS.get(name, '*')}/{DECODED}"), reverse=True)


def read_decoded(name: str, decoded: pathlib.Path) -> Dataset:
    """Returns the dataset kept in `decoded`; raises ValueError if the file is not whole (zip's CRC-32 tells)."""
    try:
        with zipfile.ZipFile(decoded) as arrays:
            images, labels = _array(arrays, "train_images"), _array(arrays, "train_labels")
            test = Split(_array(arrays, "test_images"), _array(arrays, "test_labels"))
            class_names, image_shape = _array(arrays, "class_names").tolist(), _array(arrays, "image_shape").tolist()
    except Exception as error:  # a flipped bit can make zipfile and NumPy raise anything
        raise ValueError(f"{decoded}: {error}") from error
    cut = len(labels) // VALIDATION_SHARE
    train, validation = Split(images[cut:], labels[cut:]), Split(images[:cut], labels[:cut])
    return Dataset(name, train, validation, test, class_names, tuple(image_shape))


def _array(arrays: zipfile.ZipFile, name: str) -> np.ndarray:
    with arrays.open(f"{name}.npy") as file:
        array = np.lib.format.read_array(file)
        if file.read(1):  # zip compares CRC-32s at the end of a file only, and np.load may stop before it
            raise ValueError(f"{name} goes on behind its end")
    return array


def epoch_order(num_examples: int, seed: int, epoch: int, shuffle: bool = True) -> np.ndarray:
    """Returns the order [num_examples] int32 of an epoch: a full permutation, a pure function of (seed, epoch)."""
    if not shuffle:
        return np.arange(num_examples, dtype=np.int32)
    return np.random.default_rng((seed, epoch)).permutation(num_examples).astype(np.int32)


class InMemory:
    """The training examples, on the device, as blocks of batches."""

    def __init__(self, split: Split, batch_size: int, seed: int = 0, shuffle: bool = True):
        self.images, self.labels = tf.constant(split.images), tf.constant(split.labels)
        self.num_examples, self.batch_size = len(split), batch_size
        self.steps_per_epoch = -(-len(split) // batch_size)
        self._order = functools.lru_cache(maxsize=1)(
            lambda epoch: tf.constant(epoch_order(self.num_examples, seed, epoch, shuffle))
        )

    def shape(self, start: int, stop: int) -> tuple[int, int]:
        """Returns (steps, batch) of the block of steps [start, stop); only an epoch's last batch is smaller."""
        first = start % self.steps_per_epoch * self.batch_size
        return stop - start, min(self.batch_size, self.num_examples - first)

    def inputs(self, start: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what `block` needs for the steps from `start` on: its epoch's order and the place in it."""
        epoch, first = divmod(start, self.steps_per_epoch)
        return self._order(epoch), tf.constant(first * self.batch_size)

    def block(self, order: tf.Tensor, first: tf.Tensor, steps: int, batch: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns images [steps, batch, features] uint8 and labels [steps, batch] int32. May be compiled."""
        # Not tf.slice: XLA would compile it anew for each value of `first`.
        indices = tf.gather(order, first + tf.reshape(tf.range(steps * batch), [steps, batch]))
        return tf.gather(self.images, indices), tf.gather(self.labels, indices)
