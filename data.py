"""The data: the splits of a dataset, the order of an epoch, and its batches, one by one or for whole blocks of steps."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from runtime.plan import Span
from storage import library, stream
from storage.decoded import Images

GATHERED = 500  # rows that the pipeline gathers at a time, so that they share what tf.data takes for each call


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples in the dataset's own order: images [n, features] uint8, in memory or on the disk, and labels [n] int32."""

    images: Images
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def chunks(self, rows: int = 5_000) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Yields (images, labels), some rows at a time: put on the device when it is their turn."""
        for first in range(0, len(self), rows):
            yield tf.constant(self.images[first : first + rows]), tf.constant(self.labels[first : first + rows])


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


class Block(NamedTuple):
    """Steps taken in one call: step i on the rows order[first + i * batch_size:][:batch_size] of images and labels."""

    images: tf.Tensor  # [n, features] uint8
    labels: tf.Tensor  # [n] int32
    order: tf.Tensor  # [rows] int32
    first: int
    steps: int
    batch_size: int


def load(
    name: str, data_dir: str | None = None, manual_dir: str | None = None, most_bytes: float = math.inf
) -> Dataset:
    """Returns the dataset, as it was decoded before if that is whole, else through tfds.

    Args:
      name: a tfds name such as "mnist" or "emnist/letters".
      data_dir: where tfds keeps prepared datasets; None for its own default.
      manual_dir: the dataset's downloaded archives; None for archives/NAME of this project.
      most_bytes: more bytes of training images than these stay on the disk.

    Raises:
      InputError: the dataset cannot be had, or a folder or archive is not as it must be.
      RunError: it cannot be read, for want of memory or of rights, or right after it was written.
    """
    found = library.examples_of(name, data_dir, manual_dir, most_bytes)
    splits = (Split(*examples) for examples in (found.train, found.validation, found.test))
    return Dataset(name, *splits, found.class_names, found.image_shape, found.checksum)


def epoch_order(num_examples: int, seed: int, epoch: int, shuffle: bool = True, part: int = 0) -> np.ndarray:
    """Returns the order [num_examples] int32 of an epoch, or of a part of it: a full permutation, a pure function."""
    if not shuffle:
        return np.arange(num_examples, dtype=np.int32)
    return np.random.default_rng((seed, epoch, part)).permutation(num_examples).astype(np.int32)


def parts(
    split: Split, batch_size: int, seed: int, shuffle: bool, epoch: int, part: int = 0
) -> Iterator[stream.Part]:
    """Yields (images, labels, order) from a part of an epoch on: in memory an epoch is one part, on the disk several."""

    def order_of(count: int, epoch: int, part: int) -> np.ndarray:
        return epoch_order(count, seed, epoch, shuffle, part)

    return stream.parts(split.images, split.labels, order_of, batch_size, epoch, part)


def pipeline(split: Split, batch_size: int, seed: int = 0, epoch: int = 0, shuffle: bool = True) -> tf.data.Dataset:
    """Returns the batches of an epoch: (images [batch, features] uint8, labels [batch] int32), the last one smaller."""
    count = math.ceil(len(split) / stream.rows_of_part(split.images, batch_size))
    if count == 1:
        return batches(*next(parts(split, batch_size, seed, shuffle, epoch)), batch_size)
    rows = tf.TensorSpec([None], tf.int32)
    several = tf.data.Dataset.from_generator(
        lambda: parts(split, batch_size, seed, shuffle, epoch),
        output_signature=(tf.TensorSpec([None, split.images.shape[1]], tf.uint8), rows, rows),
    )
    return several.take(count).flat_map(lambda *part: batches(*part, batch_size))


def batches(images: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, batch_size: int) -> tf.data.Dataset:
    """Returns the batches (images, labels) of the rows `order` [rows]; the last one is smaller."""
    some = math.ceil(GATHERED / batch_size) * batch_size

    def gather(first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = order[first : first + some]
        return tf.gather(images, rows), tf.gather(labels, rows)

    options = tf.data.Options()
    options.autotune.enabled = False  # it costs more than so short a pipeline can win
    gathered = tf.data.Dataset.range(0, tf.size(order, tf.int64), some).map(gather).prefetch(2)
    return gathered.rebatch(batch_size).with_options(options)


def steps_of_part(split: Split, batch_size: int) -> int:
    """Returns how many steps a part of an epoch has; the last one may have fewer."""
    return math.ceil(stream.rows_of_part(split.images, batch_size) / batch_size)


def blocks(split: Split, batch_size: int, seed: int, shuffle: bool, spans: Iterable[Span]) -> Iterator[Block]:
    """Yields the block of each of `spans`, which follow one another and are cut where a part ends."""
    of_part, of_epoch = steps_of_part(split, batch_size), math.ceil(len(split) / batch_size)
    rows, at, ahead, images, tensors = stream.rows_of_part(split.images, batch_size), None, None, None, ()
    for span in spans:
        epoch, step = divmod(span.start, of_epoch)
        if at != (epoch, step // of_part):
            at = epoch, step // of_part
            ahead = ahead or parts(split, batch_size, seed, shuffle, *at)
            new_images, labels, order = next(ahead)
            if new_images is not images:
                images, tensors = new_images, (on_device(new_images), tf.constant(labels))
            order = tf.constant(np.resize(order, rows))  # of one shape for all parts
        batch = min(batch_size, len(split) - step * batch_size)
        yield Block(*tensors, order, step % of_part * batch_size, span.stop - span.start, batch)


def on_device(array: np.ndarray) -> tf.Tensor:
    """Returns a tensor of an array, which must not change any more: on a CPU they share their memory."""
    if "GPU" in tf.zeros([]).device or not array.flags.writeable:
        return tf.constant(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
