"""Training examples that stay on the disk: read through tf.data, shuffled over shards and a buffer, as blocks."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

import data
import ondisk

if TYPE_CHECKING:
    from plan import Block

SHARD_BYTES = 2**20  # read in one piece: long enough for any disk
BUFFER_BYTES = 64 * 2**20  # shuffled together; three of these exist at most: read, being read, and cut into blocks
PIECE_BYTES = 4 * 2**20  # gathered together


class Streamed(data.Source):
    """The training examples, on the disk, as blocks of batches.

    An epoch's order shuffles the shards, takes as many as the buffer holds, shuffles their examples, takes the next:
    a pure function of (seed, epoch). Examples that fit into the buffer come in the very order of `data.InMemory`.
    """

    def __init__(
        self,
        split: data.Split,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        shard_bytes: int = SHARD_BYTES,
        buffer_bytes: int = BUFFER_BYTES,
    ):
        super().__init__(len(split), batch_size)
        self.split, self.seed, self.shuffle = split, seed, shuffle
        self.shard_rows = max(1, shard_bytes // split.images.row_bytes)
        self.buffer_shards = max(1, buffer_bytes // shard_bytes)
        self.num_shards = -(-self.num_examples // self.shard_rows)
        self.order = "buffers" if shuffle and self.num_shards > self.buffer_shards else "whole"

    def deliver(self, blocks: "Sequence[Block]") -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Yields what `batches` needs for each of `blocks`, which follow one another, made while the last trains."""
        device = tf.zeros([]).device
        with tf.device("CPU"):
            buffers = tf.data.Dataset.from_generator(
                lambda: self._buffers(blocks[0].start),
                output_signature=(tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int32)),
            )
            rows = buffers.map(self._read).prefetch(1).flat_map(self._pieces)
            sizes = [math.prod(self.shape(block.start, block.stop)) for block in blocks]
            in_blocks = rows.rebatch(np.array(sizes, np.int64)).take(len(blocks))
            options = tf.data.Options()
            options.experimental_warm_start = True  # reads ahead from now on, not from the first block on
            in_blocks = in_blocks.with_options(options)
            if "GPU" in device:
                return iter(in_blocks.apply(tf.data.experimental.prefetch_to_device(device, 2)))
            return iter(in_blocks.prefetch(2))

    def example(self, block: "Block") -> tuple[tf.Tensor, tf.Tensor]:
        """Returns zeros in the shape of what `batches` needs; the stream stays where it is."""
        rows = math.prod(self.shape(block.start, block.stop))
        return tf.zeros([rows, self.split.images.shape[1]], tf.uint8), tf.zeros([rows], tf.int32)

    def batches(
        self, images: tf.Tensor, labels: tf.Tensor, batch: int, first: tf.Tensor | int, steps: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns images [steps, batch, features] uint8 and labels [steps, batch] int32 of a block, from its step
        `first` on. May be compiled."""
        rows = slice(first * batch, (first + steps) * batch)
        return tf.reshape(images[rows], [steps, batch, -1]), tf.reshape(labels[rows], [steps, batch])

    def _buffers(self, start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (shards, order of their rows) of each buffer from step `start` on, without end."""
        first_epoch, step = divmod(start, self.steps_per_epoch)
        skip = step * self.batch_size
        cuts = range(0, self.num_shards, self.buffer_shards)
        for epoch in itertools.count(first_epoch):
            # Shards are shuffled with a key that no buffer has. One buffer has them all, whatever their order.
            order = data.epoch_order(self.num_shards, self.seed, epoch, self.shuffle and len(cuts) > 1, part=len(cuts))
            for part, cut in enumerate(cuts):
                shards = np.sort(order[cut : cut + self.buffer_shards])
                num_rows = sum(len(self._rows(shard)) for shard in shards)
                if skip < num_rows:
                    yield shards, data.epoch_order(num_rows, self.seed, epoch, self.shuffle, part)[skip:]
                skip = max(0, skip - num_rows)

    def _rows(self, shard: int) -> range:
        """Returns the rows of a shard; only the last one is shorter."""
        return range(self.num_examples)[shard * self.shard_rows : (shard + 1) * self.shard_rows]

    def _read(self, shards: tf.Tensor, order: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns images [rows, features] and labels [rows] of `shards`, and `order`."""

        def read(shards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            spans = [slice(rows.start, rows.stop) for rows in map(self._rows, shards)]
            return tuple(
                ondisk.read([array[span] for span in spans]) for array in (self.split.images, self.split.labels)
            )

        images, labels = tf.numpy_function(read, [shards], (tf.uint8, tf.int32), stateful=False)
        return tf.ensure_shape(images, [None, self.split.images.shape[1]]), tf.ensure_shape(labels, [None]), order

    def _pieces(self, images: tf.Tensor, labels: tf.Tensor, order: tf.Tensor) -> tf.data.Dataset:
        """Returns the rows of a buffer in their order, some at a time, so that the first need not wait for the last."""
        piece = max(1, PIECE_BYTES // self.split.images.row_bytes)

        def gather(first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            rows = order[first : first + piece]
            return tf.gather(images, rows), tf.gather(labels, rows)

        return tf.data.Dataset.range(0, tf.size(order, tf.int64), piece).map(gather)


def chunks(split: data.Split) -> Iterable[tuple[tf.Tensor, tf.Tensor]]:
    """Returns a split on the disk as (images, labels), in order, for evaluations: one if it fits into BUFFER_BYTES."""
    if len(split) * split.images.row_bytes <= BUFFER_BYTES:
        return [(tf.constant(np.asarray(split.images)), tf.constant(np.asarray(split.labels)))]
    rows = max(1, PIECE_BYTES // split.images.row_bytes)

    def read(start: int) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(split.images[start : start + rows]), np.asarray(split.labels[start : start + rows])

    with tf.device("CPU"):
        starts = tf.data.Dataset.range(0, len(split), rows)
        pieces = starts.map(lambda start: tf.numpy_function(read, [start], (tf.uint8, tf.int32), stateful=False))
        shape = split.images.shape[1]
        return pieces.map(lambda x, y: (tf.ensure_shape(x, [None, shape]), tf.ensure_shape(y, [None]))).prefetch(1)
