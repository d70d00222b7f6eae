"""Streaming: every example once an epoch, an order by seed, any place in it, and a wholly bounded reader."""

import itertools
import pathlib

import numpy as np
import pytest

import data
from runtime.plan import Block
from storage import ondisk, stream

NUM, FEATURES, BATCH = 1003, 7, 10
SHARD_ROWS, BUFFER_SHARDS = 16, 5


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> data.Split:
    """1003 examples on the disk; each image's first four bytes count them."""
    images = np.zeros((NUM, FEATURES), np.uint8)
    images[:, :4] = np.arange(NUM, dtype=np.uint32)[:, None].view(np.uint8)
    path = tmp_path_factory.mktemp("stream") / "decoded.npz"
    np.savez(path, train_images=images, train_labels=np.arange(NUM, dtype=np.int32))
    arrays = ondisk.load(path, most_bytes=0)
    return data.Split(arrays["train_images"], arrays["train_labels"])


def streamed(
    split: data.Split, seed: int = 0, shuffle: bool = True, buffer_shards: int = BUFFER_SHARDS
) -> stream.Streamed:
    shard = SHARD_ROWS * FEATURES
    return stream.Streamed(split, BATCH, seed, shuffle, shard_bytes=shard, buffer_bytes=buffer_shards * shard)


def labels_of(source: data.Source, blocks: list[Block]) -> np.ndarray:
    """Returns the labels of `blocks`, and asserts shapes and that each image goes with its label."""
    found = []
    for block, inputs in zip(blocks, source.deliver(blocks), strict=True):
        steps, batch = source.shape(block.start, block.stop)
        assert isinstance(source, data.InMemory) or source.at_once(steps) == steps
        images, labels = source.batches(*inputs, batch, 0, steps)
        assert images.shape == (steps, batch, FEATURES)
        counts = images.numpy()[..., :4].copy().view(np.uint32)[..., 0]
        np.testing.assert_array_equal(counts, labels)
        found.append(labels.numpy().ravel())
    return np.concatenate(found)


def epoch_blocks(epoch: int, size: int = 33) -> list[Block]:
    """Returns the blocks of one epoch of 101 steps; the last step, of 3 examples, is a block of its own."""
    cuts = [*range(0, 100, size), 100, 101]
    return [Block(epoch * 101 + a, epoch * 101 + b, False) for a, b in itertools.pairwise(cuts)]


def test_every_epoch_has_every_example_once_in_another_order(split: data.Split) -> None:
    labels = labels_of(streamed(split), epoch_blocks(0) + epoch_blocks(1))
    first, second = labels[:NUM], labels[NUM:]
    np.testing.assert_array_equal(np.sort(first), np.arange(NUM))
    np.testing.assert_array_equal(np.sort(second), np.arange(NUM))
    assert (first != second).mean() > 0.9


def test_the_order_is_shuffled_over_shards_and_within_the_buffer(split: data.Split) -> None:
    order = labels_of(streamed(split), epoch_blocks(0))
    buffer = order[: BUFFER_SHARDS * SHARD_ROWS]
    shards = set(buffer // SHARD_ROWS)
    assert len(shards) in (BUFFER_SHARDS, BUFFER_SHARDS + 1)  # one more if the last, shorter shard is among them
    assert max(shards) - min(shards) > BUFFER_SHARDS  # shards from all over the split
    assert len(set(buffer[:SHARD_ROWS] // SHARD_ROWS)) > 2  # mixed


def test_the_seed_and_nothing_else_says_the_order(split: data.Split) -> None:
    same = labels_of(streamed(split, seed=3), epoch_blocks(2))
    np.testing.assert_array_equal(same, labels_of(streamed(split, seed=3), epoch_blocks(2, size=7)))
    assert (same != labels_of(streamed(split, seed=4), epoch_blocks(2))).mean() > 0.9
    np.testing.assert_array_equal(labels_of(streamed(split, shuffle=False), epoch_blocks(0)), np.arange(NUM))


@pytest.mark.parametrize("start", [1, 8, 50, 100, 101, 130])
def test_a_stream_goes_on_exactly_from_any_step(split: data.Split, start: int) -> None:
    whole = labels_of(streamed(split), epoch_blocks(0) + epoch_blocks(1))
    cuts = sorted({start, 100, 101, 201, 202} - set(range(start)))
    blocks = [Block(a, b, False) for a, b in itertools.pairwise(cuts)]
    consumed = start * BATCH if start <= 100 else NUM + (start - 101) * BATCH
    np.testing.assert_array_equal(labels_of(streamed(split), blocks), whole[consumed:])


def test_what_fits_into_the_buffer_comes_in_the_order_of_memory(split: data.Split) -> None:
    in_memory = data.InMemory(data.Split(np.asarray(split.images), np.asarray(split.labels)), BATCH, seed=5)
    blocks = epoch_blocks(0) + epoch_blocks(1)
    one_buffer = streamed(split, seed=5, buffer_shards=1000)
    np.testing.assert_array_equal(labels_of(one_buffer, blocks), labels_of(in_memory, blocks))


def test_compiling_does_not_move_the_stream(split: data.Split) -> None:
    source, blocks = streamed(split), epoch_blocks(0)
    delivery = source.deliver(blocks)
    examples = [source.example(block) for block in blocks]
    delivered = list(delivery)
    assert [tuple(x.shape for x in each) for each in examples] == [tuple(x.shape for x in each) for each in delivered]
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in delivered]), labels_of(source, blocks))


@pytest.mark.parametrize("buffer_bytes", [0, 2**20])
def test_an_evaluation_sees_every_example_once_in_order(
    split: data.Split, monkeypatch: pytest.MonkeyPatch, buffer_bytes: int
) -> None:
    monkeypatch.setattr(stream, "BUFFER_BYTES", buffer_bytes)
    monkeypatch.setattr(stream, "PIECE_BYTES", 100 * FEATURES)
    for _ in range(2):
        chunks = list(stream.chunks(split))
        assert len(chunks) == (1 if buffer_bytes else 11)
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in chunks]), np.arange(NUM))
        np.testing.assert_array_equal(np.concatenate([images for images, _ in chunks]), np.asarray(split.images))


def test_an_array_on_disk_reads_like_its_slice_and_notices_a_torn_file(tmp_path: pathlib.Path) -> None:
    array = np.arange(60, dtype=np.int32).reshape(20, 3)
    path = tmp_path / "arrays.npz"
    np.savez(path, train_images=array)
    on_disk = ondisk.OnDisk(path)["train_images"]
    np.testing.assert_array_equal(np.asarray(on_disk[3:][2:9]), array[3:][2:9])
    np.testing.assert_array_equal(ondisk.read([on_disk[15:], on_disk[:2]]), np.concatenate([array[15:], array[:2]]))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="ends too soon"):
        np.asarray(on_disk)
    with pytest.raises(ValueError, match=r"decoded|arrays"):
        data.read_decoded("made", path, most_bytes=0)
