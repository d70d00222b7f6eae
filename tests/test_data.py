"""The data: what is in the splits, the order of an epoch, its batches, the decoded folder."""

import os
import pathlib
import pwd
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

import data
import flags
import model
from common.errors import InputError
from runtime import plan
from storage import cache
from tests import oracle
from tests.conftest import trained


def numbered(split: data.Split) -> data.Split:
    """Returns the split with the number of each example as its label."""
    return data.Split(split.images, np.arange(len(split), dtype=np.int32))


def test_order_is_a_full_permutation_that_seed_epoch_and_part_decide() -> None:
    order = data.epoch_order(1000, seed=5, epoch=2)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    np.testing.assert_array_equal(order, data.epoch_order(1000, seed=5, epoch=2))
    for seed, epoch, part in ((5, 3, 0), (6, 2, 0), (5, 2, 1)):
        assert (order != data.epoch_order(1000, seed, epoch, buffer=part)).mean() > 0.9
    np.testing.assert_array_equal(data.epoch_order(9, 5, 2, shuffle=False), np.arange(9))


@pytest.mark.parametrize("batch_size", [1, 10, 64, 500, 660])
@pytest.mark.parametrize("shuffle", [True, False])
def test_the_pipeline_has_an_epoch_in_its_order_the_last_smaller_batch_too(
    tiny_dataset: data.Dataset, batch_size: int, shuffle: bool
) -> None:
    split = numbered(tiny_dataset.train)
    for epoch in (0, 3):
        batches = list(data.pipeline(split, batch_size, seed=1, epoch=epoch, shuffle=shuffle))
        sizes = [batch_size] * (660 // batch_size) + [660 % batch_size] * (660 % batch_size > 0)
        assert [images.shape for images, _ in batches] == [(size, 784) for size in sizes]
        assert [labels.shape for _, labels in batches] == [(size,) for size in sizes]
        assert {images.dtype for images, _ in batches} == {tf.uint8}
        assert {labels.dtype for _, labels in batches} == {tf.int32}
        images, labels = (np.concatenate(each) for each in zip(*batches, strict=True))
        np.testing.assert_array_equal(labels, data.epoch_order(660, 1, epoch, shuffle))
        np.testing.assert_array_equal(images, split.images[labels])


def test_the_pipeline_starts_with_seed_0_and_epoch_0_and_shuffles(
    tiny_dataset: data.Dataset,
) -> None:
    _, labels = next(iter(data.pipeline(numbered(tiny_dataset.train), 660)))
    np.testing.assert_array_equal(labels, data.epoch_order(660, 0, 0))


def rows_of(block: data.Block) -> np.ndarray:
    return block.order.numpy()[block.first :][: block.steps * block.batch_size]


@pytest.mark.parametrize("batch_size", [1, 10, 64, 660])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("start", [0, 1])
def test_blocks_have_each_epoch_in_its_order(
    tiny_dataset: data.Dataset, batch_size: int, shuffle: bool, start: int
) -> None:
    split = tiny_dataset.train
    config = flags.training_config(batch_size=batch_size, epochs=3, eval_every=7)
    spans = list(plan.spans(config, 660, data.steps_per_buffer(split, batch_size), start))
    blocks = list(data.blocks(split, batch_size, 2, shuffle, spans))
    expected = np.concatenate([data.epoch_order(660, 2, epoch, shuffle) for epoch in range(3)])
    np.testing.assert_array_equal(
        np.concatenate([rows_of(each) for each in blocks]), expected[start * batch_size :]
    )
    for block, span in zip(blocks, spans, strict=True):
        assert (block.steps, block.evaluate) == (span.stop - span.start, span.evaluate)
        assert (
            block.images.dtype == tf.uint8 and block.labels.dtype == block.order.dtype == tf.int32
        )
        assert block.images is blocks[0].images and block.order.shape == blocks[0].order.shape
    np.testing.assert_array_equal(blocks[0].images, split.images)
    np.testing.assert_array_equal(blocks[0].labels, split.labels)


def by_hand(dataset: data.Dataset, step: Callable) -> model.SoftmaxRegression:
    """Returns what the README's loop ends with after an epoch."""
    net, config = model.SoftmaxRegression(784, 10), flags.training_config()
    for images, labels in data.pipeline(dataset.train, batch_size=10, seed=0, epoch=0):
        step(net, images, labels, config)
    return net


def test_training_by_hand_ends_with_the_weights_of_the_program(tiny_data_dir: pathlib.Path) -> None:
    dataset = data.load("mnist", str(tiny_data_dir))
    order = data.epoch_order(660, 0, 0)
    W, b, _ = oracle.train(dataset.train.images, dataset.train.labels, [order], batch=10, lr=0.01)
    program = trained(dataset).model
    for step in (tf.function(model.sgd_step), model.sgd_step):
        net = by_hand(dataset, step)
        for mine, programs, expected in ((net.W, program.W, W), (net.b, program.b, b)):
            np.testing.assert_allclose(mine, programs, atol=1e-5)
            np.testing.assert_allclose(mine, expected, atol=1e-5)


def shares_memory(tensor: tf.Tensor, array: np.ndarray) -> bool:
    return np.shares_memory(np.asarray(memoryview(tensor)), array)


def placed(array: np.ndarray, at: int) -> np.ndarray:
    """Returns a copy of an array that begins so many bytes behind a multiple of 64."""
    buffer = np.empty(array.nbytes + 64 + at, np.uint8)
    copy = buffer[-buffer.ctypes.data % 64 + at :][: array.nbytes].reshape(array.shape)
    copy[:] = array
    return copy


def test_an_array_is_shared_with_tensorflow_if_it_is_aligned_and_copied_if_not() -> None:
    images = np.arange(140, dtype=np.uint8).reshape(7, 20)
    aligned, read_only = placed(images, 0), placed(images, 0)
    read_only.flags.writeable = False
    for array, shared in (
        (aligned, True),
        (placed(images, 1), False),
        (aligned[:, :10], False),
        (read_only, False),
    ):
        tensor = data.shared(array)
        np.testing.assert_array_equal(tensor, array)
        assert tensor.dtype == tf.uint8 and shares_memory(tensor, array) is shared


def test_chunks_are_the_split_in_order_as_often_as_asked(tiny_dataset: data.Dataset) -> None:
    for _ in range(2):
        images, labels = zip(*tiny_dataset.test.chunks(rows=7), strict=True)
        assert len(images) == 15
        np.testing.assert_array_equal(np.concatenate(images), tiny_dataset.test.images)
        np.testing.assert_array_equal(np.concatenate(labels), tiny_dataset.test.labels)


@pytest.mark.parametrize("max_bytes", [float("inf"), 0])
def test_the_cache_gives_the_splits_back(
    tiny_dataset: data.Dataset, tiny_data_dir: pathlib.Path, max_bytes: float
) -> None:
    loaded = data.load("mnist", str(tiny_data_dir), max_bytes=max_bytes)
    assert loaded.on_disk is (max_bytes == 0)
    for split in ("train", "validation", "test"):
        found, expected = getattr(loaded, split), getattr(tiny_dataset, split)
        np.testing.assert_array_equal(found.images, expected.images)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert loaded.on_disk or shares_memory(data.shared(found.images), found.images)
    assert loaded.class_names == tiny_dataset.class_names and loaded.image_shape == (28, 28, 1)


def test_what_is_written_to_loaded_images_stays_in_memory(tiny_data_dir: pathlib.Path) -> None:
    path = cache.folder_in(tiny_data_dir, "mnist") / "train_images.npy"
    before = path.read_bytes()
    data.load("mnist", str(tiny_data_dir)).train.images[:] = 0
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("data_dir", "variable", "expected"),
    [
        (None, None, "~/tensorflow_datasets"),
        (None, "", "~/tensorflow_datasets"),
        (None, "relative", "relative"),
        (None, "~/of the environment", "~/of the environment"),
        ("flag", "of the environment", "flag"),
    ],
)
def test_the_folder_is_the_flags_or_the_environments_relative_to_where_one_is(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    data_dir: str | None,
    variable: str | None,
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    if variable is not None:
        monkeypatch.setenv("TFDS_DATA_DIR", variable)
    assert str(cache.root_folder(data_dir)) == os.path.join(tmp_path, os.path.expanduser(expected))


@pytest.mark.parametrize(
    ("data_dir", "manual_dir", "flag"),
    [
        (None, None, "data_dir"),
        ("~nobody_/x", None, "data_dir"),
        ("new", "~nobody_/x", "manual_dir"),
    ],
)
def test_without_a_home_folder_the_flag_is_named(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    data_dir: str | None,
    manual_dir: str | None,
    flag: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # raises KeyError, as for an unknown user
    with pytest.raises(
        InputError, match=f"^--{flag}: .* no such home folder; give --{flag}=FOLDER"
    ):
        data.load("mnist", data_dir, manual_dir)
    assert not pathlib.Path("~").exists()
