"""The data: its three splits, the order of an epoch, and its batches, one by one or for whole
blocks of steps."""

import functools
import math
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from common.errors import InputError, RunError
from runtime.plan import Span
from storage import cache, stream
from storage.dataset import Dataset, Split

NAME = r"\w+(/[\w.+-]+)?(:[\d.*]+)?"  # dataset/config:version
ALIGNMENT = 64  # bytes; TensorFlow shares the memory of arrays that begin at a multiple of it
ROWS_PER_GATHER = 500  # rows that share what tf.data takes for each call
BATCHES_AHEAD = 10  # on their way to a GPU


class Block(NamedTuple):
    """Steps that are taken in one call, for mode xla.

    Step i takes the rows order[first + i * batch_size:][:batch_size] of images and labels.
    """

    images: tf.Tensor  # [n, features] uint8
    labels: tf.Tensor  # [n] int32
    order: tf.Tensor  # [rows] int32
    first: int
    steps: int
    batch_size: int
    evaluate: bool  # after it


class BatchBlock(NamedTuple):
    """Steps that are taken in one call, for modes eager and graph: a step on each next batch."""

    batches: tf.data.Iterator
    steps: int
    batch_size: int
    evaluate: bool  # after it


def load(
    name: str,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    max_bytes: float = math.inf,
) -> Dataset:
    """Returns the dataset with its splits train, validation and test: from its cache, or by tfds.

    Args:
      name: a tfds name such as "mnist" or "emnist/letters".
      data_dir: where tfds keeps prepared datasets; None for its own default.
      manual_dir: the dataset's downloaded archives; None for archives/NAME of this project.
      max_bytes: more bytes of training images than these are streamed from the disk.

    Raises:
      InputError: the dataset cannot be had, or a folder or archive is not as it must be.
      RunError: it cannot be read, for want of memory or of rights, or right after it was written.
    """
    if not re.fullmatch(NAME, name):
        raise InputError(
            f"--dataset={name}: must be a name of tfds such as mnist, emnist/letters or mnist:3.0.1"
        )
    root = cache.root_folder(data_dir)
    found = cache.find(name, root, max_bytes)
    if found and manual_dir:
        print(f"--manual_dir={manual_dir} is not read: {name} is prepared already", file=sys.stderr)
    if not found:
        from storage import prepare  # with tfds, which takes a second to import

        prepare.make_cache(name, root, manual_dir, max_bytes)
        found = cache.find(name, root, max_bytes)
    if not found:
        raise RunError(f"--data_dir: {root}: what was just written cannot be read; check the disk")
    return found


def epoch_order(
    num_examples: int, seed: int, epoch: int, shuffle: bool = True, part: int = 0
) -> np.ndarray:
    """Returns the order [num_examples] int32 of an epoch, or of a part of it: a full permutation, a
    pure function."""
    if not shuffle:
        return np.arange(num_examples, dtype=np.int32)
    return np.random.default_rng((seed, epoch, part)).permutation(num_examples).astype(np.int32)


def pipeline(
    split: Split,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    step: int = 0,
) -> tf.data.Dataset:
    """Returns the batches of an epoch from `step` on; the last one may be smaller.

    A batch is (images [batch, features] uint8, labels [batch] int32).
    """
    part, step = divmod(step, steps_of_part(split, batch_size))
    order_of = functools.partial(epoch_order, seed=seed, shuffle=shuffle)
    parts = functools.partial(stream.parts, split, order_of, batch_size, epoch, part)
    if split.streamed:
        return streamed_batches(parts, split, batch_size, part).skip(step)
    images, labels, order = next(parts())
    rows = tf.constant(order[step * batch_size :])
    return batches(shared(images), tf.constant(labels), rows, batch_size)


def batches(
    images: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, batch_size: int
) -> tf.data.Dataset:
    """Returns the batches of the rows `order` [rows] of images and labels."""
    some = math.ceil(ROWS_PER_GATHER / batch_size) * batch_size
    starts = tf.data.Dataset.range(0, tf.size(order, tf.int64), some)

    @tf.autograph.experimental.do_not_convert
    def gather(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = order[start : start + some]
        return tf.gather(images, rows), tf.gather(labels, rows)

    options = tf.data.Options()
    options.autotune.enabled = False  # it costs more than so short a pipeline can win
    return starts.map(gather).prefetch(2).rebatch(batch_size).with_options(options)


def streamed_batches(
    parts: Callable[[], Iterator[stream.Part]], split: Split, batch_size: int, part: int
) -> tf.data.Dataset:
    """Returns the batches of an epoch's parts from number `part` on, each read from the disk."""
    count = math.ceil(len(split) / stream.rows_of_part(split, batch_size))
    rows = tf.TensorSpec([None], tf.int32)
    signature = (tf.TensorSpec([None, split.images.shape[1]], tf.uint8), rows, rows)
    read = tf.data.Dataset.from_generator(parts, output_signature=signature).take(count - part)
    return read.flat_map(lambda images, labels, order: batches(images, labels, order, batch_size))


def steps_of_part(split: Split, batch_size: int) -> int:
    """Returns how many steps a part of an epoch has: all of it in memory, a buffer from the
    disk."""
    return math.ceil(stream.rows_of_part(split, batch_size) / batch_size)


def batch_blocks(
    split: Split, batch_size: int, seed: int, shuffle: bool, spans: Iterable[Span]
) -> Generator[BatchBlock]:
    """Yields the block of each of `spans`, which follow each other: batches of `pipeline`."""
    iterator: tf.data.Iterator = None
    for span in spans:
        epoch, step = divmod(span.start, math.ceil(len(split) / batch_size))
        if step == 0 or iterator is None:
            dataset = pipeline(split, batch_size, seed, epoch, shuffle, step)
            if "GPU" in tf.zeros([]).device:
                ahead = tf.data.experimental.prefetch_to_device(tf.zeros([]).device, BATCHES_AHEAD)
                dataset = dataset.apply(ahead)
            iterator = iter(dataset)
        batch = min(batch_size, len(split) - step * batch_size)
        yield BatchBlock(iterator, span.stop - span.start, batch, span.evaluate)


def blocks(
    split: Split, batch_size: int, seed: int, shuffle: bool, spans: Iterable[Span]
) -> Generator[Block]:
    """Yields the block of each of `spans`, which follow each other: the rows of `pipeline`.

    None of `spans` goes over the end of a part. A block's tensors hold until the next is asked for.
    """
    order_of = functools.partial(epoch_order, seed=seed, shuffle=shuffle)
    part_steps, epoch_steps = steps_of_part(split, batch_size), math.ceil(len(split) / batch_size)
    part_rows = stream.rows_of_part(split, batch_size)
    place, parts, array = None, None, None
    for span in spans:
        epoch, step = divmod(span.start, epoch_steps)
        part, step_of_part = divmod(step, part_steps)
        if place != (epoch, part):
            place = epoch, part
            parts = parts or stream.parts(split, order_of, batch_size, epoch, part)
            new_array, new_labels, new_order = next(parts)
            if new_array is not array:
                array, images, labels = new_array, shared(new_array), tf.constant(new_labels)
            order = tf.constant(np.resize(new_order, part_rows))  # of one shape for all parts
        yield Block(
            images=images,
            labels=labels,
            order=order,
            first=step_of_part * batch_size,
            steps=span.stop - span.start,
            batch_size=min(batch_size, len(split) - step * batch_size),
            evaluate=span.evaluate,
        )


def shared(array: np.ndarray) -> tf.Tensor:
    """Returns a tensor of an array, which must not change while it is used.

    On a CPU they share memory, where TensorFlow can use it as it lies.
    """
    usable = array.flags.c_contiguous and array.flags.writeable
    if "GPU" in tf.zeros([]).device or not usable or array.ctypes.data % ALIGNMENT:
        return tf.constant(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
