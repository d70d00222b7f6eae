"""Damaged, missing and read-only data: found, said in one line, and repaired where that can be."""

import errno
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from unittest import mock

import filelock
import numpy as np
import pytest
import tensorflow as tf

import data
import flags
from benchmarks import faults
from common import errors, files, flagging
from storage import dataset, decoded, prepare
from tests import made
from tests.conftest import PROJECT, Command


def make_decoded(folder: pathlib.Path) -> pathlib.Path:
    """Returns `folder` with a decoded dataset of 24 training and 24 test images of 2x2 pixels in it."""
    folder.mkdir(parents=True)
    for name in ("train", "test"):
        np.save(folder / f"{name}_images.npy", np.random.default_rng(0).integers(256, size=(24, 4), dtype=np.uint8))
        np.save(folder / f"{name}_labels.npy", np.arange(24, dtype=np.int32))
    decoded.describe(folder, ["a", "b"], (2, 2))
    return folder


def spoilt(path: pathlib.Path, bits: Iterable[int], lengths: Iterable[int]) -> Iterator[str]:
    """Yields after each damage of a file: one of its bits flipped, or its end lost, all of it; mends it afterwards."""
    whole = path.read_bytes()
    for bit in bits:
        path.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
        yield f"{path.name}: bit {bit}"
    for length in lengths:
        path.write_bytes(whole[:length])
        yield f"{path.name}: length {length}"
    path.unlink()
    yield f"{path.name}: gone"
    path.write_bytes(whole)


ARRAYS = [f"{split}_{kind}.npy" for split in ("train", "test") for kind in ("images", "labels")]


@pytest.mark.parametrize("name", [*ARRAYS, decoded.ABOUT])
def test_any_flipped_bit_or_lost_end_of_a_decoded_folder_is_found(tmp_path: pathlib.Path, name: str) -> None:
    folder = make_decoded(tmp_path / decoded.FOLDER)
    size = (folder / name).stat().st_size
    for damage in spoilt(folder / name, range(0, size * 8, 7), range(0, size, 13)):
        with pytest.raises(ValueError) as found:
            assert not decoded.read(folder), damage
        assert str(found.value).startswith(f"{folder}: ") and "\n" not in str(found.value)
    assert len(decoded.read(folder).train[1]) == 22


def test_a_flipped_bit_of_a_header_or_of_labels_is_found_where_images_stay_on_the_disk(tmp_path: pathlib.Path) -> None:
    folder = make_decoded(tmp_path / decoded.FOLDER)
    for name in ARRAYS:
        for damage in spoilt(folder / name, range(0, 128 * 8, 3), [0, 100, 200]):
            with pytest.raises(ValueError):
                assert not decoded.read(folder, most_bytes=0), damage
    assert len(decoded.read(folder, most_bytes=0).train[1]) == 22


def test_another_format_is_said_and_not_read(tmp_path: pathlib.Path) -> None:
    folder = make_decoded(tmp_path / decoded.FOLDER)
    about = json.loads((folder / decoded.ABOUT).read_text())
    (folder / decoded.ABOUT).write_text(json.dumps(about | {"format": decoded.FORMAT - 1}))
    with pytest.raises(ValueError, match=f"{folder}: has format {decoded.FORMAT - 1}, not {decoded.FORMAT}"):
        decoded.read(folder)


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

    monkeypatch.setattr(decoded, "_whole", fail)
    with pytest.raises(errors.RunError, match=words):
        data.load("mnist", str(tiny_data_dir))
    assert capsys.readouterr().err == ""


def test_a_new_folder_that_cannot_be_read_back_is_one_line(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "decoded_folder", lambda *_: (tmp_path / decoded.FOLDER, True))
    with pytest.raises(errors.RunError, match=r"cannot read what was just written: .*decoded: No such file"):
        data.load("mnist", str(tmp_path))


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
    archive.write_bytes(whole[:9000] + (b"" if damage == "truncated" else bytes([whole[9000] ^ 4]) + whole[9001:]))
    with pytest.raises(errors.InputError) as caught:
        data.load("mnist", str(tmp_path / "new"), str(archives))
    line, right = str(caught.value), "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    assert line.startswith(f"--manual_dir: {archive} is damaged: expected 28881 bytes with SHA-256 {right}, found ")
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
def test_the_command_that_is_suggested_is_complete(tmp_path: pathlib.Path, no_network: None, name: str) -> None:
    root = tmp_path / "pre pared"
    with pytest.raises(errors.InputError) as caught:
        data.load(name, str(root))
    suggested = shlex.split(str(caught.value).rpartition("run: ")[2])
    assert suggested[:2] == ["python", "train.py"]
    config = flagging.parse(flags.Config, suggested[1:], "")
    assert (config.dataset, config.data_dir, config.manual_dir) == (name, str(root), "FOLDER")


def test_a_manual_dir_that_is_not_read_is_said(tiny_data_dir: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    data.load("mnist", str(tiny_data_dir), "some/folder")
    line = f"--manual_dir=some/folder is not read: mnist is prepared already in {tiny_data_dir}\n"
    assert capsys.readouterr().err == line
    data.load("mnist", str(tiny_data_dir))
    assert capsys.readouterr().err == ""


def names_below(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_what_a_killed_preparation_left_is_removed_by_the_next_and_nothing_of_others(tmp_path: pathlib.Path) -> None:
    version = tmp_path / "mnist" / "3.0.1"
    others = ("incomplete/mnist/3.0.1", "incomplete.ABC_3.0.1", "3.0.1", "3.0.0.incomplete")  # the second is tfds's own
    ours = (f"{files.OURS}.3.0.1.new.abc/new", f"3.0.1/{files.OURS}.decoded.new.abc/new")
    for folder in others + ours:
        (version.parent / folder).mkdir(parents=True)
        (version.parent / folder / "file").write_text("half")
    kept = [*names_below(version.parent), ".lock"]
    with prepare._alone(version), pytest.raises(filelock.Timeout):
        files.locked(version.parent / ".lock", wait=False)
    files.locked(version.parent / ".lock", wait=False).release()
    assert names_below(version.parent) == sorted(name for name in kept if files.OURS not in name)


def test_what_was_put_aside_comes_back_if_a_kill_left_nothing_in_its_place(tmp_path: pathlib.Path) -> None:
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
    with made.fashion_mnist(tmp_path / "archives" / "fashion_mnist", num_train=48, num_test=20) as prepare_below:
        prepare_below(tmp_path / "data")
        yield tmp_path / "data" / "fashion_mnist" / "3.0.1"


def content(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("file", ["fashion_mnist-test.tfrecord*", "dataset_info.json", "features.json"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "gone"])
def test_what_shows_damage_is_prepared_again(
    prepared: pathlib.Path, capsys: pytest.CaptureFixture, file: str, damage: str
) -> None:
    whole = data.load("fashion_mnist", str(prepared.parents[1])).checksum
    shutil.rmtree(prepared / decoded.FOLDER)
    path = next(prepared.glob(file))
    raw = path.read_bytes()
    at = raw.index(b'"') if path.suffix == ".json" else len(raw) // 2
    flipped = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
    path.write_bytes({"cut": raw[: len(raw) // 2], "emptied": b"", "flipped": flipped, "gone": b""}[damage])
    if damage == "gone":
        path.unlink()
    foreign = prepared.with_name("incomplete.ABC_3.0.1")
    foreign.mkdir()
    (foreign / "half").write_text("another program's")
    assert data.load("fashion_mnist", str(prepared.parents[1])).checksum == whole
    said = capsys.readouterr().err
    assert "preparing fashion_mnist/3.0.1" in said or "features" in file  # tfds does not need that one
    assert names_below(prepared.parent)[:1] == [".lock"] and content(foreign) == {"half": b"another program's"}
    assert sorted(path.name for path in prepared.parent.iterdir()) == [".lock", "3.0.1", "incomplete.ABC_3.0.1"]


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
    [KeyError("of tfds"), NotImplementedError("of tfds"), tf.errors.InvalidArgumentError(None, None, "of TensorFlow")],
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
        patched.setattr(prepare.decoding.decoded, "describe", mock.Mock(side_effect=OSError(errno.ENOSPC, "full")))
        data.load("fashion_mnist", str(prepared.parents[1]))
    assert former.read_text() == "before"
    capsys.readouterr()
    data.load("fashion_mnist", str(prepared.parents[1]))
    assert not former.exists() and f"removed {former}, which" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space"), MemoryError(), tf.errors.ResourceExhaustedError(None, None, "No space")],
    ids=["disk", "memory", "tensorflow"],
)
def test_a_full_disk_while_decoding_is_not_called_damage(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, error: Exception
) -> None:
    def full(*_: object) -> None:
        raise error

    kept = tmp_path / "mnist" / "3.0.1"
    kept.mkdir(parents=True)
    (kept / "dataset_info.json").write_text("by tfds")
    monkeypatch.setattr(prepare, "_place", lambda *_: kept)
    monkeypatch.setattr(prepare.catalog, "builder", full)
    with pytest.raises(errors.RunError, match="--data_dir: cannot prepare"):
        prepare.decoded_folder("mnist", tmp_path, dataset.ARCHIVES / "mnist")
    assert "damaged" not in capsys.readouterr().err
    assert (kept / "dataset_info.json").read_text() == "by tfds"


def test_a_data_dir_that_cannot_be_written_is_one_line(run_train: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_train(f"--data_dir={tmp_path / 'file'}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --data_dir: {tmp_path / 'file'}") and len(done.stderr.splitlines()) == 1


FAILING = """
import os, pathlib, sys
import flags, train
from common import errors, flagging
from storage import stream

file, kind = pathlib.Path(sys.argv.pop(1)), sys.argv.pop(1)
stream.PART_BYTES, compiled = 100 * 784, train.compiled
happens = {
    "none": lambda: None,
    "cut": lambda: os.truncate(file, 200_000),
    "gone": file.unlink,
    "tensorflow": lambda: train.tf.debugging.assert_equal(1, 2, "on the way"),
    "memory": lambda: train.tf.zeros([2**50]),
}

def breaking(*arguments):
    take, blocks = compiled(*arguments)
    return take, ((happens[kind] if number == 5 else happens["none"])() or block for number, block in enumerate(blocks))

train.compiled = breaking
with errors.one_line(leave=True):
    train.main(flagging.parse(flags.Config, sys.argv, ""))
"""


@pytest.mark.parametrize(
    ("mode", "kind", "words"),
    [
        ("eager", "cut", "cannot be read any more: it ends too soon"),
        ("graph", "gone", "cannot be read any more: No such file or directory"),
        ("xla", "cut", "cannot be read any more: it ends too soon"),
        ("xla", "tensorflow", "TensorFlow failed: on the way"),
        ("xla", "memory", "out of memory (.*): a smaller --batch_size or --input=stream needs less"),
    ],
)
def test_what_fails_while_training_is_one_line_and_checkpoints_are_kept(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path, mode: str, kind: str, words: str
) -> None:
    images = tiny_data_dir / "mnist" / "3.0.1" / decoded.FOLDER / "train_images.npy"
    whole = images.read_bytes()

    def run(kind: str) -> subprocess.CompletedProcess:
        arguments = [f"--data_dir={tiny_data_dir}", f"--checkpoint_dir={tmp_path / 'kept'}", "--checkpoint_every=5"]
        command = [sys.executable, "-c", FAILING, str(images), kind, f"--mode={mode}", "--input=stream", "--epochs=2"]
        more = ["--eval_first=0", "--eval_every=0"]
        return subprocess.run([*command, *arguments, *more], capture_output=True, text=True, cwd=PROJECT, timeout=120)

    failed = run(kind)
    assert failed.returncode == 1 and re.fullmatch(rf"error: .*{words}.*\n", failed.stderr), failed.stderr
    images.write_bytes(whole)
    done = run("none")
    assert done.returncode == 0 and f"goes on from {tmp_path / 'kept'}/step-" in done.stdout, done.stderr


def test_an_error_inside_a_pipeline_is_one_line_without_its_traceback() -> None:
    def parts() -> Iterator[int]:
        yield 1
        raise errors.RunError("file: cannot be read any more")

    pipeline = tf.data.Dataset.from_generator(parts, output_signature=tf.TensorSpec([], tf.int32))
    with pytest.raises(tf.errors.OpError) as caught:
        list(pipeline)
    assert errors.reason(caught.value) == "RunError: file: cannot be read any more"


def test_a_run_killed_three_times_ends_with_the_weights_of_one_never_killed(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    unbroken = runs.Place(tmp_path / "unbroken", tiny_data_dir)
    assert unbroken.run("--epochs=30").returncode == 0
    killed = runs.Place(tmp_path / "killed", tiny_data_dir)
    # The first kill comes before anything is compiled, the others among compilation, training and 30 checkpoints.
    assert killed.killed_run("training,", 0, "--epochs=30")
    for seconds in (0.6, 0.9):
        killed.killed_run("training,", seconds, "--epochs=30")
    assert killed.whole_after(killed.run("--epochs=30"), unbroken.weights()) == ""


def test_a_skipped_fault_is_not_counted_as_held() -> None:
    outcomes = [runs.Outcome("one", held, "") for held in (True, True, False, None)]
    assert faults.counted(outcomes) == "2 of 3 held, 1 skipped"
    text = faults.document([], outcomes[2:], faults.Config(), 1.0)
    assert "| one | NO |" in text and "| one | skipped |" in text


def test_no_folder_of_the_machine_gets_into_the_document(tmp_path: pathlib.Path) -> None:
    place = runs.Place(tmp_path / "kill_1")
    done = subprocess.CompletedProcess([], 1, "", f"{tmp_path}/other: {place.folder}/data in {runs.PROJECT}/x")
    assert place.whole_after(done, "") == "exit 1: /other: /kill_1/data in /x"
