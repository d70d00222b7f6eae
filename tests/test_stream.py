"""Streams: every example once an epoch, an order by the seed, any step of it, and two buffers."""

import dataclasses
import functools
import itertools
import os
import pathlib

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
PART = 80  # rows: the whole batches in room for 85
STEPS = 101  # of an epoch; the last one has 3 examples


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> data.Split:
    """1,003 examples on the disk; each image's first four bytes are its label."""
    images = np.zeros((NUM, FEATURES), np.uint8)
    images[:, :4] = np.arange(NUM, dtype=np.uint32)[:, None].view(np.uint8)
    return made.streamed(images, np.arange(NUM, dtype=np.int32), tmp_path_factory.mktemp("stream"))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SHARD_BYTES", SHARD * FEATURES)
    monkeypatch.setattr(stream, "BUFFER_BYTES", 85 * FEATURES)


def expected(seed: int, epoch: int, shuffle: bool = True) -> np.ndarray:
    """Returns the labels of an epoch, as docs/training.md describes their order."""
    shards = [list(range(NUM))[first : first + SHARD] for first in range(0, NUM, SHARD)]
    parts = -(-NUM // PART)
    order_of = functools.partial(data.epoch_order, seed=seed, epoch=epoch, shuffle=shuffle)
    rows = np.concatenate([shards[at] for at in order_of(len(shards), buffer=parts)])
    of_parts = [rows[first : first + PART] for first in range(0, NUM, PART)]
    return np.concatenate(
        [own[order_of(len(own), buffer=number)] for number, own in enumerate(of_parts)]
    )


def counted(images: np.ndarray) -> np.ndarray:
    """Returns the number in each image [n, features]."""
    return np.ascontiguousarray(images[:, :4]).view(np.uint32)[:, 0]


def of_blocks(split: data.Split, start: int = 0, eval_every: int = 33, **order: int) -> np.ndarray:
    """Returns the labels of two epochs of blocks from a step on, each of which its image has
    too."""
    config = flags.training_config(batch_size=BATCH, epochs=2, eval_first=0, eval_every=eval_every)
    spans = plan.spans(config, NUM, data.steps_per_buffer(split, BATCH), start)
    found = []
    for block in data.blocks(split, BATCH, spans=spans, **{"seed": 0, "shuffle": True} | order):
        rows = block.order.numpy()[block.first :][: block.steps * block.batch_size]
        assert len(rows) == block.steps * block.batch_size  # no batch straddles two parts
        found.append(block.labels.numpy()[rows])
        np.testing.assert_array_equal(counted(block.images.numpy()[rows]), found[-1])
    return np.concatenate(found)


def of_pipeline(split: data.Split, **order: int) -> np.ndarray:
    """Returns the labels of an epoch of batches."""
    batches = [tuple(map(np.asarray, pair)) for pair in data.pipeline(split, BATCH, **order)]
    assert [len(labels) for _, labels in batches] == [BATCH] * (STEPS - 1) + [NUM % BATCH]
    for images, labels in batches:
        np.testing.assert_array_equal(counted(images), labels)
    return np.concatenate([labels for _, labels in batches])


@pytest.mark.parametrize(("seed", "shuffle"), [(0, True), (3, True), (3, False)])
def test_an_epoch_is_shuffled_by_shards_and_in_its_parts(
    split: data.Split, seed: int, shuffle: bool
) -> None:
    epochs = [expected(seed, epoch, shuffle) for epoch in (0, 1)]
    for eval_every in (33, 7):
        found = of_blocks(split, eval_every=eval_every, seed=seed, shuffle=shuffle)
        np.testing.assert_array_equal(found, np.concatenate(epochs))
    for epoch in (0, 1):
        found = of_pipeline(split, seed=seed, epoch=epoch, shuffle=shuffle)
        np.testing.assert_array_equal(found, epochs[epoch])
        np.testing.assert_array_equal(np.sort(found), np.arange(NUM))
    assert shuffle == (epochs[0] != epochs[1]).any()


@pytest.mark.parametrize("start", [1, 7, 8, 50, 100, 101, 130])
def test_blocks_go_on_exactly_from_any_step(split: data.Split, start: int) -> None:
    consumed = start * BATCH if start < STEPS else NUM + (start - STEPS) * BATCH
    whole = np.concatenate([expected(0, 0), expected(0, 1)])
    np.testing.assert_array_equal(of_blocks(split, start), whole[consumed:])


@pytest.mark.parametrize(
    ("room", "rows"), [(1, BATCH), (25, 20), (512, 510), (1010, NUM), (10**6, NUM)]
)
def test_parts_have_whole_batches_and_one_that_fits_is_as_in_memory(
    split: data.Split, room: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BUFFER_BYTES", room * FEATURES)
    assert stream.rows_per_buffer(split, BATCH) == rows
    found = of_pipeline(split, seed=5, epoch=1)
    np.testing.assert_array_equal(np.sort(found), np.arange(NUM))
    in_memory = data.Split(np.array(split.images), split.labels)
    same = (found == of_pipeline(in_memory, seed=5, epoch=1)).all()
    assert same == (rows == NUM)


@pytest.mark.parametrize(("room", "reads"), [(85, 21), (NUM + 9, 1)])
def test_a_part_holds_while_the_next_is_read_and_one_part_is_read_once(
    split: data.Split, room: int, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BUFFER_BYTES", room * FEATURES)
    read, seen = data.Split.read, []

    def spoiling(own: data.Split, rows: np.ndarray, buffer: np.ndarray) -> None:
        buffer[:] = 255  # so that whoever still needs what was there sees it
        seen.append(len(rows))
        read(own, rows, buffer)

    monkeypatch.setattr(data.Split, "read", spoiling)
    parts = stream.buffers(split, BATCH, functools.partial(data.epoch_order, seed=0), epoch=0)
    for part in itertools.islice(parts, 20):
        np.testing.assert_array_equal(counted(part.images[part.order]), part.labels[part.order])
    del parts, part  # waits for what is being read
    assert len(seen) == reads


@pytest.mark.parametrize("mode", [pytest.param("eager", marks=pytest.mark.slow), "graph", "xla"])
def test_a_streamed_run_takes_the_oracles_steps(
    tiny_dataset: data.Dataset, tmp_path: pathlib.Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SHARD_BYTES", 30 * 784)
    monkeypatch.setattr(stream, "BUFFER_BYTES", 200 * 784)
    images, labels = tiny_dataset.train.images, tiny_dataset.train.labels
    train = made.streamed(images, labels, tmp_path)
    numbered = data.Split(train.images, np.arange(660, dtype=np.int32), streamed=True)
    orders = [
        np.concatenate([labels for _, labels in data.pipeline(numbered, 64, seed=3, epoch=epoch)])
        for epoch in (0, 1)
    ]
    assert (orders[0] != data.epoch_order(660, 3, 0)).mean() > 0.9
    streamed = dataclasses.replace(tiny_dataset, train=train)
    ran = trained(streamed, mode=mode, batch_size=64, epochs=2, seed=3)
    W, b, _ = oracle.train(images, labels, orders, 64, 0.01)
    np.testing.assert_allclose(ran.model.W, W, atol=1e-5)
    np.testing.assert_allclose(ran.model.b, b, atol=1e-5)
    assert (ran.examples, ran.order) == (1320, "buffers")


@pytest.mark.parametrize("rows", [100, 5_000])
def test_an_evaluation_sees_every_example_once_in_order(split: data.Split, rows: int) -> None:
    for _ in range(2):
        images, labels = map(np.concatenate, zip(*split.chunks(rows), strict=True))
        np.testing.assert_array_equal(labels, np.arange(NUM))
        np.testing.assert_array_equal(images, split.images)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: os.truncate(path, 150), "it ends too soon"),
        (os.unlink, "No such file or directory"),
    ],
)
def test_a_file_that_is_cut_or_gone_is_one_line(tmp_path: pathlib.Path, damage, why: str) -> None:
    torn = made.streamed(np.zeros((20, 3), np.uint8), np.zeros(20, np.int32), tmp_path)
    damage(tmp_path / "images.npy")
    with pytest.raises(RunError, match=rf"images\.npy: cannot be read any more: {why}"):
        list(torn.chunks())
