"""A stopped run goes on from its newest whole checkpoint and ends bit for bit where the run never stopped ends."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

import errors
from extras import checkpoints
from tests.conftest import Command

SHORT = ("--batch_size=7", "--epochs=2", "--eval_every=50", "--eval_first=3", "--seed=3")  # 95 steps, then 1 of 2


def record_of(run_train: Command, tmp_path: pathlib.Path, *arguments: str) -> dict:
    """Returns the record of a run that ended well."""
    path = tmp_path / "record.json"
    done = run_train(f"--record={path}", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text())


@pytest.mark.parametrize("mode", ["xla", "graph", "eager"])
def test_a_resumed_run_ends_with_the_same_record(run_train: Command, tmp_path: pathlib.Path, mode: str) -> None:
    flags = (*SHORT, f"--mode={mode}")
    unbroken = record_of(run_train, tmp_path, *flags)
    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    broken = record_of(run_train, tmp_path, *flags, kept, "--max_steps=61")
    resumed = record_of(run_train, tmp_path, *flags, kept)
    assert broken["weights_sha256"] != unbroken["weights_sha256"]
    assert (resumed["resumed_at_step"], resumed["steps"], resumed["examples"]) == (61, 190, 1320)
    assert resumed["weights_sha256"] == unbroken["weights_sha256"]
    assert resumed["test_accuracy"] == unbroken["test_accuracy"]
    assert [pair for pair in resumed["validation_accuracy"] if pair[0] != 61] == unbroken["validation_accuracy"]


def test_more_epochs_go_on_and_the_newest_three_are_kept(run_train: Command, tmp_path: pathlib.Path) -> None:
    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    record_of(run_train, tmp_path, *SHORT, kept, "--checkpoint_every=40")
    names = sorted(path.name for path in (tmp_path / "kept").glob("*.index"))
    assert names == ["step-120.index", "step-160.index", "step-190.index"]
    more = record_of(run_train, tmp_path, *SHORT, "--epochs=3", kept)
    assert more["weights_sha256"] == record_of(run_train, tmp_path, *SHORT, "--epochs=3")["weights_sha256"]
    again = run_train(*SHORT, "--epochs=3", kept)
    assert "nothing left to do, the run had reached its last step, 285" in again.stdout
    assert tf.train.latest_checkpoint(tmp_path / "kept").endswith("step-285")
    fewer = run_train(*SHORT, "--epochs=1", kept)
    assert fewer.returncode == 2 and "is at step 285" in fewer.stderr


def test_a_reached_target_stays_reached(run_train: Command, tmp_path: pathlib.Path) -> None:
    flags = (*SHORT, "--target_accuracy=0.5", "--epochs=9", f"--checkpoint_dir={tmp_path / 'kept'}")
    first, second = (record_of(run_train, tmp_path, *flags) for _ in range(2))
    assert second["steps"] == first["steps"] < 855
    assert second["weights_sha256"] == first["weights_sha256"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the checkpoints of steps 10 and 20 of a model whose weights count."""
    folder = tmp_path_factory.mktemp("kept")
    state = tf.Variable(json.dumps({"figures": {"step": 0}}))
    W_transposed, b = tf.Variable(tf.reshape(tf.range(7840.0), [10, 784])), tf.Variable(tf.range(10.0))
    checkpoint = tf.train.Checkpoint(W_transposed=W_transposed, b=b, state=state)
    manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=None, checkpoint_name="step")
    for step in (10, 20):
        manager.save(checkpoint_number=step)
    return folder


def test_no_flipped_bit_and_no_lost_end_is_read_as_whole(kept: pathlib.Path, tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    found_damage = 0
    for suffix in checkpoints.WHOLE:
        whole = (kept / f"step-10{suffix}").read_bytes()
        damaged = [whole[: len(whole) * part // 8] for part in range(8)]
        for position in rng.integers(len(whole) * 8, size=100):
            flipped = bytearray(whole)
            flipped[position // 8] ^= 1 << position % 8
            damaged.append(bytes(flipped))
        shutil.copytree(kept, tmp_path / suffix)
        for content in damaged:
            (tmp_path / suffix / f"step-10{suffix}").write_bytes(content)
            try:
                _, W_transposed, b = checkpoints.read(tmp_path / suffix / "step-10")
            except (tf.errors.OpError, ValueError, LookupError):
                found_damage += 1
            else:  # the flip is in what a resume does not read, such as the graph of the objects
                np.testing.assert_array_equal(W_transposed, np.arange(7840.0).reshape(10, 784))
                np.testing.assert_array_equal(b, np.arange(10.0))
    assert found_damage > 150


def test_a_damaged_newest_checkpoint_is_passed_over_and_said(run_train: Command, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "kept"
    flags = (*SHORT, f"--checkpoint_dir={folder}", "--checkpoint_every=40")
    whole = record_of(run_train, tmp_path, *flags)
    newest = folder / "step-190.data-00000-of-00001"
    newest.write_bytes(newest.read_bytes()[:-999])
    (folder / "checkpoint").write_bytes(b"\xff\xfe nonsense")
    (folder / "step-70.index").write_bytes(b"half a checkpoint")
    (folder / "step-80_temp").mkdir()
    (folder / "step-by-step.txt").write_text("not ours")
    done = run_train(*flags, f"--record={tmp_path / 'again.json'}")
    assert done.returncode == 0
    assert f"{folder / 'step-190'} is damaged and passed over" in done.stderr and len(done.stderr.splitlines()) == 1
    assert f"goes on from {folder / 'step-160'}" in done.stdout
    assert json.loads((tmp_path / "again.json").read_text())["weights_sha256"] == whole["weights_sha256"]
    assert checkpoints.read(folder / "step-190")
    left = {path.name.split(".")[0] for path in folder.iterdir()} - {""}
    assert left == {"checkpoint", "step-120", "step-160", "step-190", "step-by-step"}


def test_a_resume_with_other_flags_is_refused_naming_both_values(run_train: Command, tmp_path: pathlib.Path) -> None:
    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    record_of(run_train, tmp_path, *SHORT, kept, "--max_steps=20")
    before = {path: path.read_bytes() for path in (tmp_path / "kept").glob("step-*")}
    others = {
        "--batch_size=8": "--batch_size=7",
        "--lr=0.02": "--lr=0.01",
        "--seed=4": "--seed=3",
        "--shuffle=False": "--shuffle=True",
        "--loss_reduction=mean": "--loss_reduction=sum",
    }
    for other, kept_flag in others.items():
        done = run_train(*SHORT, kept, other)
        assert done.returncode == 2
        assert other in done.stderr and kept_flag in done.stderr and len(done.stderr.splitlines()) == 1
    assert {path: path.read_bytes() for path in (tmp_path / "kept").glob("step-*")} == before
    rounding = run_train(*SHORT, kept, "--mode=graph")
    assert rounding.returncode == 0 and "--mode=graph, before --mode=xla: the last bits may differ" in rounding.stderr


def test_two_runs_do_not_share_a_folder(run_train: Command, tmp_path: pathlib.Path) -> None:
    from files import locked

    with locked(tmp_path / ".lock", wait=False):
        done = run_train(*SHORT, f"--checkpoint_dir={tmp_path}")
    assert done.returncode == 2 and "another run is using it" in done.stderr
    assert run_train(*SHORT, f"--checkpoint_dir={tmp_path}").returncode == 0


def test_a_folder_that_cannot_be_written_is_refused_before_the_run(run_train: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    for flag in ("checkpoint_dir", "logdir", "export_dir"):
        done = run_train(f"--{flag}={tmp_path / 'file' / 'folder'}")
        assert done.returncode == 2 and done.stderr.startswith(f"error: --{flag}={tmp_path}")
        assert len(done.stderr.splitlines()) == 1


def test_reason_is_one_line() -> None:
    assert errors.reason(OSError(28, "No space left on device")) == "No space left on device"
    assert errors.reason(tf.errors.DataLossError(None, None, "two\nlines")) == "two lines"
