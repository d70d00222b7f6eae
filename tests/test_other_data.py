"""Other datasets than mnist: prepared by tfds, trained on from --data_dir alone, or refused in one
line."""

import pathlib
import shutil
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

import data
import storage
from common.errors import InputError
from common.files import PROJECT
from storage import archives, cache, decode
from tests import made

IMAGE = tfds.features.Image(shape=(4, 5, 3))
LABEL = tfds.features.ClassLabel(num_classes=37)


def examples(count: int, seed: int, classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns random images and labels that go round `classes`."""
    rng = np.random.default_rng(seed)
    return rng.integers(256, size=(count, 4, 5, 3), dtype=np.uint8), np.resize(classes, count)


def sorted_rows(*splits: data.Split) -> list[bytes]:
    """Returns image and label of each example as bytes, sorted: tfds shuffles what it prepares."""
    return sorted(
        image.tobytes() + bytes([label])
        for s in splits
        for image, label in zip(s.images, s.labels, strict=True)
    )


def test_labels_that_do_not_start_at_0_keep_their_names(tmp_path: pathlib.Path) -> None:
    letters = list(range(1, 27))
    splits = {"train": examples(130, 0, letters), "test": examples(26, 1, letters)}
    made.prepare(tmp_path, splits, IMAGE, LABEL)
    found = data.load("made", str(tmp_path))
    assert found.class_names == [str(label) for label in letters]
    assert (found.num_features, found.image_shape) == (60, (4, 5, 3))
    for split, parts in {"train": (found.validation, found.train), "test": (found.test,)}.items():
        images, labels = splits[split]
        assert sorted_rows(*parts) == sorted_rows(data.Split(images.reshape(-1, 60), labels - 1))


@pytest.mark.parametrize(("dataset", "upright"), [("emnist", True), ("made", False)])
def test_the_images_of_emnist_are_turned_upright(
    tmp_path: pathlib.Path, dataset: str, upright: bool
) -> None:
    images = np.random.default_rng(0).integers(256, size=(24, 4, 4, 1), dtype=np.uint8)
    split = images, np.arange(24) % 2
    image = tfds.features.Image(shape=(4, 4, 1))
    splits = {"train": split, "test": split}
    builder = made.prepare(tmp_path, splits, image, LABEL, dataset=dataset)
    (tmp_path / "cache").mkdir()
    decode.write(builder, tmp_path / "cache")
    found = cache.read(tmp_path / "cache", dataset)
    expected = [image.T if upright else image for image in images[..., 0]]
    assert {image.tobytes() for image in found.test.images} == {
        image.tobytes() for image in expected
    }


@pytest.mark.parametrize(
    ("other", "sizes"), [("validation", (110, 10, 30)), ("extra", (94, 8, 18))]
)
def test_without_a_test_split_validation_or_a_seventh_of_train_tests(
    tmp_path: pathlib.Path, other: str, sizes: tuple[int, int, int]
) -> None:
    splits = {"train": examples(120, 0, [0, 1]), other: examples(30, 1, [0, 1])}
    made.prepare(tmp_path, splits, IMAGE, LABEL)
    found = data.load("made", str(tmp_path))
    assert (len(found.train), len(found.validation), len(found.test)) == sizes
    if other == "extra":
        images, labels = splits["train"]
        assert sorted_rows(found.train, found.validation, found.test) == sorted_rows(
            data.Split(images.reshape(-1, 60), labels)
        )


VARYING, TENSOR = (
    tfds.features.Image(shape=(None, 5, 3)),
    tfds.features.Tensor(shape=(4, 5, 3), dtype=np.uint8),
)
KEYS = ("image", "label")


@pytest.mark.parametrize(
    ("image", "keys", "labels", "count", "words"),
    [
        (VARYING, KEYS, [0, 1], 30, r"must be uint8 and of one size, and are .*None, 5, 3"),
        (TENSOR, KEYS, [0], 30, r"it has .*Tensor\(shape=\(4, 5, 3\)"),
        (IMAGE, None, [0], 30, "it has no pair of image and label"),
        (IMAGE, KEYS[::-1], [0], 30, r"it has .ClassLabel\(.* Image\("),
        (IMAGE, KEYS, [-1, 3], 30, r"found \[2, 28, 30\] to .*, with labels from -1"),
        (IMAGE, KEYS, [0], 11, r"needs 12 examples to train on.* found \[0, 11, 11\]"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(
    tmp_path: pathlib.Path,
    image: tfds.features.FeatureConnector,
    keys: tuple[str, str] | None,
    labels: list[int],
    count: int,
    words: str,
) -> None:
    splits = {"train": examples(count, 0, labels), "test": examples(count, 1, labels)}
    made.prepare(tmp_path, splits, image, LABEL, keys)
    with pytest.raises(InputError, match=words) as refused:
        data.load("made", str(tmp_path))
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob(f"{cache.FOLDER}*"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnits", r"--dataset=mnits: .*Nearest: .*\bmnist\b"),
        ("emnist/leters", r"--dataset=emnist/leters: .*Nearest: emnist/letters"),
        ("mnist:9.0.0", r"--dataset=mnist:9.0.0: .*Nearest: mnist:3.0.1"),
        ("emnist/letters:9.0.0", r"--dataset=emnist/letters:9.0.0: .*emnist/letters:3.1.0"),
        ("coco", r"--dataset=coco: not an image-classification"),
        ("cats_vs_dogs", r"--dataset=cats_vs_dogs: its images must be uint8 and of one size"),
        ("../mnist", r"--dataset=../mnist: must be a name of tfds"),
    ],
)
def test_a_name_that_will_not_do_is_one_line_with_the_nearest(
    tmp_path: pathlib.Path, name: str, words: str
) -> None:
    with pytest.raises(InputError, match=words) as refused:
        data.load(name, str(tmp_path))
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mnist", "mnist:3.0.1", "emnist/letters", "emnist/letters:3.1.0"])
def test_what_is_cached_is_found_without_tfds(
    tiny_data_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    mnist = cache.folder_in(tiny_data_dir, "mnist")
    shutil.copytree(mnist, cache.folder_in(tiny_data_dir / "other", name))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.delitem(sys.modules, "storage.prepare", raising=False)
    monkeypatch.delattr(storage, "prepare", raising=False)
    assert len(data.load(name, str(tiny_data_dir / "other")).train) == 660
    with pytest.raises(ImportError):
        data.load("emnist", str(tiny_data_dir / "other"))


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "mnist"), ("emnist/letters", "emnist"), ("mnist:3.0.1", "mnist")]
)
def test_archives_are_looked_for_under_the_name_of_the_dataset(name: str, folder: str) -> None:
    assert archives.folder_of(name, None) == PROJECT / "archives" / folder
    assert archives.folder_of(name, "given") == pathlib.Path("given")
