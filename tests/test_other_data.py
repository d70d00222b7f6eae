"""Other datasets than mnist: prepared by tfds, trained on from --data_dir alone, or refused in one line."""

import pathlib
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

import data
from common import files
from common.errors import InputError
from storage import catalog, dataset, decoded, prepare
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
    splits = {
        "train": examples(130, 0, list(range(1, 27))),
        "test": examples(26, 1, list(range(1, 27))),
    }
    made.prepare(tmp_path, splits, IMAGE, LABEL)
    found = data.load("made", str(tmp_path))
    assert found.class_names == [str(label) for label in range(1, 27)]
    assert (found.num_features, found.image_shape) == (60, (4, 5, 3))
    for split, parts in {"train": (found.validation, found.train), "test": (found.test,)}.items():
        images, labels = splits[split]
        assert sorted_rows(*parts) == sorted_rows(data.Split(images.reshape(-1, 60), labels - 1))


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


@pytest.mark.parametrize(
    ("image", "label", "keys", "labels", "words"),
    [
        (
            tfds.features.Image(shape=(None, 5, 3)),
            LABEL,
            ("image", "label"),
            [0, 1],
            "vary in size",
        ),
        (
            tfds.features.Tensor(shape=(4, 5, 3), dtype=np.uint8),
            LABEL,
            ("image", "label"),
            [0],
            "maps Tensor to Class",
        ),
        (IMAGE, LABEL, None, [0], "has no pair of image and label"),
        (IMAGE, LABEL, ("label", "image"), [0], "maps ClassLabel to Image"),
        (IMAGE, LABEL, ("image", "label"), [-1, 3], "found 30 and 30, 30 of them unlabelled"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(
    tmp_path: pathlib.Path,
    image: tfds.features.FeatureConnector,
    label: tfds.features.FeatureConnector,
    keys: tuple[str, str] | None,
    labels: list[int],
    words: str,
) -> None:
    splits = {"train": examples(30, 0, labels), "test": examples(30, 1, labels)}
    made.prepare(tmp_path, splits, image, label, keys)
    with pytest.raises(InputError, match=words) as refused:
        data.load("made", str(tmp_path))
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob(f"{decoded.FOLDER}*"))


@pytest.mark.parametrize("count", [1, 11])
def test_too_few_examples_are_refused_in_one_line(tmp_path: pathlib.Path, count: int) -> None:
    folder = tmp_path / "made" / "1.0.0" / decoded.FOLDER
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        np.save(folder / f"{split}_images.npy", np.zeros([count, 60], np.uint8))
        np.save(folder / f"{split}_labels.npy", np.zeros(count, np.int32))
    decoded.describe(folder, ["0"], (4, 5, 3), True)
    with pytest.raises(
        InputError,
        match=f"^--dataset=made: has {count} training examples; at least 12 are needed, ",
    ):
        data.load("made", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnits", r"--dataset=mnits: .*Nearest: .*\bmnist\b"),
        ("emnist/leters", r"--dataset=emnist/leters: .*leters not found.*Nearest: emnist/letters"),
        ("mnist:9.0.0", r"--dataset=mnist:9.0.0: .*only: 3.0.1"),
        ("coco", r"--dataset=coco: not an image-classification"),
        ("cats_vs_dogs", r"--dataset=cats_vs_dogs: its images vary in size"),
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


def place_decoded(folder: pathlib.Path, first_label: str, default_config: bool) -> None:
    """Makes a decoded folder of 12 and 2 images of one pixel, known by the name of its first class."""
    folder.mkdir(parents=True)
    for name, count in (("train", 12), ("test", 2)):
        np.save(folder / f"{name}_images.npy", np.zeros((count, 1), np.uint8))
        np.save(folder / f"{name}_labels.npy", np.zeros(count, np.int32))
    decoded.describe(folder, [first_label], (1, 1, 1), default_config)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("emnist", "byclass 3.10.0"),
        ("emnist:3.9.0", "byclass 3.9.0"),
        ("emnist:3.9.*", "byclass 3.9.0"),
        ("emnist/letters", "letters 3.1.0"),
        ("mnist", "mnist 3.10.1"),
        ("mnist:3.0.1", "mnist 3.0.1"),
        ("mnist:4.0.0", "mnist 4.0.0"),
    ],
)
def test_what_is_decoded_is_found_without_tfds_the_newest_version_first(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str, found: str
) -> None:
    for config, version in (
        ("byclass", "3.9.0"),
        ("byclass", "3.10.0"),
        ("letters", "3.1.0"),
        ("letters", "4.0.0.x"),
    ):
        place = tmp_path / "emnist" / config / version / decoded.FOLDER
        place_decoded(place, f"{config} {version}", default_config=config == "byclass")
    for version in ("3.9.0", "3.10.1", "3.0.1", "4.0.0"):
        place_decoded(
            tmp_path / "mnist" / version / decoded.FOLDER, f"mnist {version}", default_config=True
        )
    place_decoded(
        tmp_path / "emnist" / f"{files.OURS}.new" / "9.0.0" / decoded.FOLDER, "half done", True
    )
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.delitem(sys.modules, "storage.prepare")
    assert data.load(name, str(tmp_path)).class_names == [found]


def test_a_damaged_decoded_folder_is_not_passed_over_for_an_older_version(
    tmp_path: pathlib.Path,
) -> None:
    for version in ("1.0.0", "1.1.0"):
        place_decoded(tmp_path / "unknown" / version / decoded.FOLDER, version, default_config=True)
    (tmp_path / "unknown" / "1.1.0" / decoded.FOLDER / decoded.ABOUT).write_text("")
    with pytest.raises(InputError, match="--dataset=unknown: Dataset unknown not found"):
        data.load("unknown", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "config", "default"),
    [("emnist", None, True), ("emnist", "byclass", True), ("emnist", "letters", False)],
)
def test_the_config_that_a_name_alone_means_is_known(
    tmp_path: pathlib.Path, name: str, config: str | None, default: bool
) -> None:
    builder = tfds.builder(f"{name}/{config}" if config else name, data_dir=tmp_path)
    assert catalog.is_default_config(builder) == default


def test_archives_of_a_dataset_are_used_when_they_are_there(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(dataset, "ARCHIVES", tmp_path / "archives")
    monkeypatch.setattr(
        prepare, "_generate", lambda builder, name, archives, *_: asked.append(archives) or 1 / 0
    )
    for name in ("kmnist", "emnist/letters"):
        with pytest.raises(ZeroDivisionError):
            data.load(name, str(tmp_path / "data"))
    assert asked == [tmp_path / "archives" / "kmnist", tmp_path / "archives" / "emnist"]


def test_a_flipped_bit_among_the_decoded_images_is_repaired_from_what_tfds_has(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    splits = {"train": examples(120, 0, [0, 1]), "test": examples(30, 1, [0, 1])}
    made.prepare(tmp_path, splits, IMAGE, LABEL)
    whole = data.load("made", str(tmp_path))
    path = next(tmp_path.rglob("train_images.npy"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
    repaired = data.load("made", str(tmp_path))
    assert "train_images.npy" in capsys.readouterr().err
    np.testing.assert_array_equal(repaired.train.images, whole.train.images)
    assert repaired.checksum == whole.checksum
