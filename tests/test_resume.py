"""A stopped run goes on from its newest whole checkpoint and ends bit for bit where the run never stopped ends."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

import data
import model
from common import errors, files
from outputs import checkpoints
from storage import decoded, stream
from tests.conftest import PROJECT

Run = Callable[..., dict]

WHOLE = checkpoints.WHOLE
# 95 steps, then 1 of 2; in mode graph, which is compiled soonest, where the mode makes no difference.
SHORT = (
    "--batch_size=7",
    "--epochs=2",
    "--eval_every=50",
    "--eval_first=3",
    "--seed=3",
    "--mode=graph",
)
FEW = ("--batch_size=60", "--checkpoint_every=4", "--mode=graph")  # 11 steps an epoch


@pytest.mark.parametrize("mode", ["xla", "graph", pytest.param("eager", marks=pytest.mark.slow)])
def test_a_resumed_run_ends_with_the_same_record(
    run_here: Run, tmp_path: pathlib.Path, mode: str
) -> None:
    flags = (*SHORT, f"--mode={mode}")
    unbroken = run_here(*flags)
    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    broken = run_here(*flags, kept, "--max_steps=61")
    resumed = run_here(*flags, kept)
    assert broken["weights_sha256"] != unbroken["weights_sha256"]
    assert (resumed["resumed_at_step"], resumed["steps"], resumed["examples"]) == (61, 190, 1320)
    assert resumed["weights_sha256"] == unbroken["weights_sha256"]
    assert resumed["test_accuracy"] == unbroken["test_accuracy"]
    assert [pair for pair in resumed["validation_accuracy"] if pair[0] != 61] == unbroken[
        "validation_accuracy"
    ]


@pytest.mark.slow
def test_more_epochs_go_on_and_the_newest_three_are_kept(
    run_here: Run, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    cost = run_here(*SHORT, kept, "--checkpoint_every=40")["checkpoints"]
    # 0, 40, 80, 120, 160, 190
    assert cost["written"] == 6 and 0 < cost["seconds_at_start"] < cost["seconds"]
    assert kept_steps(tmp_path / "kept") == [120, 160, 190]
    more = run_here(*SHORT, "--epochs=3", kept)
    assert more["weights_sha256"] == run_here(*SHORT, "--epochs=3")["weights_sha256"]
    run_here(*SHORT, "--epochs=3", kept)
    assert "nothing left to do, the run had reached its last step, 285" in capsys.readouterr().out
    assert tf.train.latest_checkpoint(tmp_path / "kept").endswith("step-285")
    with pytest.raises(errors.InputError, match="its run is at step 285, this one ends at step 95"):
        run_here(*SHORT, "--epochs=1", kept)


def kept_steps(folder: pathlib.Path) -> list[int]:
    found = {
        suffix: {path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}")}
        for suffix in WHOLE
    }
    assert found[WHOLE[0]] == found[WHOLE[1]]
    return sorted(int(name.removeprefix("step-")) for name in found[WHOLE[0]])


def test_an_old_checkpoint_goes_only_when_the_new_one_is_on_the_disk(
    run_here: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[list[int]] = []

    def synced(*paths: str | pathlib.Path) -> None:
        there.append(kept_steps(tmp_path))
        assert {pathlib.Path(path).name for path in paths} == {
            *(f"step-{there[-1][-1]}{suffix}" for suffix in WHOLE),
            tmp_path.name,
        }

    monkeypatch.setattr(checkpoints, "synced", synced)
    run_here(*FEW, "--epochs=2", f"--checkpoint_dir={tmp_path}")
    assert there[3:] == [[0, 4, 8, 12], [4, 8, 12, 16], [8, 12, 16, 20], [12, 16, 20, 22]]


def test_damaged_checkpoints_do_not_push_out_those_of_the_run_that_starts_anew(
    run_here: Run, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    flags = (*FEW, "--epochs=2", f"--checkpoint_dir={tmp_path}")
    whole = run_here(*flags)
    for path in tmp_path.glob(f"*{WHOLE[1]}"):
        path.write_bytes(b"")
    run_here(*flags, "--max_steps=6")
    assert capsys.readouterr().err.count("is damaged and passed over") == 3
    assert kept_steps(tmp_path)[:3] == [0, 4, 6]
    again = run_here(*flags)
    assert (again["resumed_at_step"], again["weights_sha256"]) == (6, whole["weights_sha256"])
    assert kept_steps(tmp_path) == [16, 20, 22]


@pytest.mark.parametrize(
    ("first", "second"),
    [pytest.param("memory", "stream", marks=pytest.mark.slow), ("stream", "memory")],
)
def test_another_order_of_the_examples_is_refused(
    run_here: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    flags = (*SHORT, f"--checkpoint_dir={tmp_path / 'kept'}")
    run_here(*flags, "--epochs=1", f"--input={first}", "--noshuffle", "--lr=0.02")
    # the order of the dataset is one and the same
    run_here(*flags, f"--input={second}", "--noshuffle", "--lr=0.02")
    monkeypatch.setattr(stream, "SHARD_BYTES", 2**14)
    monkeypatch.setattr(stream, "PART_BYTES", 2**16)
    flags = (*SHORT, f"--checkpoint_dir={tmp_path / 'shuffled'}")
    run_here(*flags, "--epochs=1", f"--input={first}")
    with pytest.raises(
        errors.InputError,
        match=f"--input={second}: .* another order of the examples, --input={first}",
    ):
        run_here(*flags, f"--input={second}")


def test_a_reached_target_stays_reached(run_here: Run, tmp_path: pathlib.Path) -> None:
    flags = (*SHORT, "--target_accuracy=0.5", "--epochs=9", f"--checkpoint_dir={tmp_path / 'kept'}")
    first, second = (run_here(*flags) for _ in range(2))
    assert second["steps"] == first["steps"] < 855
    assert second["weights_sha256"] == first["weights_sha256"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the checkpoints of steps 10 and 20 of a model whose weights count."""
    folder = tmp_path_factory.mktemp("kept")
    state = tf.Variable(json.dumps({"figures": {"step": 0}}))
    net = model.SoftmaxRegression(784, 10)
    net.W.assign(tf.reshape(tf.range(7840.0), [784, 10]))
    net.b.assign(tf.range(10.0))
    checkpoint = tf.train.Checkpoint(model=net, state=state)
    manager = tf.train.CheckpointManager(
        checkpoint, folder, max_to_keep=None, checkpoint_name="step"
    )
    for step in (10, 20):
        manager.save(checkpoint_number=step)
    return folder


def test_no_flipped_bit_and_no_lost_end_is_read_as_whole(
    kept: pathlib.Path, tmp_path: pathlib.Path
) -> None:
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
            (tmp_path / suffix / f"step-10{suffix}").write_bytes(content)
            try:
                checkpoints.read(tmp_path / suffix / "step-10")
            except (tf.errors.OpError, ValueError, LookupError):
                found_damage += 1
            else:  # the flip is in what nobody needs
                net = model.SoftmaxRegression(784, 10)
                restored = tf.train.Checkpoint(model=net).read(str(tmp_path / suffix / "step-10"))
                restored.assert_existing_objects_matched()
                np.testing.assert_array_equal(net.W, np.arange(7840.0).reshape(784, 10))
                np.testing.assert_array_equal(net.b, np.arange(10.0))
    assert found_damage > 150


def test_a_damaged_newest_checkpoint_is_passed_over_and_said(
    run_here: Run, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "kept"
    flags = (*SHORT, f"--checkpoint_dir={folder}", "--checkpoint_every=40")
    whole = run_here(*flags)
    newest = folder / "step-190.data-00000-of-00001"
    newest.write_bytes(newest.read_bytes()[:-999])
    (folder / "checkpoint").write_bytes(b"\xff\xfe nonsense")
    (folder / "step-70.index").write_bytes(b"half a checkpoint")
    (folder / "step-80_temp").mkdir()
    (folder / "step-by-step.txt").write_text("not ours")
    again, said = run_here(*flags), capsys.readouterr()
    assert (
        said.err.startswith(f"{folder / 'step-190'} is damaged and passed over")
        and len(said.err.splitlines()) == 1
    )
    assert f"goes on from {folder / 'step-160'}\n" in said.out
    assert again["weights_sha256"] == whole["weights_sha256"]
    assert checkpoints.read(folder / "step-190")
    left = {path.name.split(".")[0] for path in folder.iterdir()} - {""}
    assert left == {"checkpoint", "step-120", "step-160", "step-190", "step-by-step"}


def test_a_resume_with_other_flags_is_refused_naming_both_values(
    run_here: Run, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    run_here(*SHORT, kept, "--max_steps=20")
    before = {path: path.read_bytes() for path in (tmp_path / "kept").glob("step-*")}
    others = {
        "--batch_size=8": "--batch_size=7",
        "--lr=0.02": "--lr=0.01",
        "--seed=4": "--seed=3",
        "--shuffle=False": "--shuffle=True",
        "--loss_reduction=mean": "--loss_reduction=sum",
    }
    for other, kept_flag in others.items():
        with pytest.raises(errors.InputError, match=f"{other}.*{kept_flag}"):
            run_here(*SHORT, kept, other)
    assert {path: path.read_bytes() for path in (tmp_path / "kept").glob("step-*")} == before
    run_here(*SHORT, kept, "--mode=xla")
    assert "--mode=xla, before --mode=graph: the last bits may differ" in capsys.readouterr().err


def test_other_versions_and_cores_are_said_in_one_line(
    run_here: Run,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    with monkeypatch.context() as before:
        before.setattr(np, "__version__", "1.2.3")
        before.setattr(tf, "__version__", "2.3.4")
        before.setattr(checkpoints.devices, "cores", lambda: 99)
        before.setattr(checkpoints.devices, "threads", lambda: 98)
        run_here(*SHORT, kept, "--max_steps=20")
    run_here(*SHORT, kept, "--max_steps=30")
    assert capsys.readouterr().err == (
        f"numpy={np.__version__}, tensorflow={tf.__version__}, threads={checkpoints.devices.threads()}, "
        f"cores={checkpoints.devices.cores()}, before numpy=1.2.3, tensorflow=2.3.4, threads=98, cores=99: "
        "the order of the examples and the last bits may differ\n"
    )
    run_here(*SHORT, kept)
    assert capsys.readouterr().err == ""


def test_checkpoints_of_another_format_are_refused_and_stay(
    run_here: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = (*SHORT, f"--checkpoint_dir={tmp_path}", "--max_steps=20")
    monkeypatch.setattr(checkpoints, "FORMAT", 1)
    run_here(*flags)
    monkeypatch.undo()
    with pytest.raises(
        errors.InputError, match="have format 1, this version of the program reads format 3"
    ):
        run_here(*flags)
    assert kept_steps(tmp_path) == [0, 20]


@pytest.mark.parametrize("changed", ["train_images", "train_labels", "test_labels"])
def test_other_examples_under_the_same_name_are_refused(
    run_here: Run,
    tiny_data_dir: pathlib.Path,
    tiny_dataset: data.Dataset,
    tmp_path: pathlib.Path,
    changed: str,
) -> None:
    run_here(*SHORT, f"--checkpoint_dir={tmp_path / 'kept'}", "--max_steps=20")
    path = next(tiny_data_dir.rglob(f"{changed}.npy"))
    array = np.load(path)
    array.flat[100 * array[0].size - 1] ^= 1
    np.save(path, array)
    decoded.describe(path.parent, tiny_dataset.class_names, tiny_dataset.image_shape)
    with pytest.raises(errors.InputError, match=r"data: the run kept in .* has other examples"):
        run_here(*SHORT, f"--checkpoint_dir={tmp_path / 'kept'}")


def test_the_record_tells_the_time_and_the_loss_of_each_evaluation_across_a_resume(
    run_here: Run, tmp_path: pathlib.Path
) -> None:
    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    first = run_here(*SHORT, kept, "--max_steps=61")
    record = run_here(*SHORT, kept)
    steps, seconds, accuracies, losses = zip(*record["evaluations"], strict=True)
    assert steps == (1, 2, 3, 50, 61, 100, 150, 190)
    assert [list(pair) for pair in zip(steps, accuracies, strict=True)] == record[
        "validation_accuracy"
    ]
    assert record["evaluations"][:5] == first["evaluations"]
    assert list(seconds) == sorted(seconds) and seconds[0] > 0
    before = first["seconds"]["train"]
    assert seconds[4] <= before <= seconds[5] and seconds[-1] <= before + record["seconds"]["train"]
    assert losses[0] == pytest.approx(np.log(10)) and losses[-1] == record["final_loss"] < losses[0]


def test_a_record_is_replaced_only_with_overwrite_or_by_the_run_that_goes_on(
    run_here: Run, tmp_path: pathlib.Path
) -> None:
    record, kept = tmp_path / "run.json", f"--checkpoint_dir={tmp_path / 'kept'}"
    flags = (*SHORT, f"--record={record}", "--max_steps=5")
    run_here(*flags, kept)
    record.write_text("of another run")
    run_here(*flags, kept)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("no checkpoint")
    other = f"--checkpoint_dir={tmp_path / 'other'}"
    with pytest.raises(
        errors.InputError,
        match=f"^--record={record}: is there already; give --overwrite, or another",
    ):
        run_here(*flags, other)
    run_here(*flags, other, "--overwrite")


def test_a_record_that_is_there_is_refused_before_tensorflow_is_imported(
    tmp_path: pathlib.Path,
) -> None:
    record = tmp_path / "run.json"
    record.write_text("of another run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow is imported')")
    for more in (
        [],
        [f"--checkpoint_dir={tmp_path / 'new'}"],
        [f"--checkpoint_dir={tmp_path / 'empty'}"],
    ):
        command = [sys.executable, str(PROJECT / "train.py"), f"--record={record}", *more]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=path_of(tmp_path)
        )
        assert done.returncode == 2
        assert (
            done.stderr
            == f"error: --record={record}: is there already; give --overwrite, or another file\n"
        )
    assert record.read_text() == "of another run"
    done = subprocess.run(
        [*command, "--overwrite"], capture_output=True, text=True, timeout=60, env=path_of(tmp_path)
    )
    assert "TensorFlow is imported" in done.stderr


def path_of(folder: pathlib.Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.mark.parametrize(
    "refused",
    [
        ["--export_dir={}/model"],
        ["--lr=1e38"],
        ["--batch_size=99999"],
        ["--dataset=no_such_dataset"],
    ],
)
def test_a_run_that_fails_leaves_no_empty_folder(
    run_here: Run, tmp_path: pathlib.Path, refused: list[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "letter.txt").write_text("not a model")
    before = set(tmp_path.rglob("*"))
    folders = [
        f"--{flag}={tmp_path / 'new' / flag}"
        for flag in ("checkpoint_dir", "logdir", "figures", "export_dir")
    ]
    with pytest.raises((errors.InputError, errors.RunError)):
        run_here(*folders, *(flag.format(tmp_path) for flag in refused))
    new = set(tmp_path.rglob("*")) - before
    assert [path for path in new if path.is_dir() and not any(path.iterdir())] == []
    if refused != ["--lr=1e38"]:  # a run that had begun keeps its checkpoint of step 0
        assert not new


def test_two_runs_do_not_share_a_folder(run_here: Run, tmp_path: pathlib.Path) -> None:
    flags = (*SHORT, f"--checkpoint_dir={tmp_path}", "--max_steps=5")
    with (
        files.locked(tmp_path / ".lock", wait=False),
        pytest.raises(errors.InputError, match="another run is using"),
    ):
        run_here(*flags)
    assert run_here(*flags)["steps"] == 5


@pytest.mark.parametrize("flag", ["checkpoint_dir", "logdir", "export_dir", "figures"])
def test_a_folder_that_cannot_be_written_is_refused(
    run_here: Run, tmp_path: pathlib.Path, flag: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        errors.InputError, match=f"^--{flag}: {tmp_path}.*must be a folder that can be written"
    ):
        run_here(f"--{flag}={tmp_path / 'file' / 'folder' / 'deep'}")


def test_reason_is_one_line() -> None:
    assert errors.reason(OSError(28, "No space left on device")) == "No space left on device"
    words = "{{function_node __wrapped__SaveV2}} two\nlines [Op:SaveV2]"
    assert errors.reason(tf.errors.DataLossError(None, None, words)) == "two lines"
