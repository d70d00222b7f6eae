"""Training examples in parts with an order each: in memory an epoch is one part; from the disk they are read ahead."""

import concurrent.futures
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from storage.decoded import Images, OnDisk, aligned

SHARD_BYTES = 2**20  # read in one piece: long enough for any disk
PART_BYTES = 64 * 2**20  # shuffled together; two of these exist at most: trained on, and being read

# images [rows, features] uint8, labels [rows], order [rows] int32
Part = tuple[np.ndarray, np.ndarray, np.ndarray]
OrderOf = Callable[..., np.ndarray]  # count, epoch, part -> order [count] int32
Planned = tuple[list[range], np.ndarray]  # the rows of a part in its file, and their order


def rows_of_part(images: Images, batch_size: int) -> int:
    """Returns the rows of a part: from the disk whole batches, so that none straddles two; all rows if they fit."""
    if isinstance(images, np.ndarray):
        return len(images)
    return min(len(images), max(1, PART_BYTES // images.row_bytes // batch_size) * batch_size)


def parts(
    images: Images,
    labels: np.ndarray,
    order_of: OrderOf,
    batch_size: int,
    epoch: int,
    part: int = 0,
) -> Iterator[Part]:
    """Yields the parts from a part of an epoch on, without end; one from the disk holds until the next is asked for.

    From the disk an epoch shuffles the shards, fills the parts with them one after the other, and shuffles the rows of
    each: a pure function of `order_of`. All parts are of one shape: the last of an epoch has rows that no order names,
    with whatever was there before.
    """
    if isinstance(images, np.ndarray):
        return (
            (images, labels, order_of(len(images), epoch=each)) for each in itertools.count(epoch)
        )
    rows = rows_of_part(images, batch_size)
    return _ahead(_read(images, labels, _planned(images, order_of, rows, epoch, part), rows))


def _planned(
    images: OnDisk, order_of: OrderOf, rows: int, epoch: int, part: int
) -> Iterator[Planned]:
    shard, count = max(1, SHARD_BYTES // images.row_bytes), math.ceil(len(images) / rows)
    shards = [
        range(first, min(first + shard, len(images))) for first in range(0, len(images), shard)
    ]
    for each in itertools.count(epoch):
        # Shards are shuffled with a key that no part has. One part has them all, whatever their order.
        shuffled = (
            order_of(len(shards), epoch=each, part=count) if count > 1 else range(len(shards))
        )
        for number, own in enumerate(_cut((shards[at] for at in shuffled), rows)):
            if each > epoch or number >= part:
                yield own, order_of(sum(map(len, own)), epoch=each, part=number)


def _cut(runs: Iterable[range], rows: int) -> Iterator[list[range]]:
    """Yields `runs` of rows in lists of so many rows; the last may have fewer."""
    own, room = list[range](), rows
    for run in runs:
        while run:
            own.append(run[:room])
            run, room = run[room:], room - len(own[-1])
            if not room:
                yield own
                own, room = [], rows
    if own:
        yield own


def _read(
    images: OnDisk, labels: np.ndarray, planned: Iterator[Planned], rows: int
) -> Iterator[Part]:
    """Yields the parts as they are planned; one that has the same rows as the one before is not read again."""
    # New memory takes as long to get as to fill.
    buffers = itertools.cycle(aligned(rows * images.row_bytes) for _ in range(2))
    for runs, group in itertools.groupby(planned, operator.itemgetter(0)):
        found = images.read(runs, next(buffers))
        labels_of = np.resize(np.concatenate([labels[run.start : run.stop] for run in runs]), rows)
        for _, order in group:
            yield found, labels_of, order


def _ahead(endless: Iterator[Part]) -> Iterator[Part]:
    """Yields what `endless` does; a thread prepares the next part meanwhile."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, endless)
        while True:
            part, following = following.result(), pool.submit(next, endless)
            yield part
