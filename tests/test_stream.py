"""Streams: every example once an epoch, an order by the seed, any step of it, and two buffers."""

import dataclasses
import functools
import itertools
import os

import numpy as np
import pytest

import data
import flags
from common.errors import RunError
from runtime import plan
from storage import stream
from tests import made, oracle
from tests.conftest import trained

NUM, FEATURES, BATCH, SHARD = 1003, 7, 10, 16
BUFFER = 80  # rows: the whole batches in room for 85
STEPS = 101  # of an epoch; the last one has 3 examples


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """1,003 examples on the disk; each image's first four bytes are its label."""
    images = np.zeros((NUM, FEATURES), np.uint8)
    images[:, :4] = np.arange(NUM, dtype=np.uint32)[:, None].view(np.uint8)
    return made.streamed(images, np.arange(NUM, dtype=np.int32), tmp_path_factory.mktemp("stream"))


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch):
    monkeypatch.setattr(stream, "SHARD_BYTES", SHARD * FEATURES)
    monkeypatch.setattr(stream, "BUFFER_BYTES", 85 * FEATURES)


def expected(seed, epoch, shuffle=True):
    """Returns the labels of an epoch, as docs/training.md describes their order."""
    order_of = functools.partial(data.epoch_order, seed=seed, epoch=epoch, shuffle=shuffle)
    shards = np.split(np.arange(NUM), range(SHARD, NUM, SHARD))
    buffers = range(0, NUM, BUFFER)
    rows = np.concatenate([shards[at] for at in order_of(len(shards), buffer=len(buffers))])
    return np.concatenate(
        [
            rows[first : first + BUFFER][order_of(min(BUFFER, NUM - first), buffer=number)]
            for number, first in enumerate(buffers)
        ]
    )


def labels_of(images, labels):
    """Returns the labels of a batch, which its images have too."""
    images, labels = np.ascontiguousarray(np.asarray(images)[:, :4]), np.asarray(labels)
    np.testing.assert_array_equal(images.view(np.uint32)[:, 0], labels)
    return labels


def of_blocks(split, start=0, eval_every=33, seed=0, shuffle=True):
    """Returns the labels of two epochs of blocks from a step on."""
    config = flags.training_config(batch_size=BATCH, epochs=2, eval_first=0, eval_every=eval_every)
    spans = plan.spans(config, NUM, data.steps_per_buffer(split, BATCH), start)
    found = []
    for block in data.blocks(split, BATCH, seed, shuffle, spans):
        rows = block.order.numpy()[block.first :][: block.steps * block.batch_size]
        assert len(rows) == block.steps * block.batch_size  # no batch straddles two buffers
        found.append(labels_of(block.images.numpy()[rows], block.labels.numpy()[rows]))
    return np.concatenate(found)


def of_pipeline(split, **order):
    """Returns the labels of an epoch of batches."""
    batches = [labels_of(*batch) for batch in data.pipeline(split, BATCH, **order)]
    assert [*map(len, batches)] == [BATCH] * (STEPS - 1) + [NUM % BATCH]
    return np.concatenate(batches)


@pytest.mark.parametrize(("seed", "shuffle"), [(0, True), (3, True), (3, False)])
def test_an_epoch_is_shuffled_by_shards_and_in_its_buffers(split, seed, shuffle):
    epochs = [expected(seed, epoch, shuffle) for epoch in (0, 1)]
    for eval_every in (33, 7):
        found = of_blocks(split, 0, eval_every, seed, shuffle)
        np.testing.assert_array_equal(found, np.concatenate(epochs))
    for epoch, rows in enumerate(epochs):
        found = of_pipeline(split, seed=seed, epoch=epoch, shuffle=shuffle)
        np.testing.assert_array_equal(found, rows)
        np.testing.assert_array_equal(np.sort(found), np.arange(NUM))
    assert shuffle == (epochs[0] != epochs[1]).any()


@pytest.mark.parametrize("start", [1, 7, 8, 50, 100, 101, 130])
def test_a_stream_goes_on_exactly_from_any_step(split, start):
    epochs = np.concatenate([expected(0, 0), expected(0, 1)])
    epoch, step = divmod(start, STEPS)
    left = epochs[epoch * NUM + step * BATCH :]
    np.testing.assert_array_equal(of_blocks(split, start), left)
    found = [labels_of(*batch) for batch in data.pipeline(split, BATCH, epoch=epoch, step=step)]
    np.testing.assert_array_equal(np.concatenate(found), left[: NUM - step * BATCH])


@pytest.mark.parametrize(
    ("room", "rows"), [(1, BATCH), (25, 20), (512, 510), (1010, NUM), (10**6, NUM)]
)
def test_buffers_have_whole_batches_and_one_that_fits_is_as_in_memory(
    split, room, rows, monkeypatch
):
    monkeypatch.setattr(stream, "BUFFER_BYTES", room * FEATURES)
    assert stream.rows_per_buffer(split, BATCH) == rows
    in_memory = data.Split(np.array(split.images), split.labels)
    found, other = (of_pipeline(each, seed=5, epoch=1) for each in (split, in_memory))
    np.testing.assert_array_equal(np.sort(found), np.arange(NUM))
    assert (found == other).all() == (rows == NUM)


@pytest.mark.parametrize("room", [85, NUM + 9])
def test_a_buffer_holds_while_the_next_is_read(split, room, monkeypatch):
    monkeypatch.setattr(stream, "BUFFER_BYTES", room * FEATURES)
    read, seen = data.Split.read, []

    def spoiling(own, rows, buffer):
        buffer[:] = 255  # so that whoever still needs what was there sees it
        seen.append(len(rows))
        read(own, rows, buffer)

    monkeypatch.setattr(data.Split, "read", spoiling)
    order_of = functools.partial(data.epoch_order, seed=0)
    buffers = stream.buffers(split, BATCH, order_of, epoch=0)
    for buffer in itertools.islice(buffers, 20):
        labels_of(buffer.images[buffer.order], buffer.labels[buffer.order])
    del buffers, buffer  # waits for what is being read
    assert len(seen) == 21


@pytest.mark.parametrize("mode", [pytest.param("eager", marks=pytest.mark.slow), "graph", "xla"])
def test_a_streamed_run_takes_the_oracles_steps(tiny_dataset, tmp_path, mode, monkeypatch):
    monkeypatch.setattr(stream, "SHARD_BYTES", 30 * 784)
    monkeypatch.setattr(stream, "BUFFER_BYTES", 200 * 784)
    images, labels = tiny_dataset.train.images, tiny_dataset.train.labels
    train = made.streamed(images, labels, tmp_path)
    numbered = dataclasses.replace(train, labels=np.arange(660, dtype=np.int32))
    orders = [
        np.concatenate([labels for _, labels in data.pipeline(numbered, 64, seed=3, epoch=epoch)])
        for epoch in (0, 1)
    ]
    streamed = dataclasses.replace(tiny_dataset, train=train)
    ran = trained(streamed, mode=mode, batch_size=64, epochs=2, seed=3)
    W, b, _ = oracle.train(images, labels, orders, 64, 0.01)
    np.testing.assert_allclose(ran.model.W, W, atol=1e-5)
    np.testing.assert_allclose(ran.model.b, b, atol=1e-5)
    assert (ran.examples, ran.order) == (1320, "buffers")


@pytest.mark.parametrize("rows", [100, 5_000])
@pytest.mark.parametrize("streamed", [True, False])
def test_an_evaluation_sees_every_example_once_in_order(split, rows, streamed):
    own = dataclasses.replace(split, streamed=streamed)
    found = [labels_of(*chunk) for chunk in own.chunks(rows)]
    np.testing.assert_array_equal(np.concatenate(found), np.arange(NUM))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: os.truncate(path, 150), "it ends too soon"),
        (os.unlink, "No such file or directory"),
    ],
)
def test_a_file_that_is_cut_or_gone_is_one_line(tmp_path, damage, why):
    torn = made.streamed(np.zeros((20, 3), np.uint8), np.zeros(20, np.int32), tmp_path)
    damage(tmp_path / "images.npy")
    with pytest.raises(RunError, match=rf"images\.npy: cannot be read any more: {why}"):
        list(torn.chunks())
