"""A stopped run goes on from its newest whole checkpoint and ends where one never stopped does."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from callbacks import checkpoints
from common.errors import InputError, RunError
from storage import cache
from tests.conftest import spoilt

INDEX, CONTENT = ".index", ".data-00000-of-00001"
# 95 steps an epoch; in mode graph, which is compiled soonest, where the mode makes no difference.
SHORT = ["--batch_size=7", "--epochs=2", "--eval_every=50", "--eval_first=3", "--mode=graph"]
# 11 steps an epoch
FEW = ["--batch_size=60", "--epochs=2", "--checkpoint_every=4", "--eval_every=0", "--mode=graph"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kept"


@pytest.fixture
def resume(run_here, folder):
    """Runs train.py with a folder of checkpoints; further flags are the arguments."""
    return lambda *more: run_here(*more, f"--checkpoint_dir={folder}")


def kept_steps(folder):
    return sorted(int(path.stem[5:]) for path in folder.glob(f"step-*{CONTENT}"))


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("graph", "lr=[0.01]"),
        pytest.param("eager", "a[!x]*?\\", marks=pytest.mark.slow),
        pytest.param("xla", "kept", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_with_the_same_record_whatever_its_folder_is_called(
    run_here, tmp_path, mode, name
):
    job = (*SHORT, f"--mode={mode}")
    kept = f"--checkpoint_dir={tmp_path / name}"
    unbroken = run_here(*job)
    broken, resumed = run_here(*job, kept, "--max_steps=61"), run_here(*job, kept)
    assert (resumed["resumed_at_step"], resumed["steps"], resumed["examples"]) == (61, 190, 1320)
    for same in ("weights_sha256", "test_accuracy"):
        assert resumed[same] == unbroken[same]
    assert resumed["final_loss"] == pytest.approx(unbroken["final_loss"], rel=1e-5)
    assert resumed["evaluations"][:5] == broken["evaluations"]
    steps, seconds, _, losses = zip(*resumed["evaluations"], strict=True)
    assert steps == (1, 2, 3, 50, 61, 100, 150, 190)
    assert seconds[0] > 0 and list(seconds) == sorted(seconds)
    assert losses[0] == pytest.approx(np.log(10)) and losses[-1] == resumed["final_loss"]


def test_an_old_checkpoint_goes_only_when_the_new_one_is_on_the_disk(resume, folder, monkeypatch):
    there = []

    def synced(*paths):
        there.append(kept_steps(folder))
        newest = f"step-{there[-1][-1]}"
        names = {newest + INDEX, newest + CONTENT, folder.name}
        assert {pathlib.Path(path).name for path in paths} == names

    monkeypatch.setattr(checkpoints, "synced", synced)
    tf.train.CheckpointManager(tf.train.Checkpoint(), folder, 1).save()
    resume(*FEW)
    assert (folder / f"ckpt-1{INDEX}").exists()  # another program's
    assert there[3:] == [[4, 8, 12, 16], [8, 12, 16, 20], [12, 16, 20, 22]]


def test_damaged_checkpoints_do_not_push_out_those_of_the_run_that_starts_anew(
    resume, folder, capsys
):
    resume(*FEW)
    for path in folder.glob(f"*{CONTENT}"):
        path.write_bytes(b"")
    resume(*FEW, "--max_steps=6")
    assert capsys.readouterr().err.count("is damaged and skipped") == 3
    assert resume(*FEW)["resumed_at_step"] == 6


def test_a_damaged_newest_checkpoint_is_passed_over_and_said(resume, folder, capsys):
    whole = resume(*FEW)
    (folder / f"step-22{CONTENT}").write_bytes(b"half of it")
    (folder / f"step-7{INDEX}").write_bytes(b"half a checkpoint")
    (folder / "step-8_temp").mkdir()
    (folder / "step-by-step.txt").write_text("not ours")
    again, said = resume(*FEW), capsys.readouterr()
    assert said.err.startswith(f"{folder / 'step-22'} is damaged and skipped")
    assert said.err.count("\n") == 1 and f"resumes from {folder / 'step-20'}\n" in said.out
    assert again["weights_sha256"] == whole["weights_sha256"]
    left = {path.name for path in folder.iterdir() if path.suffix not in (INDEX, CONTENT)}
    assert left - {".lock"} == {"step-by-step.txt"}
    assert kept_steps(folder) == [16, 20, 22]


def test_no_flipped_bit_and_no_lost_end_is_read_as_whole(resume, folder):
    resume("--max_steps=1", "--mode=graph")
    (path,) = folder.glob(f"step-1{CONTENT}")
    size = path.stat().st_size
    for damage in spoilt(path, range(0, 8 * size, size // 13), range(0, size, size // 7)):
        with pytest.raises((tf.errors.OpError, ValueError, IndexError)):
            assert not checkpoints.read(folder / "step-1"), damage


REFUSED = [
    ("--batch_size=8", "^batch_size=8: .* has batch_size=7;"),
    ("--lr=0.02", "^lr=0.02: .* has lr=0.01;"),
    ("--noshuffle", "^shuffle=False: .* has shuffle=True;"),
    ("--max_steps=10", "is at step 20; raise --epochs or --max_steps"),
    ("--input=stream", "^input=stream: .* has input=memory;"),
]


def test_a_resume_with_other_flags_or_data_is_refused_and_changes_nothing(
    resume, folder, tiny_data_dir, tiny_dataset
):
    resume(*SHORT, "--max_steps=20")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for other, said in REFUSED:
        with pytest.raises(InputError, match=said):
            resume(*SHORT, other)
    (path,) = tiny_data_dir.rglob("test_labels.npy")
    np.save(path, np.zeros_like(np.load(path)))
    cache.describe(path.parent, tiny_dataset.class_names, tiny_dataset.image_shape)
    with pytest.raises(InputError, match=r"^data=\w+: the run kept in .* has data=\w+;"):
        resume(*SHORT)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_other_versions_threads_and_modes_are_said(resume, monkeypatch, capsys):
    resume(*SHORT, "--max_steps=20")
    monkeypatch.setattr(np, "__version__", "1.2.3")
    monkeypatch.setattr(checkpoints.devices, "threads", lambda: 99)
    resume(*SHORT, "--mode=eager", "--max_steps=21")
    said = capsys.readouterr().err
    for other in ("mode=eager", "numpy=1.2.3", "threads=99"):
        assert re.search(f"^{other}: .*; the last bits may differ$", said, re.M)
    assert said.count("\n") == 3


def test_a_run_ends_at_the_target_accuracy_and_stays_there(resume):
    first, second = (resume(*SHORT, "--target_accuracy=0.5", "--epochs=9") for _ in range(2))
    *before, last = (accuracy for _, accuracy in first["validation_accuracy"])
    assert last >= 0.5 > max(before) and second["steps"] == first["steps"] < 855
    assert second["weights_sha256"] == first["weights_sha256"]


def test_a_full_disk_while_training_keeps_the_checkpoints_before(resume, folder, monkeypatch):
    def full(checkpoint, path):
        (folder / "step-16_temp").mkdir()
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    resume(*FEW, "--max_steps=12")
    with monkeypatch.context() as patch:
        patch.setattr(tf.train.Checkpoint, "write", full)
        with pytest.raises(RunError, match=r"^--checkpoint_dir=.* cannot be written: No space"):
            resume(*FEW)
    assert kept_steps(folder) == [4, 8, 12]
    assert resume(*FEW)["resumed_at_step"] == 12
    assert not (folder / "step-16_temp").exists()


def test_a_checkpoint_of_another_program_is_refused(resume, folder):
    tf.train.Checkpoint().write(str(folder / "step-6"))
    with pytest.raises(InputError, match="step-6 is a checkpoint of another program"):
        resume(*FEW)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        # The smaller last batch of an epoch is all that is left.
        (["--batch_size=600", "--loss_reduction=mean", "--max_steps=1"], 2),
        # Nothing is left, and the run before had not to evaluate where this one ends.
        (["--eval_every=0", "--max_steps=4", "--checkpoint_every=3", "--mode=graph"], 3),
    ],
)
def test_a_run_resumed_at_its_end_is_evaluated_there(resume, folder, flags, steps):
    resume(*flags)
    for path in folder.glob("step-4.*"):
        path.unlink()
    record = resume(*flags, f"--max_steps={steps}", "--target_accuracy=1")
    assert record["steps"] == record["evaluations"][-1][0] == steps
