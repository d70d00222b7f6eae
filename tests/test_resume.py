"""A stopped run goes on from its newest whole checkpoint and ends bit for bit where the run never
stopped ends."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

import model
from callbacks import checkpoints
from common import errors
from storage import cache, stream

WHOLE = checkpoints.WHOLE
# 95 steps, then 1 of 2; in mode graph, which is compiled soonest, where the mode makes no
# difference.
SHORT = [
    "--batch_size=7",
    "--epochs=2",
    "--eval_every=50",
    "--eval_first=3",
    "--seed=3",
    "--mode=graph",
]
FEW = ["--batch_size=60", "--checkpoint_every=4", "--epochs=2", "--mode=graph"]  # 11 steps an epoch


def kept_steps(folder):
    found = [{path.stem for path in folder.iterdir() if path.name.endswith(end)} for end in WHOLE]
    assert found[0] == found[1]
    return sorted(int(name.removeprefix("step-")) for name in found[0])


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("xla", "kept"),
        ("graph", "lr=[0.01]"),
        pytest.param("graph", "a[!x]*?\\", marks=pytest.mark.slow),
        pytest.param("eager", "kept", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_with_the_same_record_whatever_its_folder_is_called(
    run_here, tmp_path, mode, name
):
    job = (*SHORT, f"--mode={mode}")
    kept = f"--checkpoint_dir={tmp_path / name}"
    unbroken = run_here(*job)
    broken, resumed = run_here(*job, kept, "--max_steps=61"), run_here(*job, kept)
    assert broken["weights_sha256"] != unbroken["weights_sha256"]
    assert (resumed["resumed_at_step"], resumed["steps"], resumed["examples"]) == (61, 190, 1320)
    for same in ("weights_sha256", "test_accuracy"):
        assert resumed[same] == unbroken[same]
    steps, seconds, accuracies, losses = zip(*resumed["evaluations"], strict=True)
    assert steps == (1, 2, 3, 50, 61, 100, 150, 190)
    pairs = [list(pair) for pair in zip(steps, accuracies, strict=True)]
    assert pairs == resumed["validation_accuracy"]
    assert [pair for pair in pairs if pair[0] != 61] == unbroken["validation_accuracy"]
    assert resumed["evaluations"][:5] == broken["evaluations"]
    assert list(seconds) == sorted(seconds) and seconds[0] > 0
    before = broken["seconds"]["train"]
    assert seconds[4] <= before <= seconds[5]
    assert seconds[-1] <= before + resumed["seconds"]["train"]
    assert losses[0] == pytest.approx(np.log(10)) and losses[-1] == resumed["final_loss"]


@pytest.mark.slow
def test_more_epochs_go_on_and_the_newest_three_are_kept(run_here, tmp_path, capsys):
    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    run_here(*SHORT, kept, "--checkpoint_every=40")
    assert kept_steps(tmp_path / "kept") == [120, 160, 190]
    more = run_here(*SHORT, "--epochs=3", kept)
    assert more["weights_sha256"] == run_here(*SHORT, "--epochs=3")["weights_sha256"]
    run_here(*SHORT, "--epochs=3", kept)
    assert "nothing left to do, the run had reached its last step, 285" in capsys.readouterr().out
    assert tf.train.latest_checkpoint(tmp_path / "kept").endswith("step-285")
    with pytest.raises(errors.InputError, match="its run is at step 285, this one ends at step 95"):
        run_here(*SHORT, "--epochs=1", kept)


def test_an_old_checkpoint_goes_only_when_the_new_one_is_on_the_disk(
    run_here, tmp_path, monkeypatch
):
    there = []
    folder = tmp_path / "lr=[0.01]"

    def synced(*paths):
        there.append(kept_steps(folder))
        names = {*(f"step-{there[-1][-1]}{suffix}" for suffix in WHOLE), folder.name}
        assert {pathlib.Path(path).name for path in paths} == names

    monkeypatch.setattr(checkpoints, "synced", synced)
    run_here(*FEW, f"--checkpoint_dir={folder}")
    assert there[3:] == [[0, 4, 8, 12], [4, 8, 12, 16], [8, 12, 16, 20], [12, 16, 20, 22]]


def test_damaged_checkpoints_do_not_push_out_those_of_the_run_that_starts_anew(
    run_here, tmp_path, capsys
):
    job = (*FEW, f"--checkpoint_dir={tmp_path}")
    whole = run_here(*job)
    for path in tmp_path.glob(f"*{WHOLE[1]}"):
        path.write_bytes(b"")
    run_here(*job, "--max_steps=6")
    assert capsys.readouterr().err.count("is damaged and passed over") == 3
    assert kept_steps(tmp_path)[:3] == [0, 4, 6]
    again = run_here(*job)
    assert (again["resumed_at_step"], again["weights_sha256"]) == (6, whole["weights_sha256"])
    assert kept_steps(tmp_path) == [16, 20, 22]


@pytest.mark.parametrize(
    ("first", "second"),
    [pytest.param("memory", "stream", marks=pytest.mark.slow), ("stream", "memory")],
)
def test_another_order_of_the_examples_is_refused(run_here, tmp_path, monkeypatch, first, second):
    job = (*SHORT, f"--checkpoint_dir={tmp_path / 'kept'}", "--noshuffle", "--lr=0.02")
    run_here(*job, "--epochs=1", f"--input={first}")
    # the order of the dataset is one and the same
    run_here(*job, f"--input={second}")
    monkeypatch.setattr(stream, "SHARD_BYTES", 2**14)
    monkeypatch.setattr(stream, "BUFFER_BYTES", 2**16)
    job = (*SHORT, f"--checkpoint_dir={tmp_path / 'shuffled'}")
    run_here(*job, "--epochs=1", f"--input={first}")
    with pytest.raises(errors.InputError, match=f"--input={second}: .* has --input={first};"):
        run_here(*job, f"--input={second}")


def test_a_reached_target_stays_reached(run_here, tmp_path):
    job = (*SHORT, "--target_accuracy=0.5", "--epochs=9", f"--checkpoint_dir={tmp_path / 'kept'}")
    first, second = (run_here(*job) for _ in range(2))
    assert second["steps"] == first["steps"] < 855
    assert second["weights_sha256"] == first["weights_sha256"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with a checkpoint of a model whose weights count."""
    folder = tmp_path_factory.mktemp("kept")
    state = tf.Variable(json.dumps({"figures": {"step": 0}}))
    net = model.SoftmaxRegression(784, 10)
    net.W.assign(tf.reshape(tf.range(7840.0), [784, 10]))
    net.b.assign(tf.range(10.0))
    tf.train.Checkpoint(model=net, state=state).write(str(folder / "step-10"))
    return folder


def test_no_flipped_bit_and_no_lost_end_is_read_as_whole(kept, tmp_path):
    rng = np.random.default_rng(0)
    found_damage = 0
    for suffix in WHOLE:
        whole = (kept / f"step-10{suffix}").read_bytes()
        damaged = [whole[: len(whole) * part // 8] for part in range(8)]
        for position in rng.integers(len(whole) * 8, size=100):
            flipped = bytearray(whole)
            flipped[position // 8] ^= 1 << position % 8
            damaged.append(bytes(flipped))
        shutil.copytree(kept, tmp_path / suffix)
        for content in damaged:
            path = tmp_path / suffix / "step-10"
            path.with_name(f"step-10{suffix}").write_bytes(content)
            try:
                checkpoints.read(path)
            except (tf.errors.OpError, ValueError, LookupError):
                found_damage += 1
            else:  # the flip is in what nobody needs
                net = model.SoftmaxRegression(784, 10)
                tf.train.Checkpoint(model=net).read(str(path)).assert_existing_objects_matched()
                np.testing.assert_array_equal(net.W, np.arange(7840.0).reshape(784, 10))
                np.testing.assert_array_equal(net.b, np.arange(10.0))
    assert found_damage > 150


def test_a_damaged_newest_checkpoint_is_passed_over_and_said(run_here, tmp_path, capsys):
    folder = tmp_path / "kept"
    job = (*SHORT, f"--checkpoint_dir={folder}", "--checkpoint_every=40")
    whole = run_here(*job)
    newest = folder / "step-190.data-00000-of-00001"
    newest.write_bytes(newest.read_bytes()[:-999])
    (folder / "checkpoint").write_bytes(b"\xff\xfe nonsense")
    (folder / "step-70.index").write_bytes(b"half a checkpoint")
    (folder / "step-80_temp").mkdir()
    (folder / "step-by-step.txt").write_text("not ours")
    again, said = run_here(*job), capsys.readouterr()
    assert said.err.startswith(f"{folder / 'step-190'} is damaged and passed over")
    assert said.err.count("\n") == 1 and f"goes on from {folder / 'step-160'}\n" in said.out
    assert again["weights_sha256"] == whole["weights_sha256"]
    assert checkpoints.read(folder / "step-190")
    left = {path.name.split(".")[0] for path in folder.iterdir()} - {""}
    assert left == {"checkpoint", "step-120", "step-160", "step-190", "step-by-step"}


def test_a_resume_with_other_flags_is_refused_naming_both_values(run_here, tmp_path, capsys):
    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    run_here(*SHORT, kept, "--max_steps=20")
    before = {path: path.read_bytes() for path in (tmp_path / "kept").glob("step-*")}
    for other, kept_flag in {
        "--batch_size=8": "--batch_size=7",
        "--lr=0.02": "--lr=0.01",
        "--seed=4": "--seed=3",
        "--shuffle=False": "--shuffle=True",
        "--loss_reduction=mean": "--loss_reduction=sum",
    }.items():
        with pytest.raises(errors.InputError, match=f"{other}.*{kept_flag}"):
            run_here(*SHORT, kept, other)
    assert {path: path.read_bytes() for path in (tmp_path / "kept").glob("step-*")} == before
    run_here(*SHORT, kept, "--mode=xla")
    said = capsys.readouterr().err
    assert said.startswith("--mode=xla: the run kept in ") and said.count("\n") == 1
    assert "has --mode=graph; the last bits may differ" in said


def test_other_versions_and_cores_are_said(run_here, tmp_path, monkeypatch, capsys):
    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    with monkeypatch.context() as before:
        before.setattr(np, "__version__", "1.2.3")
        before.setattr(tf, "__version__", "2.3.4")
        before.setattr(checkpoints.devices, "cores", lambda: 99)
        before.setattr(checkpoints.devices, "threads", lambda: 98)
        run_here(*SHORT, kept, "--max_steps=20")
    run_here(*SHORT, kept, "--max_steps=30")
    said = capsys.readouterr().err.splitlines()
    for line, name, before in zip(
        said, ("numpy", "tensorflow", "threads", "cores"), ("1.2.3", "2.3.4", 98, 99), strict=True
    ):
        assert line.startswith(f"{name}=") and f" has {name}={before}; the last bits" in line
    run_here(*SHORT, kept)
    assert capsys.readouterr().err == ""


def test_checkpoints_of_another_format_are_refused_and_stay(run_here, tmp_path, monkeypatch):
    job = (*SHORT, f"--checkpoint_dir={tmp_path}", "--max_steps=20")
    monkeypatch.setattr(checkpoints, "FORMAT", 1)
    run_here(*job)
    monkeypatch.undo()
    with pytest.raises(errors.InputError, match=r"^format=4: .* has format=1;"):
        run_here(*job)
    assert kept_steps(tmp_path) == [0, 20]


@pytest.mark.parametrize("changed", ["train_images", "train_labels", "test_labels"])
def test_other_examples_under_the_same_name_are_refused(
    run_here, tiny_data_dir, tiny_dataset, tmp_path, changed
):
    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    run_here(*SHORT, kept, "--max_steps=20")
    path = next(tiny_data_dir.rglob(f"{changed}.npy"))
    array = np.load(path)
    array.flat[100 * array[0].size - 1] ^= 1
    np.save(path, array)
    cache.describe(path.parent, tiny_dataset.class_names, tiny_dataset.image_shape)
    with pytest.raises(errors.InputError, match=r"^data=\w+: the run kept in .* has data=\w+;"):
        run_here(*SHORT, kept)


def test_a_full_disk_while_training_keeps_the_checkpoints_before(run_here, tmp_path, monkeypatch):
    job = (*FEW, f"--checkpoint_dir={tmp_path / 'kept'}")
    whole, save = run_here(*FEW), tf.train.CheckpointManager.save

    def full(manager, checkpoint_number):
        if checkpoint_number == 16:
            (tmp_path / "kept" / "step-16_temp").mkdir()
            raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")
        return save(manager, checkpoint_number)

    with monkeypatch.context() as patch:
        patch.setattr(tf.train.CheckpointManager, "save", full)
        with pytest.raises(
            errors.RunError, match=r"^--checkpoint_dir=.* cannot be written: No space"
        ):
            run_here(*job)
    assert kept_steps(tmp_path / "kept") == [4, 8, 12]
    assert run_here(*job)["weights_sha256"] == whole["weights_sha256"]
    assert not (tmp_path / "kept" / "step-16_temp").exists()


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        # The smaller last batch of an epoch is all that is left.
        (["--batch_size=600", "--loss_reduction=mean", "--max_steps=1"], "--max_steps=2"),
        # Nothing is left, and the run before had not to evaluate where this one ends.
        (["--eval_every=0", "--max_steps=4", "--checkpoint_every=3"], "--max_steps=3"),
    ],
)
def test_a_run_resumed_at_its_end_is_evaluated_there(run_here, tmp_path, flags, steps):
    folder = tmp_path / "kept"
    run_here(*flags, f"--checkpoint_dir={folder}")
    for name in ("step-4.index", "step-4.data-00000-of-00001"):
        (folder / name).unlink(missing_ok=True)
    record = run_here(*flags, steps, f"--checkpoint_dir={folder}", "--target_accuracy=1")
    assert record["steps"] == int(steps[-1])
    assert record["evaluations"][-1][0] == record["steps"]
