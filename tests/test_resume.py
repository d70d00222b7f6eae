"""A stopped run goes on from its newest whole checkpoint and ends bit for bit where the run never
stopped ends."""

import pathlib
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from callbacks import checkpoints
from common.errors import InputError, RunError
from storage import cache, stream
from tests.conftest import spoilt

INDEX, CONTENT = ".index", ".data-00000-of-00001"
# 95 steps an epoch; in mode graph, which is compiled soonest, where the mode makes no difference.
SHORT = ["--batch_size=7", "--epochs=2", "--eval_every=50", "--eval_first=3", "--mode=graph"]
FEW = ["--batch_size=60", "--checkpoint_every=4", "--epochs=2", "--mode=graph"]  # 11 steps an epoch


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kept"


@pytest.fixture
def resume(run_here, folder):
    """Runs train.py with a folder of checkpoints; further flags are the arguments."""
    return lambda *more: run_here(*more, f"--checkpoint_dir={folder}")


def kept_steps(folder):
    index, content = (
        sorted(int(path.stem[5:]) for path in folder.glob(f"step-*{end}"))
        for end in (INDEX, CONTENT)
    )
    assert index == content
    return index


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("graph", "lr=[0.01]"),
        pytest.param("graph", "a[!x]*?\\", marks=pytest.mark.slow),
        pytest.param("eager", "kept", marks=pytest.mark.slow),
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
    resume(*FEW)
    assert there[3:] == [[0, 4, 8, 12], [4, 8, 12, 16], [8, 12, 16, 20], [12, 16, 20, 22]]


def test_damaged_checkpoints_do_not_push_out_those_of_the_run_that_starts_anew(
    resume, folder, capsys
):
    whole = resume(*FEW)
    for path in folder.glob(f"*{CONTENT}"):
        path.write_bytes(b"")
    resume(*FEW, "--max_steps=6")
    assert capsys.readouterr().err.count("is damaged and passed over") == 3
    again = resume(*FEW)
    assert (again["resumed_at_step"], again["weights_sha256"]) == (6, whole["weights_sha256"])


def test_a_damaged_newest_checkpoint_is_passed_over_and_said(resume, folder, capsys):
    whole = resume(*FEW)
    (folder / f"step-22{CONTENT}").write_bytes(b"half of it")
    (folder / "checkpoint").write_bytes(b"\xff\xfe nonsense")
    (folder / f"step-7{INDEX}").write_bytes(b"half a checkpoint")
    (folder / "step-8_temp").mkdir()
    (folder / "step-by-step.txt").write_text("not ours")
    again, said = resume(*FEW), capsys.readouterr()
    assert said.err.startswith(f"{folder / 'step-22'} is damaged and passed over")
    assert said.err.count("\n") == 1 and f"goes on from {folder / 'step-20'}\n" in said.out
    assert again["weights_sha256"] == whole["weights_sha256"]
    left = {path.name for path in folder.iterdir() if path.suffix not in (INDEX, CONTENT)}
    assert left - {".lock"} == {"checkpoint", "step-by-step.txt"}
    assert kept_steps(folder) == [16, 20, 22]


def test_no_flipped_bit_and_no_lost_end_is_read_as_whole(resume, folder):
    resume("--max_steps=1", "--mode=graph")

    def weights():
        checkpoints.read(folder / "step-1")
        reader = tf.train.load_checkpoint(folder / "step-1")
        return reader.get_tensor("model/W/.ATTRIBUTES/VARIABLE_VALUE")

    whole, damages = weights(), 0
    for path in folder.glob("step-1.*"):
        size = path.stat().st_size
        for damage in spoilt(path, range(0, 8 * size, size // 13), range(0, size, size // 7)):
            try:
                np.testing.assert_array_equal(weights(), whole, damage)  # nobody needs that bit
            except (tf.errors.OpError, ValueError, LookupError):
                damages += 1
    assert damages > 150


REFUSED = [
    ("--batch_size=8", "--batch_size=8: .* has --batch_size=7;"),
    ("--lr=0.02", "--lr=0.02: .* has --lr=0.01;"),
    ("--seed=4", "--seed=4: .* has --seed=0;"),
    ("--noshuffle", "--shuffle=False: .* has --shuffle=True;"),
    ("--loss_reduction=mean", "--loss_reduction=mean: .* has --loss_reduction=sum;"),
    ("--max_steps=10", "its run is at step 20, this one ends at step 10;"),
]


def test_a_resume_with_other_flags_is_refused_and_changes_nothing(resume, folder):
    resume(*SHORT, "--max_steps=20")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for other, said in REFUSED:
        with pytest.raises(InputError, match=said):
            resume(*SHORT, other)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_other_versions_cores_and_modes_are_said(resume, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints.devices, "threads", lambda: 1)
    with monkeypatch.context() as before:
        before.setattr(np, "__version__", "1.2.3")
        before.setattr(tf, "__version__", "2.3.4")
        before.setattr(checkpoints.devices, "cores", lambda: 99)
        resume(*SHORT, "--max_steps=20")
    resume(*SHORT, "--mode=eager", "--max_steps=30")
    said = capsys.readouterr().err
    for before in ("--mode=graph", "numpy=1.2.3", "tensorflow=2.3.4", "cores=99"):
        assert f" has {before}; the last bits may differ" in said
    assert said.count("\n") == 4


def test_checkpoints_of_another_format_are_refused(resume, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(checkpoints, "FORMAT", 1)
        resume(*SHORT, "--max_steps=20")
    with pytest.raises(InputError, match=r"^format=4: .* has format=1;"):
        resume(*SHORT)


def test_other_examples_under_the_same_name_are_refused(resume, tiny_data_dir, tiny_dataset):
    resume(*SHORT, "--max_steps=20")
    (path,) = tiny_data_dir.rglob("test_labels.npy")
    np.save(path, np.zeros_like(np.load(path)))
    cache.describe(path.parent, tiny_dataset.class_names, tiny_dataset.image_shape)
    with pytest.raises(InputError, match=r"^data=\w+: the run kept in .* has data=\w+;"):
        resume(*SHORT)


def test_another_order_of_the_examples_is_refused(resume, monkeypatch):
    monkeypatch.setattr(stream, "BUFFER_BYTES", 2**16)
    resume(*FEW, "--epochs=1", "--input=stream")
    with pytest.raises(InputError, match=r"--input=memory: .* has --input=stream;"):
        resume(*FEW, "--input=memory")


def test_a_stream_that_is_not_shuffled_goes_on_in_memory(run_here, resume):
    job = (*FEW, "--noshuffle")
    resume(*job, "--epochs=1", "--input=stream")
    assert resume(*job)["weights_sha256"] == run_here(*job)["weights_sha256"]


def test_a_reached_target_stays_reached(resume):
    first, second = (resume(*SHORT, "--target_accuracy=0.5", "--epochs=9") for _ in range(2))
    assert second["steps"] == first["steps"] < 855
    assert second["weights_sha256"] == first["weights_sha256"]


def test_a_full_disk_while_training_keeps_the_checkpoints_before(run_here, resume, folder):
    def full(manager, checkpoint_number):
        (folder / "step-16_temp").mkdir()
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    resume(*FEW, "--max_steps=12")
    with (
        mock.patch.object(tf.train.CheckpointManager, "save", full),
        pytest.raises(RunError, match=r"^--checkpoint_dir=.* cannot be written: No space"),
    ):
        resume(*FEW)
    assert kept_steps(folder) == [4, 8, 12]
    assert resume(*FEW)["weights_sha256"] == run_here(*FEW)["weights_sha256"]
    assert not (folder / "step-16_temp").exists()


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
