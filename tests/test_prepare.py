"""The first run: what it removes, replaces and leaves alone, and what it says of archives and disks that fail it."""

import errno
import pathlib
import shlex
import shutil
from collections.abc import Iterator
from unittest import mock

import filelock
import pytest
import tensorflow as tf

import data
import flags
from common import commandline, errors, files
from storage import dataset, decoded, prepare
from tests import made


@pytest.fixture
def archives(tmp_path: pathlib.Path) -> pathlib.Path:
    """Copies of the project's archives of MNIST."""
    folder = tmp_path / "archives"
    folder.mkdir()
    for archive in (dataset.ARCHIVES / "mnist").glob("*.gz"):
        (folder / archive.name).write_bytes(archive.read_bytes())
    return folder


@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_a_damaged_archive_is_named_with_both_checksums(
    tmp_path: pathlib.Path, archives: pathlib.Path, damage: str
) -> None:
    archive = archives / "train-labels-idx1-ubyte.gz"
    whole = archive.read_bytes()
    archive.write_bytes(
        whole[:9000] + (b"" if damage == "truncated" else bytes([whole[9000] ^ 4]) + whole[9001:])
    )
    with pytest.raises(errors.InputError) as caught:
        data.load("mnist", str(tmp_path / "new"), str(archives))
    line, right = (
        str(caught.value),
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    )
    assert line.startswith(
        f"--manual_dir: {archive} is damaged: expected 28881 bytes with SHA-256 {right}, found "
    )
    assert {path.name for path in (tmp_path / "new").rglob("*")} == {"mnist", ".lock"}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(request: object, timeout: float) -> None:
        raise OSError("no network")

    monkeypatch.setattr(prepare.urllib.request, "urlopen", unreachable)


def test_a_missing_archive_without_a_network_is_one_line_with_all_four_names(
    tmp_path: pathlib.Path, archives: pathlib.Path, no_network: None
) -> None:
    (archives / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(errors.InputError) as caught:
        data.load("mnist", str(tmp_path / "new"), str(archives))
    line = str(caught.value)
    assert line.startswith(f"--manual_dir: {archives} lacks an archive") and "\n" not in line
    for part in ("train", "t10k"):
        assert f"{part}-images-idx3-ubyte.gz" in line and f"{part}-labels-idx1-ubyte.gz" in line


@pytest.mark.parametrize("name", ["fashion_mnist", "emnist/letters"])
def test_the_command_that_is_suggested_is_complete(
    tmp_path: pathlib.Path, no_network: None, name: str
) -> None:
    root = tmp_path / "pre pared"
    with pytest.raises(errors.InputError) as caught:
        data.load(name, str(root))
    suggested = shlex.split(str(caught.value).rpartition("run: ")[2])
    assert suggested[:2] == ["python", "train.py"]
    config = commandline.parse(flags.train_flags(), suggested[1:], "")
    assert (config.dataset, config.data_dir, config.manual_dir) == (name, str(root), "FOLDER")


def test_a_manual_dir_that_is_not_read_is_said(
    tiny_data_dir: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    data.load("mnist", str(tiny_data_dir), "some/folder")
    line = f"--manual_dir=some/folder is not read: mnist is prepared already in {tiny_data_dir}\n"
    assert capsys.readouterr().err == line
    data.load("mnist", str(tiny_data_dir))
    assert capsys.readouterr().err == ""


def names_below(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_what_a_killed_preparation_left_is_removed_by_the_next_and_nothing_of_others(
    tmp_path: pathlib.Path,
) -> None:
    version = tmp_path / "mnist" / "3.0.1"
    # the second is tfds's own
    others = ("incomplete/mnist/3.0.1", "incomplete.ABC_3.0.1", "3.0.1", "3.0.0.incomplete")
    ours = (f"{files.OURS}.3.0.1.new.abc/new", f"3.0.1/{files.OURS}.decoded.new.abc/new")
    for folder in others + ours:
        (version.parent / folder).mkdir(parents=True)
        (version.parent / folder / "file").write_text("half")
    kept = [*names_below(version.parent), ".lock"]
    with prepare._alone(version), pytest.raises(filelock.Timeout):
        files.locked(version.parent / ".lock", wait=False)
    files.locked(version.parent / ".lock", wait=False).release()
    assert names_below(version.parent) == sorted(name for name in kept if files.OURS not in name)


def test_what_was_put_aside_comes_back_if_a_kill_left_nothing_in_its_place(
    tmp_path: pathlib.Path,
) -> None:
    version = tmp_path / "mnist" / "3.0.1"
    (aside := version.with_name(f"{files.OURS}.3.0.1.replaced")).mkdir(parents=True)
    (aside / "prepared").write_text("by tfds")
    with prepare._alone(version):
        assert names_below(version.parent) == [".lock", "3.0.1", "3.0.1/prepared"]


@pytest.fixture
def prepared(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """What tfds has prepared of a small fashion_mnist, not decoded yet; its archives are where the program looks."""
    monkeypatch.setattr(dataset, "ARCHIVES", tmp_path / "archives")
    (tmp_path / "archives").mkdir()
    with made.fashion_mnist(
        tmp_path / "archives" / "fashion_mnist", num_train=48, num_test=20
    ) as prepare_below:
        prepare_below(tmp_path / "data")
        yield tmp_path / "data" / "fashion_mnist" / "3.0.1"


def content(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "file", ["fashion_mnist-test.tfrecord*", "dataset_info.json", "features.json"]
)
@pytest.mark.parametrize("damage", ["cut", "emptied", "quote flipped", "no longer text", "gone"])
def test_what_shows_damage_is_prepared_again(
    prepared: pathlib.Path, capsys: pytest.CaptureFixture, file: str, damage: str
) -> None:
    whole = data.load("fashion_mnist", str(prepared.parents[1])).checksum
    shutil.rmtree(prepared / decoded.FOLDER)
    path = next(prepared.glob(file))
    raw = path.read_bytes()
    at = raw.index(b'"') if path.suffix == ".json" else len(raw) // 2
    flip = {"quote flipped": 1, "no longer text": 128}.get(damage, 0)
    flipped = raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :]
    path.write_bytes({"cut": raw[: len(raw) // 2], "emptied": b""}.get(damage, flipped))
    if damage == "gone":
        path.unlink()
    foreign = prepared.with_name("incomplete.ABC_3.0.1")
    foreign.mkdir()
    (foreign / "half").write_text("another program's")
    assert data.load("fashion_mnist", str(prepared.parents[1])).checksum == whole
    said = capsys.readouterr().err
    # tfds does not need that one
    assert "preparing fashion_mnist/3.0.1" in said or "features" in file
    assert names_below(prepared.parent)[:1] == [".lock"] and content(foreign) == {
        "half": b"another program's"
    }
    assert sorted(path.name for path in prepared.parent.iterdir()) == [
        ".lock",
        "3.0.1",
        "incomplete.ABC_3.0.1",
    ]


def test_a_damaged_dataset_stays_until_its_new_one_is_whole(
    prepared: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(prepared.glob("*train.tfrecord*"))
    path.write_bytes(path.read_bytes()[:1000])
    before = content(prepared)

    def full(*_: object) -> None:
        assert content(prepared) == before
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepare, "_generate", full)
    with pytest.raises(errors.RunError, match="No space left"):
        data.load("fashion_mnist", str(prepared.parents[1]))
    assert content(prepared) == before
    assert sorted(path.name for path in prepared.parent.iterdir()) == [".lock", "3.0.1"]


@pytest.mark.parametrize(
    "error",
    [
        KeyError("of tfds"),
        NotImplementedError("of tfds"),
        tf.errors.InvalidArgumentError(None, None, "of TensorFlow"),
    ],
    ids=["key", "not implemented", "argument"],
)
def test_an_error_that_shows_no_damage_is_one_line_and_nothing_is_touched(
    prepared: pathlib.Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    before = content(prepared)
    monkeypatch.setattr(prepare.decoding, "write", fail)
    with pytest.raises(errors.RunError, match=r"--data_dir: .*3\.0\.1.*of ") as caught:
        data.load("fashion_mnist", str(prepared.parents[1]))
    assert "\n" not in str(caught.value) and content(prepared) == before


def test_what_tfds_cannot_even_open_is_one_line_and_nothing_is_touched(
    prepared: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, before = prepared / "dataset_info.json", content(prepared)
    info.write_text(info.read_text().replace("{SPLIT}", "{SPILT}"))
    changed = content(prepared)
    with pytest.raises(errors.RunError, match="Nothing in it was changed"):
        data.load("fashion_mnist", str(prepared.parents[1]))
    assert content(prepared) == changed != before


def test_the_former_decoded_file_goes_when_the_new_folder_is_whole_and_that_is_said(
    prepared: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (former := prepared / prepare.FORMER).write_text("before")
    with monkeypatch.context() as patched, pytest.raises(errors.RunError):
        patched.setattr(
            prepare.decoding.decoded,
            "describe",
            mock.Mock(side_effect=OSError(errno.ENOSPC, "full")),
        )
        data.load("fashion_mnist", str(prepared.parents[1]))
    assert former.read_text() == "before"
    capsys.readouterr()
    data.load("fashion_mnist", str(prepared.parents[1]))
    assert not former.exists() and f"removed {former}, which" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space"),
        MemoryError(),
        tf.errors.ResourceExhaustedError(None, None, "No space"),
    ],
    ids=["disk", "memory", "tensorflow"],
)
def test_a_full_disk_while_decoding_is_not_called_damage(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    error: Exception,
) -> None:
    def full(*_: object) -> None:
        raise error

    kept = tmp_path / "mnist" / "3.0.1"
    kept.mkdir(parents=True)
    (kept / "dataset_info.json").write_text("by tfds")
    monkeypatch.setattr(prepare, "_place", lambda *_: kept)
    monkeypatch.setattr(prepare.catalog, "builder", full)
    with pytest.raises(errors.RunError, match="--data_dir: cannot prepare"):
        prepare.decoded_folder("mnist", tmp_path, dataset.ARCHIVES / "mnist", 0)
    assert "damaged" not in capsys.readouterr().err
    assert (kept / "dataset_info.json").read_text() == "by tfds"
