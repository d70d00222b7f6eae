"""Other datasets than mnist: prepared by tfds, trained on from --data_dir alone, or refused."""

import shutil
import sys

import pytest
import tensorflow_datasets as tfds

import data
import storage
from common.errors import InputError
from storage import cache, decode
from tests.made import Made, examples


def rows(images, labels):
    """Returns image and label of each example as bytes, sorted: tfds shuffles what it prepares."""
    return sorted(i.tobytes() + bytes([n]) for i, n in zip(images, labels, strict=True))


def rows_of(*splits):
    return sorted(row for split in splits for row in rows(split.images, split.labels))


def test_labels_that_do_not_start_at_0_keep_their_names(tmp_path, monkeypatch):
    letters = list(range(1, 27))
    train, test = examples(130, letters), examples(26, letters)
    monkeypatch.setattr(Made, "splits", {"train": train, "test": test})
    found = data.load("made", str(tmp_path))
    assert found.class_names == [str(label) for label in letters]
    assert rows_of(found.validation, found.train) == rows(train[0], train[1] - 1)
    assert rows_of(found.test) == rows(test[0], test[1] - 1)


def test_the_images_of_emnist_are_turned_upright(tmp_path, monkeypatch):
    monkeypatch.setattr(Made, "name", "emnist")
    builder = Made(data_dir=tmp_path / "data")
    builder.download_and_prepare()
    decode.write(builder, tmp_path)
    images, labels = Made.splits["test"]
    assert rows_of(cache.read(tmp_path, "emnist", 0).test) == rows(images.swapaxes(1, 2), labels)


@pytest.mark.parametrize(
    ("other", "sizes"), [("validation", (110, 10, 30)), ("extra", (94, 8, 18))]
)
def test_without_a_test_split_validation_or_a_seventh_of_train_tests(
    tmp_path, monkeypatch, other, sizes
):
    train = examples(120, [0, 1])
    monkeypatch.setattr(Made, "splits", {"train": train, other: examples(30, [0, 1])})
    found = data.load("made", str(tmp_path))
    splits = found.train, found.validation, found.test
    assert tuple(map(len, splits)) == sizes
    assert other == "validation" or rows_of(*splits) == rows(*train)


def test_a_dataset_is_known_by_what_tfds_has_prepared_of_it(tmp_path, monkeypatch):
    Made(data_dir=tmp_path).download_and_prepare()
    monkeypatch.delitem(tfds.core.registered._DATASET_REGISTRY, "made")
    assert rows_of(data.load("made", str(tmp_path)).test) == rows(*Made.splits["test"])


@pytest.mark.parametrize(
    ("labels", "count", "words"),
    [
        ([-1, 3], 30, "needs a label from 0 .* has labels from -1"),
        ([0], 11, "needs 12 examples to train on, and has 11"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(tmp_path, monkeypatch, labels, count, words):
    split = examples(count, labels)
    monkeypatch.setattr(Made, "splits", {"train": split, "test": split})
    with pytest.raises(InputError, match=words) as refused:
        data.load("made", str(tmp_path))
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob(f"{cache.FOLDER}*"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnits", r"Nearest: .*\bmnist\b"),
        ("emnist/leters", "Nearest: emnist/letters"),
        ("mnist:9.0.0", "Nearest: mnist$"),
        ("coco", "needs uint8 images of one size with one label each, and has .*BBox"),
        ("imdb_reviews", "needs uint8 images .*Text"),
        ("cats_vs_dogs", r"needs uint8 images .*shape=\(None, None, 3\)"),
        ("../mnist", r"Nearest: .*\bmnist\b"),
    ],
)
def test_a_name_that_will_not_do_is_one_line_with_the_nearest(tmp_path, name, words):
    with pytest.raises(InputError, match=f"--dataset={name}: .*{words}") as refused:
        data.load(name, str(tmp_path))
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mnist", "emnist/letters", "emnist/letters:3.1.0"])
def test_what_is_cached_is_found_without_tfds(tiny_data_dir, monkeypatch, name):
    mnist, other = cache.folder_in(tiny_data_dir, "mnist"), tiny_data_dir / "other"
    shutil.copytree(mnist, cache.folder_in(other, name))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.delitem(sys.modules, "storage.prepare", raising=False)
    monkeypatch.delattr(storage, "prepare", raising=False)
    assert len(data.load(name, str(other)).train) == 660
    with pytest.raises(ImportError):
        data.load("emnist", str(other))
