"""Training examples in buffers: in memory a whole epoch is one buffer; a stream has several.

A stream shuffles the shards of an epoch, fills the buffers with them one by one, and shuffles the
rows of each buffer. The result depends on `order_of` alone, so a run can resume at any step.
"""

import concurrent.futures
import itertools
import math
import mmap
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from storage.dataset import Split

SHARD_BYTES = 2**20  # read in one piece, large enough for any disk
BUFFER_BYTES = 64 * 2**20  # shuffled together; a run trains on one buffer while it reads another


class Buffer(NamedTuple):
    """Examples in memory, and the order in which to train on them."""

    images: np.ndarray  # [rows, features] uint8
    labels: np.ndarray  # [rows] int32
    order: np.ndarray  # [at most rows] int32


def steps_per_buffer(split: Split, batch_size: int) -> int:
    """Returns how many steps' rows a buffer has room for: all of an epoch, if it is in memory."""
    if not split.streamed:
        return len(split)
    return max(1, BUFFER_BYTES // split.images.shape[1] // batch_size)


def buffers(
    split: Split, max_rows: int, order_of: Callable[..., np.ndarray], epoch: int, first: int = 0
) -> Iterator[Buffer]:
    """Yields the buffers from number `first` of an epoch on, without end.

    order_of(count, epoch=..., buffer=...) returns an order [count] int32. All buffers have one
    shape, so the last of an epoch has rows that are not in its order. In memory an epoch is one
    buffer; a buffer of a stream is valid until the next but one is requested.
    """
    size = min(len(split), max_rows)
    features = split.images.shape[1]
    # Allocating memory takes as long as filling it. A map is aligned, as TensorFlow needs it.
    memory = itertools.cycle(
        np.frombuffer(mmap.mmap(-1, size * features), np.uint8).reshape(size, features)
        for _ in range(2)
    )
    count = math.ceil(len(split) / size)
    length = max(1, SHARD_BYTES // features) if count > 1 else size  # of a shard, in rows
    shards = np.split(np.arange(len(split), dtype=np.int32), range(length, len(split), length))
    for number in itertools.count(epoch):
        order = order_of(len(shards), epoch=number, buffer=count)  # not the number of a buffer
        shuffled = np.concatenate([shards[at] for at in order])
        for buffer in range(first, count):
            rows = shuffled[buffer * size :][:size]
            images, labels = split.images, split.labels
            if split.streamed:
                images = next(memory)
                split.read(rows, images)
                labels = np.resize(split.labels[rows], size)
            yield Buffer(images, labels, order_of(len(rows), epoch=number, buffer=buffer))
        first = 0  # only the first epoch begins in its middle


def read_ahead(buffers: Iterator[Buffer]) -> Iterator[Buffer]:
    """Yields the same buffers, each of them valid until the next; a thread reads that meanwhile."""
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, buffers)
        while True:
            now = following.result()
            following = reader.submit(next, buffers)
            yield now
