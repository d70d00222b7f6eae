"""The data: what is in the splits, the order of an epoch, the decoded file."""

import numpy as np
import pytest
import tensorflow as tf

import data
from common.errors import InputError
from runtime import plan


def steps_of(source: data.Source, start: int, stop: int) -> tuple[tf.Tensor, tf.Tensor]:
    block = plan.Block(start, stop, evaluate=False)
    steps, batch = source.shape(start, stop)
    return source.batches(*source.example(block), batch, 0, steps)


def test_order_is_a_full_permutation_that_seed_and_epoch_decide():
    order = data.epoch_order(1000, seed=5, epoch=2)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    np.testing.assert_array_equal(order, data.epoch_order(1000, seed=5, epoch=2))
    for seed, epoch in ((5, 3), (6, 2)):
        assert (order != data.epoch_order(1000, seed, epoch)).mean() > 0.9
    np.testing.assert_array_equal(data.epoch_order(9, 5, 2, shuffle=False), np.arange(9))


@pytest.mark.parametrize("batch_size", [1, 10, 64, 660])
def test_an_epoch_has_each_example_once_the_last_smaller_batch_too(tiny_dataset, batch_size):
    numbered = data.Split(tiny_dataset.train.images, np.arange(660, dtype=np.int32))
    source = data.InMemory(numbered, batch_size, seed=1)
    seen: list[int] = []
    for epoch in range(2):
        for step in range(epoch * source.steps_per_epoch, (epoch + 1) * source.steps_per_epoch):
            images, labels = steps_of(source, step, step + 1)
            np.testing.assert_array_equal(images[0], tiny_dataset.train.images[labels[0]])
            seen += labels.numpy().ravel().tolist()
    assert source.steps_per_epoch == -(-660 // batch_size)
    assert sorted(seen[:660]) == sorted(seen[660:]) == list(range(660))
    assert seen[:660] != seen[660:]


def test_a_block_is_its_steps_stacked(tiny_dataset):
    source = data.InMemory(tiny_dataset.train, 10, seed=1)
    images, labels = steps_of(source, 3, 7)
    assert images.shape == (4, 10, 784) and images.dtype == tf.uint8 and labels.dtype == tf.int32
    for i, step in enumerate(range(3, 7)):
        one_image, one_label = steps_of(source, step, step + 1)
        np.testing.assert_array_equal(images[i], one_image[0])
        np.testing.assert_array_equal(labels[i], one_label[0])


def test_the_batches_of_a_block_can_be_asked_for_some_at_a_time(tiny_dataset):
    source = data.InMemory(tiny_dataset.train, 10, seed=1)
    some = source.at_once(60)
    assert 60 % some == 0 and some > 1
    delivered = source.example(plan.Block(3, 63, evaluate=False))
    images, labels = zip(*(source.batches(*delivered, 10, first, some) for first in range(0, 60, some)), strict=True)
    whole_images, whole_labels = steps_of(source, 3, 63)
    np.testing.assert_array_equal(np.concatenate(images), whole_images)
    np.testing.assert_array_equal(np.concatenate(labels), whole_labels)


@pytest.mark.parametrize("batch_size", [1, 7, 10, 16, 64, 128, 600])
def test_as_many_batches_are_gathered_at_once_as_divide_the_block(tiny_dataset, batch_size):
    source = data.InMemory(tiny_dataset.train, batch_size)
    for steps in (2000, 500, 200, 50, 10, 1):
        some = source.at_once(steps)
        larger = [n for n in range(some + 1, steps + 1) if steps % n == 0]
        assert steps % some == 0 and (some == 1 or some * batch_size <= data.GATHERED)
        assert not larger or larger[0] * batch_size > data.GATHERED


def test_chunks_are_the_split_in_order_as_often_as_asked(tiny_dataset):
    chunks = data.Chunks(tiny_dataset.test, rows=7)
    for _ in range(2):
        images, labels = zip(*chunks, strict=True)
        assert len(images) > 1
        np.testing.assert_array_equal(np.concatenate(images), tiny_dataset.test.images)
        np.testing.assert_array_equal(np.concatenate(labels), tiny_dataset.test.labels)


def test_noshuffle_keeps_the_order_of_the_dataset(tiny_dataset):
    source = data.InMemory(tiny_dataset.train, 10, seed=1, shuffle=False)
    images, _ = steps_of(source, 66, 70)
    np.testing.assert_array_equal(images.numpy().reshape(40, 784), tiny_dataset.train.images[:40])


def test_the_decoded_file_gives_the_splits_back(tiny_dataset, tiny_data_dir):
    loaded = data.load("mnist", str(tiny_data_dir))
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(loaded, split).images, getattr(tiny_dataset, split).images)
        np.testing.assert_array_equal(getattr(loaded, split).labels, getattr(tiny_dataset, split).labels)
    assert loaded.class_names == tiny_dataset.class_names and loaded.image_shape == (28, 28, 1)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_decoded_file_is_refused(tiny_data_dir, damage):
    decoded = tiny_data_dir / "mnist" / "3.0.1" / data.DECODED
    raw = bytearray(decoded.read_bytes())
    if damage == "flipped":
        raw[len(raw) // 2] ^= 1
    decoded.write_bytes({"truncated": raw[: len(raw) // 2], "flipped": raw, "empty": b""}[damage])
    with pytest.raises(ValueError):
        data.read_decoded("mnist", decoded)


def test_a_data_dir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match=r"--data_dir.*file/below/mnist.* must be a folder that can be written"):
        data.load("mnist", str(tmp_path / "file" / "below"))
