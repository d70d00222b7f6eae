"""Outputs: refused before the run where they cannot be written, whole afterwards, and of one run at
a time."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

import callbacks
import train
from common import errors, files
from tests.conftest import PROJECT

FOLDERS = ("checkpoint_dir", "export_dir", "figures", "logdir", "profile")


@pytest.mark.parametrize("flag", [*FOLDERS, "record"])
def test_a_place_that_cannot_be_written_is_refused(run_here, tmp_path, flag):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.InputError, match=f"^--{flag}[:=].* that can be written"):
        run_here(f"--{flag}={tmp_path / 'file' / 'folder' / 'deep'}")


def letter(place):
    place.mkdir()
    (place / "letter.txt").write_text("years of work")


def model_there(place):
    place.mkdir()
    (place / "saved_model.pb").write_text("a model")


def picture_that_is_a_folder(place):
    (place / "weights.png").mkdir(parents=True)


def locked_for_export(place):
    return files.locked(place.with_name(f"{files.OURS}.place.lock"), wait=False)


WRONG = [
    ("record", pathlib.Path.touch, [], "is there already; give --overwrite, or another"),
    ("record", pathlib.Path.mkdir, ["--overwrite"], "must be a file .*no regular file"),
    ("export_dir", model_there, [], "is there already; give --overwrite, or another"),
    ("export_dir", letter, ["--overwrite"], "is not a SavedModel"),
    ("export_dir", locked_for_export, [], "another run writes to it"),
    (
        *("checkpoint_dir", lambda place: files.locked(place / ".lock", wait=False), []),
        "another run is using it",
    ),
    ("figures", picture_that_is_a_folder, [], "must be a file .*no regular file"),
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
    assert set(tmp_path.rglob("*")) == before
    if hasattr(held, "release"):
        held.release()
        assert run_here(f"--{flag}={place}", "--max_steps=1", "--mode=graph")["steps"] == 1


@pytest.mark.parametrize(
    ("flag", "module", "file"),
    [("figures", "matplotlib", "plots.txt"), ("logdir", "tensorboard", "tensorboard.txt")],
)
def test_without_a_library_one_line_says_what_to_install(run_train, tmp_path, flag, module, file):
    (tmp_path / f"{module}.py").write_text("raise ImportError")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    done = run_train(f"--{flag}={tmp_path / 'new'}", cwd=tmp_path, env=environment)
    assert done.returncode == 2 and done.stderr.startswith(f"error: --{flag} needs ")
    assert f"requirements/{file}" in done.stderr and done.stderr.count("\n") == 1


def test_a_refusal_frees_what_the_callbacks_before_it_have_taken(run_here, tmp_path):
    letter(tmp_path / "model")
    kept, new = f"--checkpoint_dir={tmp_path / 'kept'}", f"--export_dir={tmp_path / 'new'}"
    for arguments in ([kept, f"--export_dir={tmp_path / 'model'}"], [new, "--figures=/dev/null"]):
        with pytest.raises(errors.InputError):
            run_here(*arguments)
    assert run_here(kept, new, "--max_steps=1", "--mode=graph")["steps"] == 1


def test_a_record_that_is_there_is_refused_before_tensorflow_is_imported(tmp_path):
    record = tmp_path / "run.json"
    record.write_text("of another run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow is imported')")

    def run(*more):
        command = [sys.executable, str(PROJECT / "train.py"), f"--record={record}", *more]
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)

    for more in ([], [f"--checkpoint_dir={tmp_path / 'new'}"]):
        done = run(*more)
        assert done.returncode == 2 and f"--record={record}: is there already" in done.stderr
    assert record.read_text() == "of another run"
    assert "TensorFlow is imported" in run("--overwrite").stderr


def test_a_record_is_replaced_only_with_overwrite_or_by_the_run_that_goes_on(run_here, tmp_path):
    record, kept = tmp_path / "run.json", f"--checkpoint_dir={tmp_path / 'kept'}"
    job = f"--record={record}", "--max_steps=5", "--mode=graph"
    for more in ([kept], [kept], ["--overwrite"]):
        found = run_here(*job, *more)
        assert json.loads(record.read_text()) == found
        record.write_text("of another run")
    letter(tmp_path / "other")
    with pytest.raises(errors.InputError, match=f"^--record={record}: is there already"):
        run_here(*job, f"--checkpoint_dir={tmp_path / 'other'}")


def test_a_record_follows_links_and_the_umask(run_here, tmp_path):
    (tmp_path / "real").mkdir()
    link, real = tmp_path / "link.json", tmp_path / "real" / "run.json"
    link.symlink_to(real)
    before = os.umask(0o027)
    try:
        run_here(f"--record={link}", "--max_steps=1", "--mode=graph")
    finally:
        os.umask(before)
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o640
    assert json.loads(real.read_text())["steps"] == 1


@pytest.mark.parametrize("flag", ["export_dir", "figures", "record", "logdir"])
def test_a_disk_that_is_full_at_the_end_is_one_line(run_here, tmp_path, monkeypatch, flag):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for name in ("export.write", "figures.plots.save", "record.write_atomically"):
        monkeypatch.setattr(f"callbacks.{name}", full)
    monkeypatch.setattr(callbacks.tensorboard.tf.summary, "image", full)
    place = tmp_path / "new"
    with pytest.raises(errors.RunError, match=f"^--{flag}={place}: cannot be written: No space"):
        run_here("--max_steps=1", "--mode=graph", f"--{flag}={place}")


def test_a_run_that_fails_or_is_refused_leaves_no_model_and_no_lock(run_train, tmp_path):
    done = run_train("--lr=1e38", f"--export_dir={tmp_path / 'new' / 'models' / 'mine'}")
    assert done.returncode == 1, done.stderr
    assert [*(tmp_path / "new" / "models").iterdir()] == []


def test_a_run_leaves_nothing_in_the_folder_for_temporary_files(run_train, tmp_path):
    (place := tmp_path / "temporary").mkdir()
    job = "--mode=graph", "--max_steps=5", f"--checkpoint_dir={tmp_path / 'kept[1]'}"
    done = run_train(*job, env=os.environ | {"TMPDIR": str(place)})
    assert done.returncode == 0 and [*place.iterdir()] == []
