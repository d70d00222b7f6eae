"""The order of the examples, in memory and from the disk, from any step; a stream's two buffers."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest

import data
import flags
from storage import stream
from tests import made, oracle
from tests.conftest import trained

NUM, FEATURES = 1003, 7
SHARD, ROOM = 16, 85  # rows of a shard, and that a buffer has room for


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """1,003 examples on the disk; each image's first four bytes are its label."""
    images = np.zeros((NUM, FEATURES), np.uint8)
    images[:, :4] = np.arange(NUM, dtype=np.uint32)[:, None].view(np.uint8)
    return made.streamed(images, np.arange(NUM, dtype=np.int32), tmp_path_factory.mktemp("stream"))


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch):
    monkeypatch.setattr(stream, "SHARD_BYTES", SHARD * FEATURES)
    monkeypatch.setattr(stream, "BUFFER_BYTES", ROOM * FEATURES)


def expected(split, batch, epoch, seed, shuffle):
    """Returns the labels of an epoch, as docs/training.md describes their order."""
    order_of = functools.partial(data.epoch_order, seed=seed, epoch=epoch, shuffle=shuffle)
    size = max(1, ROOM // batch) * batch
    if not split.streamed or size >= NUM:
        return order_of(NUM)
    shards = np.split(np.arange(NUM), range(SHARD, NUM, SHARD))
    starts = range(0, NUM, size)
    rows = np.concatenate([shards[at] for at in order_of(len(shards), buffer=len(starts))])
    buffers = enumerate(np.split(rows, starts[1:]))
    return np.concatenate([own[order_of(len(own), buffer=number)] for number, own in buffers])


def labels_of(images, labels):
    """Returns the labels of a batch, which its images have too."""
    images, labels = np.ascontiguousarray(np.asarray(images)[:, :4]), np.asarray(labels)
    np.testing.assert_array_equal(images.view(np.uint32)[:, 0], labels)
    return labels


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("batch", "start", "shuffle"),
    [
        (10, 8, True),
        (10, 100, True),
        (10, 130, True),
        (64, 17, True),
        (500, 1, True),
        (NUM, 0, True),
        (10, 0, False),
    ],
)
def test_batches_have_each_epoch_in_its_order_from_any_step_the_last_smaller_one_too(
    split, streamed, batch, start, shuffle
):
    own = dataclasses.replace(split, streamed=streamed)
    epoch, step = divmod(start, -(-NUM // batch))
    orders = [expected(own, batch, number, 3, shuffle) for number in (0, 1)]
    left = np.concatenate(orders)[epoch * NUM + step * batch :]
    np.testing.assert_array_equal(np.sort(orders[0]), np.arange(NUM))

    config = flags.training_config(
        mode="graph",
        batch_size=batch,
        epochs=2,
        eval_first=0,
        eval_every=7,
        seed=3,
        shuffle=shuffle,
    )
    blocks, batches = [], []
    for block in data.blocks(own, config, start):
        batches += [labels_of(*each) for each in itertools.islice(block.data, block.steps)]
    for block in data.blocks(own, config.replace(mode="xla"), start):
        images, labels, order, first = map(np.asarray, block.data)
        rows = order[first:][: block.steps * block.batch_size]
        blocks.append(labels_of(images[rows], labels[rows]))
    np.testing.assert_array_equal(np.concatenate(blocks), left)
    np.testing.assert_array_equal(np.concatenate(batches), left)


def test_a_buffer_holds_while_the_next_is_read(split, monkeypatch):
    read = data.Split.read

    def spoiling(own, rows, buffer):
        buffer[:] = 255  # so that whoever still needs what was there sees it
        read(own, rows, buffer)

    monkeypatch.setattr(data.Split, "read", spoiling)
    order_of = functools.partial(data.epoch_order, seed=0)
    buffers = stream.read_ahead(stream.buffers(split, ROOM, order_of, epoch=0))
    for buffer in itertools.islice(buffers, 20):
        labels_of(buffer.images[buffer.order], buffer.labels[buffer.order])


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_a_streamed_run_takes_the_oracles_steps(split, mode):
    classes = [str(label) for label in range(NUM)]
    dataset = data.Dataset("made", split, split, split, classes, (FEATURES, 1, 1))
    ran = trained(dataset, mode=mode, batch_size=10, epochs=2, seed=3, lr=0.1)
    orders = [expected(split, 10, epoch, 3, True) for epoch in (0, 1)]
    W, b, _ = oracle.train(split.images, split.labels, orders, 10, 0.1)
    oracle.assert_weights(vars(ran.model), W, b)
    assert ran.examples == 2 * NUM


def test_an_evaluation_sees_every_example_once_in_order(split):
    found = [labels_of(*chunk) for chunk in split.chunks(100)]
    np.testing.assert_array_equal(np.concatenate(found), np.arange(NUM))
