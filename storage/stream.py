"""Training examples in parts with an order each: in memory an epoch is one part; from the disk they are read ahead."""

import concurrent.futures
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from storage.decoded import Images, OnDisk

SHARD_BYTES = 2**20  # read in one piece: long enough for any disk
PART_BYTES = 64 * 2**20  # shuffled together; three of these exist at most: trained on, read, and being read

Part = tuple[np.ndarray, np.ndarray, np.ndarray]  # images [rows, features] uint8, labels [rows], order [rows] int32
OrderOf = Callable[..., np.ndarray]  # count, epoch, part -> order [count] int32
Planned = tuple[list[slice], np.ndarray]  # the rows of a part in its file, and their order


def rows_of_part(images: Images, batch_size: int) -> int:
    """Returns the rows of a part: from the disk whole batches, so that none straddles two; all rows if they fit."""
    if isinstance(images, np.ndarray):
        return len(images)
    return min(len(images), max(1, PART_BYTES // images.row_bytes // batch_size) * batch_size)


def parts(
    images: Images, labels: np.ndarray, order_of: OrderOf, batch_size: int, epoch: int, part: int = 0
) -> Iterator[Part]:
    """Yields the parts from a part of an epoch on, without end.

    From the disk an epoch shuffles the shards, fills the parts with them one after the other, and shuffles the rows of
    each: a pure function of `order_of`. All parts have as many images: those of the last one go on behind its order.
    """
    if isinstance(images, np.ndarray):
        return ((images, labels, order_of(len(images), epoch=each)) for each in itertools.count(epoch))
    return _read_ahead(images, labels, _planned(images, order_of, rows_of_part(images, batch_size), epoch, part))


def _planned(images: OnDisk, order_of: OrderOf, rows: int, epoch: int, part: int) -> Iterator[Planned]:
    shard, count = max(1, SHARD_BYTES // images.row_bytes), math.ceil(len(images) / rows)
    num_shards = math.ceil(len(images) / shard)
    for each in itertools.count(epoch):
        # Shards are shuffled with a key that no part has. One part has them all, whatever their order.
        shards = order_of(num_shards, epoch=each, part=count) if count > 1 else np.arange(num_shards)
        whole = np.concatenate([np.arange(at * shard, min((at + 1) * shard, len(images))) for at in shards])
        for number in range(part if each == epoch else 0, count):
            own = whole[number * rows : (number + 1) * rows]
            yield [*_spans(own), slice(0, rows - len(own))], order_of(len(own), epoch=each, part=number)


def _spans(rows: np.ndarray) -> list[slice]:
    """Returns rows [n], which come in runs, as these runs."""
    runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    return [slice(int(run[0]), int(run[-1]) + 1) for run in runs]


def _read_ahead(images: OnDisk, labels: np.ndarray, planned: Iterator[Planned]) -> Iterator[Part]:
    """Yields the parts as they are planned; the next one is read meanwhile, unless it has the same rows."""

    def read(spans: list[slice]) -> tuple[np.ndarray, np.ndarray]:
        return images.read(spans), np.concatenate([labels[span] for span in spans])

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        spans, order = next(planned)
        ahead = pool.submit(read, spans)
        for next_spans, next_order in planned:
            following = ahead if next_spans == spans else pool.submit(read, next_spans)
            yield *ahead.result(), order
            spans, order, ahead = next_spans, next_order, following
