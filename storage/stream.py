"""Training examples in parts: in memory an epoch is one part; a stream reads them from the disk.

A stream shuffles the shards of an epoch, fills the parts with them one after the other, and
shuffles the rows of each part: a pure function of `order_of`, so that it goes on from any step.
"""

import concurrent.futures
import itertools
import math
import mmap
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from storage.dataset import Split

SHARD_BYTES = 2**20  # read in one piece: long enough for any disk
PART_BYTES = 64 * 2**20  # shuffled together; two of these exist: trained on, and being read

OrderOf = Callable[..., np.ndarray]  # count, epoch, part -> order [count] int32


class Part(NamedTuple):
    """Examples, and the order in which they are to be trained on."""

    images: np.ndarray  # [rows, features] uint8
    labels: np.ndarray  # [rows] int32
    order: np.ndarray  # [at most rows] int32


def rows_of_part(split: Split, batch_size: int) -> int:
    """Returns the rows of a part: all in memory; of a stream whole batches, as many as fit."""
    if not split.streamed:
        return len(split)
    batches = PART_BYTES // split.images.shape[1] // batch_size
    return min(len(split), max(1, batches) * batch_size)


def parts(
    split: Split, order_of: OrderOf, batch_size: int, epoch: int, part: int = 0
) -> Iterator[Part]:
    """Yields the parts from a part of an epoch on, without end.

    A part of a stream holds until the next is asked for; a thread reads that one meanwhile. All are
    of one shape: the last of an epoch has rows that no order names.
    """
    if not split.streamed:
        for number in itertools.count(epoch):
            yield Part(split.images, split.labels, order_of(len(split), epoch=number))
    endless = _read(split, order_of, rows_of_part(split, batch_size), epoch, part)
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, endless)
        while True:
            now, following = following.result(), reader.submit(next, endless)
            yield now


def _read(split: Split, order_of: OrderOf, size: int, epoch: int, first: int) -> Iterator[Part]:
    # New memory takes as long to get as to fill. A map is aligned, as TensorFlow wants it.
    shape = size, split.images.shape[1]
    maps = [mmap.mmap(-1, math.prod(shape)) for _ in range(2)]
    buffers = itertools.cycle([np.frombuffer(each, np.uint8).reshape(shape) for each in maps])
    count, read = math.ceil(len(split) / size), False
    for number in itertools.count(epoch):
        rows = _shuffled_by_shards(split, order_of, number, count)
        for part in range(first, count):
            own = rows[part * size : (part + 1) * size]
            if not read or count > 1:  # a stream of one part is read once
                images, labels, read = next(buffers), np.resize(split.labels[own], size), True
                split.read(own, images)
            yield Part(images, labels, order_of(len(own), epoch=number, part=part))
        first = 0


def _shuffled_by_shards(split: Split, order_of: OrderOf, epoch: int, parts: int) -> np.ndarray:
    """Returns the rows of an epoch [n] int32; those of one part are not moved, whose order is
    enough."""
    rows = np.arange(len(split), dtype=np.int32)
    if parts == 1:
        return rows
    length = max(1, SHARD_BYTES // split.images.shape[1])
    shards = np.split(rows, range(length, len(rows), length))
    # with a number that no part has
    return np.concatenate([shards[at] for at in order_of(len(shards), epoch=epoch, part=parts)])
