"""The dataset: prepared by tfds once, kept decoded beside it, and handed out as blocks of batches."""

import contextlib
import copy
import dataclasses
import functools
import math
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

import ondisk
from errors import InputError, RunError, of_the_system, reason

if TYPE_CHECKING:
    from plan import Block

ARCHIVES = pathlib.Path(__file__).parent / "archives"
DECODED = "decoded.npz"
VERSIONS = {"mnist": "3.*.*"}  # the version this project is written for; any other dataset: its newest
NAME = r"\w+(/[\w.+-]+)?(:[\d.*]+)?"  # dataset/config:version
GATHERED = 500  # rows at a time, in memory: of 784 bytes they are 392 kB and stay in a core's cache
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
    images_crc32: int = 0  # of the decoded file's train_images.npy

    @property
    def num_features(self) -> int:
        return self.train.images.shape[1]

    @property
    def on_disk(self) -> bool:
        """Says whether the examples were left on the disk, for `stream.Streamed`."""
        return isinstance(self.train.images, ondisk.ArrayOnDisk)


def load(
    name: str, data_dir: str | None = None, manual_dir: str | None = None, most_bytes: float = math.inf
) -> Dataset:
    """Returns the dataset, from its decoded file if that is whole, else through tfds.

    Args:
      name: a tfds name such as "mnist" or "emnist/letters".
      data_dir: where tfds keeps prepared datasets; None for its own default.
      manual_dir: the dataset's downloaded archives; None for archives/NAME of this project.
      most_bytes: more bytes of training images than these stay on the disk, as `ondisk.ArrayOnDisk`.

    Raises:
      InputError: the dataset cannot be had, or a folder or archive is not as it must be.
      RunError: its file cannot be read, for want of memory or of rights, or right after it was written.
    """
    if not re.fullmatch(NAME, name):
        raise InputError(f"--dataset={name}: must be a name of tfds such as mnist, emnist/letters or mnist:3.0.1")
    root = pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    for decoded in decoded_files(name, root):
        with contextlib.suppress(ValueError):
            return read_decoded(name, decoded, most_bytes)
        print(f"{decoded} is damaged: decoding {name} again", file=sys.stderr)
    import prepare

    archives = pathlib.Path(manual_dir or ARCHIVES / re.split("[/:]", name)[0])
    decoded = prepare.decoded_file(name, root, archives, most_bytes)
    try:
        return read_decoded(name, decoded, most_bytes)
    except ValueError as error:
        raise RunError(f"--data_dir: cannot read what was just written: {error}; check the disk") from None


def decoded_files(name: str, root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the decoded files of a dataset below `root`, the newest version first."""
    return sorted(root.glob(f"{name}/{VERSIONS.get(name, '*')}/{DECODED}"), reverse=True)


def read_decoded(name: str, decoded: pathlib.Path, most_bytes: float = math.inf) -> Dataset:
    """Returns the dataset kept in `decoded`; raises ValueError if the file is not whole, RunError if it may be.

    zip's CRC-32 tells for what is read into memory, zip's directory, which ends the file, for what is not.
    """
    try:
        with ondisk.load(decoded, most_bytes) as arrays:
            images, labels = arrays["train_images"], arrays["train_labels"]
            test = Split(arrays["test_images"], arrays["test_labels"])
            class_names = np.asarray(arrays["class_names"]).tolist()
            image_shape = tuple(np.asarray(arrays["image_shape"]).tolist())
            crc32 = arrays.getinfo("train_images.npy").CRC
    except MemoryError:
        raise RunError(f"{decoded}: does not fit into memory; --input=stream needs less memory") from None
    except Exception as error:  # a flipped bit can make zipfile and NumPy raise anything
        if of_the_system(error):
            raise RunError(f"{decoded}: cannot be read: {reason(error)}") from None
        raise ValueError(f"{decoded}: {error}") from error
    cut = len(labels) // VALIDATION_SHARE
    # A copy, so that the training images are free to go once the device has them.
    train, validation = Split(images[cut:], labels[cut:]), Split(copy.copy(images[:cut]), labels[:cut])
    return Dataset(name, train, validation, test, class_names, image_shape, crc32)


def epoch_order(num_examples: int, seed: int, epoch: int, shuffle: bool = True, part: int = 0) -> np.ndarray:
    """Returns the order [num_examples] int32 of an epoch, or of a part of it: a full permutation, a pure function."""
    if not shuffle:
        return np.arange(num_examples, dtype=np.int32)
    return np.random.default_rng((seed, epoch, part)).permutation(num_examples).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Chunks:
    """A split as (images, labels) on the device, in order, some rows at a time: put there when it is their turn."""

    split: Split
    rows: int = 2_500  # counting a chunk's right answers takes as much memory again as its floats: 8 MB

    def __iter__(self) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        for first in range(0, len(self.split), self.rows):
            cut = slice(first, first + self.rows)
            yield tf.constant(self.split.images[cut]), tf.constant(self.split.labels[cut])


class Source:
    """Training examples as blocks of batches; each of its kinds also has `deliver` and `batches`."""

    order = "whole"  # an epoch is shuffled as a whole, not in buffers

    def __init__(self, num_examples: int, batch_size: int):
        self.num_examples, self.batch_size = num_examples, batch_size
        self.steps_per_epoch = -(-num_examples // batch_size)

    def shape(self, start: int, stop: int) -> tuple[int, int]:
        """Returns (steps, batch) of the block of steps [start, stop); only an epoch's last batch is smaller."""
        first = start % self.steps_per_epoch * self.batch_size
        return stop - start, min(self.batch_size, self.num_examples - first)

    def at_once(self, steps: int) -> int:
        """Returns for how many steps of a block at a time an XLA program best asks for their batches."""
        return steps

    def example(self, block: "Block") -> tuple[tf.Tensor, ...]:
        """Returns what is delivered for `block`, or something of the same shape: to compile with."""
        return next(self.deliver([block]))


class InMemory(Source):
    """The training examples, on the device, as blocks of batches."""

    def __init__(self, split: Split, batch_size: int, seed: int = 0, shuffle: bool = True):
        super().__init__(len(split), batch_size)
        self.images, self.labels = tf.constant(split.images), tf.constant(split.labels)
        self._order = functools.lru_cache(maxsize=1)(
            lambda epoch: tf.constant(epoch_order(self.num_examples, seed, epoch, shuffle))
        )

    def deliver(self, blocks: "Iterable[Block]") -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Yields what `batches` needs for each of `blocks`: its epoch's order and the place in it."""
        for block in blocks:
            epoch, first = divmod(block.start, self.steps_per_epoch)
            yield self._order(epoch), tf.constant(first * self.batch_size)

    def at_once(self, steps: int) -> int:
        """Returns for how many steps of a block at a time an XLA program best gathers their batches."""
        if "GPU" in self.images.device:  # no cache of a core to stay in, and a gather is a launch
            return steps
        most = max(1, GATHERED // self.batch_size)
        return max(some for some in range(1, min(steps, most) + 1) if steps % some == 0)

    def batches(
        self, order: tf.Tensor, place: tf.Tensor, batch: int, first: tf.Tensor | int, steps: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns images [steps, batch, features] uint8 and labels [steps, batch] int32 of a block, from its step
        `first` on. May be compiled."""
        # Not tf.slice: XLA would compile it anew for each `place`.
        indices = tf.gather(order, place + first * batch + tf.reshape(tf.range(steps * batch), [steps, batch]))
        return tf.gather(self.images, indices), tf.gather(self.labels, indices)
