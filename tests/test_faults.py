"""Damaged, missing and read-only data: found, said in one line, and repaired where that can be."""

import errno
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

import data
from common import errors, files
from tests.conftest import Command

Run = Callable[..., dict]


def test_no_flipped_bit_of_a_decoded_file_is_read_as_other_data(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"{name}_images": rng.integers(256, size=(24, 4), dtype=np.uint8) for name in ("train", "test")}
    arrays |= {f"{name}_labels": np.arange(24, dtype=np.int32) for name in ("train", "test")}
    path = tmp_path / data.DECODED
    np.savez(path, **arrays, class_names=np.array(["a", "b"]), image_shape=np.array((2, 2)))
    whole, original = path.read_bytes(), data.read_decoded("tiny", path)
    damaged_bytes, found_damage = [whole[:cut] for cut in range(0, len(whole), 50)], 0
    for position in range(0, len(whole) * 8, 5):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        damaged_bytes.append(bytes(flipped))
    for content in damaged_bytes:
        path.write_bytes(content)
        try:
            read = data.read_decoded("tiny", path)
        except ValueError:
            found_damage += 1
        else:  # the flip is in what is not read, such as a date
            for split in ("train", "validation", "test"):
                np.testing.assert_array_equal(getattr(read, split).images, getattr(original, split).images)
                np.testing.assert_array_equal(getattr(read, split).labels, getattr(original, split).labels)
            assert (read.class_names, read.image_shape) == (original.class_names, original.image_shape)
    assert found_damage > len(damaged_bytes) / 2


@pytest.mark.parametrize(
    ("error", "words"), [(MemoryError(), "--input=stream needs less"), (OSError(errno.EACCES, "denied"), "denied")]
)
def test_no_memory_and_no_rights_are_not_called_damage(
    tiny_data_dir: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    error: Exception,
    words: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(data.ondisk, "load", fail)
    with pytest.raises(errors.RunError, match=words):
        data.load("mnist", str(tiny_data_dir))
    assert "damaged" not in capsys.readouterr().err


def test_a_new_file_that_cannot_be_read_back_is_one_line(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage import prepare

    (tmp_path / data.DECODED).write_text("not an archive")
    monkeypatch.setattr(prepare, "decoded_file", lambda *_: tmp_path / data.DECODED)
    with pytest.raises(errors.RunError, match=r"cannot read what was just written: .*decoded\.npz"):
        data.load("mnist", str(tmp_path))


@pytest.fixture
def archives(tmp_path: pathlib.Path) -> pathlib.Path:
    """Copies of the project's archives of MNIST."""
    folder = tmp_path / "archives"
    folder.mkdir()
    for archive in (data.ARCHIVES / "mnist").glob("*.gz"):
        (folder / archive.name).write_bytes(archive.read_bytes())
    return folder


@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_a_damaged_archive_is_named_with_both_checksums(
    tmp_path: pathlib.Path, archives: pathlib.Path, damage: str
) -> None:
    archive = archives / "train-labels-idx1-ubyte.gz"
    whole = archive.read_bytes()
    archive.write_bytes(whole[:9000] + (b"" if damage == "truncated" else bytes([whole[9000] ^ 4]) + whole[9001:]))
    with pytest.raises(errors.InputError) as caught:
        data.load("mnist", str(tmp_path / "new"), str(archives))
    line, right = str(caught.value), "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    assert line.startswith(f"--manual_dir: {archive} is damaged: expected 28881 bytes with SHA-256 {right}, found ")
    assert {path.name for path in (tmp_path / "new").rglob("*")} == {"mnist", ".lock"}


def test_a_missing_archive_without_a_network_is_one_line_with_all_four_names(
    tmp_path: pathlib.Path, archives: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage import prepare

    def no_network(request: object, timeout: float) -> None:
        raise OSError("no network")

    monkeypatch.setattr(prepare.urllib.request, "urlopen", no_network)
    (archives / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(errors.InputError) as caught:
        data.load("mnist", str(tmp_path / "new"), str(archives))
    line = str(caught.value)
    assert line.startswith(f"--manual_dir: {archives} lacks an archive") and "\n" not in line
    assert "run: python train.py --manual_dir=FOLDER" in line
    for part in ("train", "t10k"):
        assert f"{part}-images-idx3-ubyte.gz" in line and f"{part}-labels-idx1-ubyte.gz" in line


def test_what_a_killed_preparation_left_is_removed_by_the_next(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "mnist"
    for leftover in ("incomplete/mnist/3.0.1", "incomplete.ABC_3.0.1", "3.0.1"):
        (folder / leftover).mkdir(parents=True)
    (folder / "3.0.1" / f".{data.DECODED}.abc").write_text("half")
    (tmp_path / "empty").mkdir()
    from storage import prepare

    with prepare._scratch(folder) as scratch:
        assert list(scratch.iterdir()) == []
        with pytest.raises(BlockingIOError):
            files.locked(folder / ".lock", wait=False)
    assert sorted(path.name for path in folder.rglob("*")) == [".lock", "3.0.1"]


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space"), MemoryError(), tf.errors.ResourceExhaustedError(None, None, "No space")],
    ids=["disk", "memory", "tensorflow"],
)
def test_a_full_disk_while_decoding_is_not_called_damage(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, error: Exception
) -> None:
    from storage import prepare

    def full(*_: object) -> None:
        raise error

    kept = tmp_path / "mnist" / "3.0.1"
    kept.mkdir(parents=True)
    (kept / "prepared").write_text("by tfds")
    monkeypatch.setattr(prepare, "_decode", full)
    with pytest.raises(errors.RunError, match="--data_dir: cannot prepare"):
        prepare.decoded_file("mnist", tmp_path, data.ARCHIVES / "mnist", 0)
    assert "damaged" not in capsys.readouterr().err
    assert (kept / "prepared").read_text() == "by tfds"


def test_a_data_dir_that_cannot_be_written_is_one_line(run_train: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_train(f"--data_dir={tmp_path / 'file'}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --data_dir: {tmp_path / 'file'}") and len(done.stderr.splitlines()) == 1
