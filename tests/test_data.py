"""The data: the order of an epoch, training by hand, what is in the splits, the folders of data."""

import os
import pathlib
import pwd

import numpy as np
import pytest
import tensorflow as tf

import data
import flags
import model
from common.errors import InputError
from storage import cache
from tests import oracle


def test_order_is_a_full_permutation_that_seed_epoch_and_buffer_decide():
    order = data.epoch_order(1000, seed=5, epoch=2)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    np.testing.assert_array_equal(order, data.epoch_order(1000, seed=5, epoch=2))
    for seed, epoch, buffer in ((5, 3, 0), (6, 2, 0), (5, 2, 1)):
        assert (order != data.epoch_order(1000, seed, epoch, buffer=buffer)).mean() > 0.9
    np.testing.assert_array_equal(data.epoch_order(9, 5, 2, shuffle=False), np.arange(9))


def test_training_by_hand_ends_at_the_oracles_weights(tiny_dataset):
    net, train = model.SoftmaxRegression(784, 10), tiny_dataset.train
    step = tf.function(model.sgd_step, autograph=False)
    for images, labels in data.pipeline(train, batch_size=64):  # as in the README
        step(net, images, labels, flags.training_config())
    order = data.epoch_order(660, 0, 0)
    W, b, _ = oracle.train(train.images, train.labels, [order], batch=64, lr=0.01)
    oracle.assert_weights(vars(net), W, b)


def shares_memory(tensor: tf.Tensor, array: np.ndarray) -> bool:
    return np.shares_memory(np.asarray(memoryview(tensor)), array)


def test_an_array_is_shared_with_tensorflow_if_it_is_aligned_and_copied_if_not():
    tf.zeros([])  # the first operation of all copies
    memory = np.arange(400, dtype=np.uint8)
    aligned = memory[-memory.ctypes.data % 64 :][:280].reshape(14, 20)
    for array, shared in (
        (aligned, True),
        (aligned[1:], False),
        (aligned[:, :10], False),
    ):
        tensor = data.shared(array)
        np.testing.assert_array_equal(tensor, array)
        assert tensor.dtype == tf.uint8 and shares_memory(tensor, array) is shared


@pytest.mark.parametrize("max_bytes", [float("inf"), 0])
def test_the_cache_gives_the_splits_back(tiny_dataset, tiny_data_dir, max_bytes):
    loaded = data.load("mnist", str(tiny_data_dir), max_bytes=max_bytes)
    assert loaded.train.streamed is (max_bytes == 0)
    for split in cache.SPLITS:
        found, expected = getattr(loaded, split), getattr(tiny_dataset, split)
        np.testing.assert_array_equal(found.images, expected.images)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert loaded.train.streamed or shares_memory(data.shared(found.images), found.images)
    assert loaded.class_names == tiny_dataset.class_names and loaded.image_shape == (28, 28, 1)


def test_what_is_written_to_loaded_images_stays_in_memory(tiny_data_dir):
    for _ in range(2):
        images = data.load("mnist", str(tiny_data_dir)).train.images
        assert images.any()
        images[:] = 0


@pytest.mark.parametrize(
    ("data_dir", "variable", "expected"),
    [
        (None, None, "~/tensorflow_datasets"),
        (None, "relative", "relative"),
        ("flag", "of the environment", "flag"),
    ],
)
def test_the_folder_is_the_flags_or_the_environments_relative_to_where_one_is(
    monkeypatch, tmp_path, data_dir, variable, expected
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    if variable is not None:
        monkeypatch.setenv("TFDS_DATA_DIR", variable)
    assert cache.root_folder(data_dir) == tmp_path / os.path.expanduser(expected)


@pytest.mark.parametrize("data_dir", [None, "~nobody_/x"])
def test_without_a_home_folder_the_flag_is_named(monkeypatch, tmp_path, data_dir):
    monkeypatch.chdir(tmp_path)
    for variable in ("HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # raises KeyError, as for an unknown user
    with pytest.raises(InputError, match=r"^--data_dir: .* unknown ~user; give --data_dir="):
        data.load("mnist", data_dir)
    assert not pathlib.Path("~").exists()
