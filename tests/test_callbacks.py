"""Outputs: refused before the run where they cannot be written, whole after it, of one run."""

import json
import pathlib
import sys

import filelock
import pytest

import train
from common import errors, files

FOLDERS = ("checkpoint_dir", "export_dir", "figures", "logdir", "profile")
SHORT = ("--max_steps=1", "--mode=graph")


@pytest.mark.parametrize("flag", [*FOLDERS, "record"])
def test_a_place_that_cannot_be_written_is_refused(run_here, tmp_path, flag):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.InputError, match=f"^--{flag}[:=].* that can be written"):
        run_here(f"--{flag}={tmp_path / 'file' / 'folder' / 'deep'}")


def folder_with(name):
    def make(place):
        place.mkdir()
        (place / name).write_text("years of work")

    return make


def locked(name):
    return lambda place: filelock.FileLock(place.parent / name).acquire().lock


WRONG = [
    ("record", pathlib.Path.mkdir, ["--overwrite"], "is there already; name another"),
    ("export_dir", folder_with("saved_model.pb"), [], "is there already; name another"),
    ("export_dir", folder_with("letter.txt"), ["--overwrite"], "is there already"),
    ("export_dir", locked(f"{files.OURS}.place.exporting.lock"), [], "another run is using it"),
    ("checkpoint_dir", locked("place/.lock"), [], "another run is using it"),
    ("checkpoint_dir", lambda place: (place / ".lock").mkdir(parents=True), [], "Is a directory"),
]


@pytest.mark.parametrize(("flag", "make", "more", "words"), WRONG)
def test_what_is_there_is_refused_before_the_run_and_stays(
    run_here, tmp_path, monkeypatch, flag, make, more, words
):
    place = tmp_path / "place"
    held = make(place)  # a lock holds as long as it is referred to
    before = set(tmp_path.rglob("*"))
    with monkeypatch.context() as patch:
        patch.delattr(train, "compiled")
        with pytest.raises(errors.InputError, match=f"^--{flag}={place}.*{words}"):
            run_here(f"--{flag}={place}", *more)
    assert {path for path in tmp_path.rglob("*") if path.suffix != ".lock"} <= before
    if hasattr(held, "release"):
        held.release()
        assert run_here(f"--{flag}={place}", *SHORT)["steps"] == 1


@pytest.mark.parametrize(
    ("flag", "module", "file"),
    [
        ("figures", "matplotlib", "plots.txt"),
        ("logdir", "tensorboard.plugins.hparams", "tensorboard.txt"),
    ],
)
def test_without_a_library_a_line_says_what_to_install(
    run_here, tmp_path, monkeypatch, flag, module, file
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(errors.InputError, match=f"^--{flag} needs .*requirements/{file}"):
        run_here(f"--{flag}={tmp_path}")


def test_a_refusal_frees_what_the_callbacks_before_it_have_taken(run_here, tmp_path):
    outputs = [f"--{flag}={tmp_path / flag}" for flag in ("checkpoint_dir", "export_dir")]
    with pytest.raises(errors.InputError):
        run_here(*outputs, "--figures=/dev/null")
    assert run_here(*outputs, *SHORT)["steps"] == 1


def test_a_record_is_replaced_only_with_overwrite_or_by_the_run_that_goes_on(run_here, tmp_path):
    record, kept = tmp_path / "run.json", f"--checkpoint_dir={tmp_path / 'kept'}"
    job = f"--record={record}", *SHORT
    for more in ([kept], [kept], ["--overwrite"]):
        found = run_here(*job, *more)
        assert json.loads(record.read_text()) == found
        record.write_text("of another run")
    folder_with("letter.txt")(tmp_path / "other")
    with pytest.raises(errors.InputError, match=f"^--record={record}: is there already"):
        run_here(*job, f"--checkpoint_dir={tmp_path / 'other'}")


def test_a_record_follows_links(run_here, tmp_path):
    link, real = tmp_path / "link.json", tmp_path / "real" / "run.json"
    link.symlink_to(real)
    run_here(f"--record={link}", *SHORT)
    assert link.is_symlink() and json.loads(real.read_text())["steps"] == 1


@pytest.mark.parametrize("flag", ["export_dir", "figures", "record"])
def test_a_disk_that_is_full_at_the_end_is_one_line(run_here, tmp_path, monkeypatch, flag):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for name in ("export.write", "figures.plots.save", "record.write_atomically"):
        monkeypatch.setattr(f"callbacks.{name}", full)
    place = tmp_path / "new"
    with pytest.raises(errors.RunError, match=f"^--{flag}={place}: cannot be written: No space"):
        run_here(*SHORT, f"--{flag}={place}")


def test_a_run_that_fails_leaves_no_model_and_nothing_temporary(run_here, tmp_path, monkeypatch):
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    kept, models = tmp_path / "kept[1]", tmp_path / "new" / "models"
    with pytest.raises(errors.RunError):
        run_here("--lr=1e38", *SHORT, f"--checkpoint_dir={kept}", f"--export_dir={models / 'mine'}")
    assert kept.exists() and {path.suffix for path in models.iterdir()} == {".lock"}
    assert not [*temporary.iterdir()]
