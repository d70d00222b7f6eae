"""The data: its three splits, the order of an epoch, and its batches.

A batch is the rows of one step. A *buffer* is the rows that are in memory at a time: the whole
epoch, or about 64 MiB of it in a stream from the disk. A *span* is a number of steps that one call
of a compiled function takes. A *block* is the data of a span, and in one buffer.
"""

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import flags
import model
from runtime.plan import spans, steps_per_epoch
from storage import cache, stream
from storage.dataset import Dataset, Split

ROWS_PER_GATHER = 500  # rows that share the cost of one call of tf.data
HOST = "CPU:0"  # of pipelines, because TensorFlow has no GPU kernel that gathers uint8


class Block(NamedTuple):
    """The data of a span."""

    data: model.Rows | tf.data.Iterator  # rows in mode xla, an iterator of batches in the others
    steps: int
    max_steps: int  # no block of the run has more
    batch_size: int
    evaluate: bool  # whether an evaluation follows


def load(
    name: str,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    max_bytes: float = math.inf,
) -> Dataset:
    """Returns the dataset with its splits train, validation and test, from its cache or from tfds.

    Args:
      name: a tfds name such as "mnist" or "emnist/letters".
      data_dir: the folder of prepared datasets; None for tfds's default.
      manual_dir: the dataset's downloaded archives; None for archives/NAME of this project.
      max_bytes: if the training images have more bytes, they are streamed from the disk.

    Raises:
      InputError: there is no such dataset, or a folder or archive cannot be used.
      RunError: it cannot be prepared or read, such as for lack of room, memory or permission.
    """
    root = cache.root_folder(data_dir)
    if found := cache.find(name, root, max_bytes):
        return found
    from storage import prepare  # with tfds, which takes a second to import

    return prepare.make_cache(name, root, manual_dir, max_bytes)


def epoch_order(
    num_examples: int, seed: int, epoch: int, shuffle: bool = True, buffer: int = 0
) -> np.ndarray:
    """Returns the order [num_examples] int32 of an epoch, or of one of its buffers.

    It is a permutation, and a pure function of the arguments.
    """
    order = np.arange(num_examples, dtype=np.int32)
    if shuffle:
        np.random.default_rng((seed, epoch, buffer)).shuffle(order)
    return order


def pipeline(
    split: Split, batch_size: int, seed: int = 0, epoch: int = 0, shuffle: bool = True
) -> tf.data.Dataset:
    """Returns the batches of an epoch of a split in memory; the last one may be smaller.

    A batch is (images [batch, features] uint8, labels [batch] int32).
    """
    order = epoch_order(len(split), seed, epoch, shuffle)
    return gather_batches(stream.Buffer(split.images, split.labels, order), batch_size)


def gather_batches(buffer: stream.Buffer, batch_size: int, first: int = 0) -> tf.data.Dataset:
    """Returns the batches of the rows order[first:] of a buffer."""
    count = math.ceil(ROWS_PER_GATHER / batch_size) * batch_size
    with tf.device(HOST):
        images, labels, order = map(shared, buffer)
        starts = tf.data.Dataset.range(first, len(buffer.order), count)

        @tf.autograph.experimental.do_not_convert
        def gather(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            rows = order[start : start + count]
            return tf.gather(images, rows), tf.gather(labels, rows)

        options = tf.data.Options()
        options.autotune.enabled = False  # in so short a pipeline it costs more than it gains
        return starts.map(gather).prefetch(2).rebatch(batch_size).with_options(options)


def blocks(split: Split, config: flags.Config, start: int = 0) -> Iterator[Block]:
    """Yields the blocks of a run from step `start` on. A block is valid until the next one."""
    batch_size = config.batch_size
    buffer_steps = stream.steps_per_buffer(split, batch_size)
    epoch_steps = steps_per_epoch(config, len(split))
    order_of = functools.partial(epoch_order, seed=config.seed, shuffle=config.shuffle)
    epoch, step = divmod(start, epoch_steps)
    buffers = stream.buffers(
        split, buffer_steps * batch_size, order_of, epoch, step // buffer_steps
    )
    if split.streamed:
        buffers = stream.read_ahead(buffers)
    in_pipeline = config.mode in ("eager", "graph")
    for span in spans(config, len(split), buffer_steps, start):
        step = span.start % epoch_steps
        first = step % buffer_steps * batch_size
        if first == 0 or span.start == start:
            buffer = next(buffers)
            if in_pipeline:
                data = iter(gather_batches(buffer, batch_size, first))
            else:
                # the last buffer of an epoch may have fewer rows: XLA needs one shape
                order = shared(np.resize(buffer.order, len(buffer.labels)))
                if split.streamed or span.start == start:
                    images, labels = shared(buffer.images), shared(buffer.labels)
        if not in_pipeline:
            data = model.Rows(images, labels, order, tf.constant(first))
        size = min(batch_size, len(split) - step * batch_size)
        yield Block(data, span.steps, span.max_steps, size, span.evaluate)


def shared(array: np.ndarray) -> tf.Tensor:
    """Returns an array as a tensor. The array must not change while the tensor is used.

    On a CPU the two share memory if the array is aligned and contiguous, except in the first
    operation of all.
    """
    return tf.raw_ops.Identity(input=array)  # tf.constant would copy it
