"""Streaming: every example once an epoch, an order by seed, any place in it, and a bounded reader."""

import dataclasses
import functools
import itertools
import pathlib
import threading
from collections.abc import Iterable

import numpy as np
import pytest

import data
import flags
from common.errors import RunError
from runtime import plan
from storage import decoded, stream
from tests import oracle
from tests.conftest import trained

NUM, FEATURES, BATCH = 1003, 7, 10
SHARD_ROWS, PART_ROWS = 16, 85  # so that a part has 80, whole batches
STEPS = 101  # of an epoch; the last one, of 3 examples, is a span of its own


def on_disk(images: np.ndarray, folder: pathlib.Path) -> decoded.OnDisk:
    np.save(folder / "images.npy", images)
    offset = np.load(folder / "images.npy", mmap_mode="r").offset
    return decoded.OnDisk(folder / "images.npy", offset, images.shape, images.dtype)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> data.Split:
    """1003 examples on the disk; each image's first four bytes count them."""
    images = np.zeros((NUM, FEATURES), np.uint8)
    images[:, :4] = np.arange(NUM, dtype=np.uint32)[:, None].view(np.uint8)
    return data.Split(
        on_disk(images, tmp_path_factory.mktemp("stream")), np.arange(NUM, dtype=np.int32)
    )


@pytest.fixture
def several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SHARD_BYTES", SHARD_ROWS * FEATURES)
    monkeypatch.setattr(stream, "PART_BYTES", PART_ROWS * FEATURES)
    read = decoded.OnDisk.read

    def spoiling(
        array: decoded.OnDisk, runs: list[range], buffer: np.ndarray | None = None
    ) -> np.ndarray:
        if buffer is not None:
            buffer[:] = 255  # so that whoever still needs what was there sees it
        return read(array, runs, buffer)

    monkeypatch.setattr(decoded.OnDisk, "read", spoiling)


def spans(split: data.Split, epochs: int, start: int = 0, eval_every: int = 33) -> list[plan.Span]:
    config = flags.training_config(
        batch_size=BATCH, epochs=epochs, eval_first=0, eval_every=eval_every
    )
    return list(plan.spans(config, NUM, data.steps_of_part(split, BATCH), start))


def labels_of(
    split: data.Split, spans: Iterable[plan.Span], seed: int = 0, shuffle: bool = True
) -> np.ndarray:
    """Returns the labels of blocks; asserts that all are of one shape, and each image goes with its label."""
    found, shapes = [], set()
    for block in data.blocks(split, BATCH, seed, shuffle, spans):
        rows = block.order.numpy()[block.first :][: block.steps * block.batch_size]
        assert len(rows) == block.steps * block.batch_size  # so that no batch straddles two parts
        labels = block.labels.numpy()[rows]
        counts = block.images.numpy()[rows][:, :4].copy().view(np.uint32)[:, 0]
        np.testing.assert_array_equal(counts, labels)
        shapes.add((*block.images.shape, *block.labels.shape, *block.order.shape))
        found.append(labels)
    assert len(shapes) == 1
    return np.concatenate(found)


def epoch(split: data.Split, number: int, **options: object) -> np.ndarray:
    """Returns the labels of an epoch of the pipeline; asserts that its batches are whole but for the last."""
    batches = list(data.pipeline(split, BATCH, epoch=number, **options))
    assert [images.shape for images, _ in batches] == [(BATCH, FEATURES)] * (STEPS - 1) + [
        (NUM % BATCH, FEATURES)
    ]
    for images, labels in batches:
        np.testing.assert_array_equal(images.numpy()[:, :4].copy().view(np.uint32)[:, 0], labels)
    return np.concatenate([labels for _, labels in batches])


@pytest.mark.usefixtures("several_parts")
def test_every_epoch_has_every_example_once_in_another_order(split: data.Split) -> None:
    labels = labels_of(split, spans(split, epochs=2))
    first, second = labels[:NUM], labels[NUM:]
    np.testing.assert_array_equal(np.sort(first), np.arange(NUM))
    np.testing.assert_array_equal(np.sort(second), np.arange(NUM))
    assert (first != second).mean() > 0.9


@pytest.mark.usefixtures("several_parts")
def test_the_order_is_shuffled_over_shards_and_within_a_part(split: data.Split) -> None:
    part = labels_of(split, spans(split, epochs=1))[:80]
    shards = set(part // SHARD_ROWS)
    assert len(shards) in (5, 6)  # one more if the last, shorter shard is among them
    assert max(shards) - min(shards) > 5  # shards from all over the split
    assert len(set(part[:SHARD_ROWS] // SHARD_ROWS)) > 2  # mixed


@pytest.mark.usefixtures("several_parts")
def test_the_seed_and_nothing_else_says_the_order(split: data.Split) -> None:
    same = labels_of(split, spans(split, epochs=1), seed=3)
    np.testing.assert_array_equal(
        same, labels_of(split, spans(split, epochs=1, eval_every=7), seed=3)
    )
    assert (same != labels_of(split, spans(split, epochs=1), seed=4)).mean() > 0.9
    in_order = labels_of(split, spans(split, epochs=2), shuffle=False)
    np.testing.assert_array_equal(in_order, np.tile(np.arange(NUM), 2))


@pytest.mark.usefixtures("several_parts")
@pytest.mark.parametrize("start", [1, 7, 8, 50, 100, 101, 130])
def test_blocks_go_on_exactly_from_any_step(split: data.Split, start: int) -> None:
    whole = labels_of(split, spans(split, epochs=2))
    consumed = start * BATCH if start <= 100 else NUM + (start - STEPS) * BATCH
    np.testing.assert_array_equal(
        labels_of(split, spans(split, epochs=2, start=start)), whole[consumed:]
    )


@pytest.mark.parametrize("shuffle", [True, False])
def test_what_fits_into_a_part_comes_in_the_order_of_memory(
    split: data.Split, shuffle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SHARD_BYTES", SHARD_ROWS * FEATURES)
    expected = [data.epoch_order(NUM, 5, number, shuffle) for number in range(2)]
    in_memory = data.Split(np.asarray(split.images), split.labels)
    for each in (split, in_memory):
        found = labels_of(each, spans(each, epochs=2), seed=5, shuffle=shuffle)
        np.testing.assert_array_equal(found, np.concatenate(expected))
        for number in range(2):
            np.testing.assert_array_equal(
                epoch(each, number, seed=5, shuffle=shuffle), expected[number]
            )


@pytest.mark.parametrize("part_rows", [1, 10, 25, 512, 1010])
def test_parts_are_whole_batches_but_for_the_last(
    split: data.Split, part_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SHARD_BYTES", 1)  # a row is the least
    monkeypatch.setattr(stream, "PART_BYTES", part_rows * FEATURES)
    rows = stream.rows_of_part(split.images, BATCH)
    assert rows == (NUM if part_rows > NUM else max(BATCH, part_rows // BATCH * BATCH))
    np.testing.assert_array_equal(np.sort(epoch(split, 1)), np.arange(NUM))
    np.testing.assert_array_equal(labels_of(split, spans(split, epochs=1)), epoch(split, 0))


def reads(monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], threading.Semaphore]:
    """Returns a list that grows with the rows of each part that is read, and what is released when it has been."""
    seen, read, done = [], decoded.OnDisk.read, threading.Semaphore(0)

    def counting(array: decoded.OnDisk, runs: list[range], buffer: np.ndarray) -> np.ndarray:
        seen.append(sum(map(len, runs)))
        found = read(array, runs, buffer)
        done.release()
        return found

    monkeypatch.setattr(decoded.OnDisk, "read", counting)
    return seen, done


@pytest.mark.usefixtures("several_parts")
def test_a_part_holds_while_the_next_one_and_no_more_is_read(
    split: data.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, done = reads(monkeypatch)
    order_of = functools.partial(data.epoch_order, seed=0)
    parts = stream.parts(split.images, split.labels, order_of, BATCH, epoch=0)
    for taken, (images, labels, order) in enumerate(itertools.islice(parts, 20), 1):
        for _ in range(2 if taken == 1 else 1):
            assert done.acquire(timeout=60)
        assert len(seen) == taken + 1
        assert (len(images), len(labels)) == (80, 80)
        np.testing.assert_array_equal(
            images[order][:, :4].copy().view(np.uint32)[:, 0], labels[order]
        )
    of_epoch = [80] * 12 + [43]
    assert seen == [*of_epoch, *of_epoch[:8]]


def test_one_part_is_read_once_for_all_epochs(
    split: data.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, _ = reads(monkeypatch)
    labels_of(split, spans(split, epochs=3))
    assert seen == [NUM]


@pytest.mark.parametrize("mode", [pytest.param("eager", marks=pytest.mark.slow), "graph", "xla"])
def test_a_streamed_run_takes_the_oracles_steps(
    tiny_dataset: data.Dataset, tmp_path: pathlib.Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SHARD_BYTES", 30 * 784)
    monkeypatch.setattr(stream, "PART_BYTES", 200 * 784)
    images = on_disk(tiny_dataset.train.images, tmp_path)
    streamed = dataclasses.replace(
        tiny_dataset, train=data.Split(images, tiny_dataset.train.labels)
    )
    numbered = data.Split(images, np.arange(660, dtype=np.int32))
    orders = [
        np.concatenate([labels for _, labels in data.pipeline(numbered, 64, seed=3, epoch=number)])
        for number in (0, 1)
    ]
    assert (orders[0] != data.epoch_order(660, 3, 0)).mean() > 0.9
    ran = trained(streamed, mode=mode, batch_size=64, epochs=2, seed=3)
    W, b, _ = oracle.train(tiny_dataset.train.images, tiny_dataset.train.labels, orders, 64, 0.01)
    np.testing.assert_allclose(ran.model.W, W, atol=1e-5)
    np.testing.assert_allclose(ran.model.b, b, atol=1e-5)
    assert (ran.examples, ran.order) == (1320, "buffers")


@pytest.mark.parametrize("rows", [100, 5_000])
def test_an_evaluation_sees_every_example_once_in_order(split: data.Split, rows: int) -> None:
    for _ in range(2):
        chunks = list(split.chunks(rows))
        assert len(chunks) == -(-NUM // rows)
        np.testing.assert_array_equal(
            np.concatenate([labels for _, labels in chunks]), np.arange(NUM)
        )
        np.testing.assert_array_equal(
            np.concatenate([images for images, _ in chunks]), np.asarray(split.images)
        )


def test_an_array_on_disk_reads_like_its_slice_and_notices_a_torn_file(
    tmp_path: pathlib.Path,
) -> None:
    array = np.arange(60, dtype=np.uint8).reshape(20, 3)
    images = on_disk(array, tmp_path)
    np.testing.assert_array_equal(images[5:12], array[5:12])
    np.testing.assert_array_equal(images[15:1000], array[15:])
    np.testing.assert_array_equal(images, array)
    np.testing.assert_array_equal(
        images.read([range(15, 20), range(2)]), np.concatenate([array[15:], array[:2]])
    )
    images.path.write_bytes(images.path.read_bytes()[:150])
    with pytest.raises(RunError, match=r"images\.npy: cannot be read any more: it ends too soon"):
        images[5:12]
