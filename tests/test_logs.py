"""The logs, read back by TensorBoard's own reader."""

import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

import data
import flags
import model
import train
from outputs import checkpoints, logs, observers
from runtime import strategies
from runtime.clock import Ledger

Run = Callable[..., dict]


@pytest.fixture
def written(run_here: Run, tmp_path: pathlib.Path) -> tuple[dict, EventAccumulator]:
    """The record of a short run and what TensorBoard reads of its logs."""
    record = run_here(
        "--max_steps=60", "--eval_first=2", "--eval_every=25", f"--logdir={tmp_path / 'logs'}"
    )
    return record, read(tmp_path / "logs" / "max_steps=60,mode=xla,eval_first=2,eval_every=25")


def read(folder: pathlib.Path) -> EventAccumulator:
    reader = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    reader.Reload()
    return reader


def curve(reader: EventAccumulator, tag: str) -> list[list[float]]:
    return [
        [event.step, float(tensor_util.make_ndarray(event.tensor_proto))]
        for event in reader.Tensors(tag)
    ]


def test_the_curves_are_those_of_the_record(written: tuple[dict, EventAccumulator]) -> None:
    record, reader = written
    np.testing.assert_allclose(
        curve(reader, "validation_accuracy"), record["validation_accuracy"], rtol=1e-6
    )
    assert [step for step, _ in curve(reader, "training_loss")] == [1, 2, 25, 50, 60]
    # W = b = 0: all ten as likely
    assert curve(reader, "training_loss")[0][1] == pytest.approx(np.log(10))
    assert curve(reader, "training_loss")[-1][1] == pytest.approx(record["final_loss"], rel=1e-6)
    assert all(speed > 0 for _, speed in curve(reader, "images_per_second"))
    assert curve(reader, "test_accuracy") == [[60, pytest.approx(record["test_accuracy"])]]


def test_there_is_a_picture_of_the_weights_of_each_class(
    written: tuple[dict, EventAccumulator],
) -> None:
    _, reader = written
    for digit in range(10):
        width, height, png = reader.Tensors(f"weights/{digit}")[0].tensor_proto.string_val
        assert (width, height) == (b"28", b"28")
        rows = tf.io.decode_png(png).numpy()[..., 0].mean(axis=1)
        # The tiny data's images have a bright row pair where their class is: so do its weights.
        assert sorted(np.argsort(rows)[-2:].tolist()) == [2 * digit, 2 * digit + 1]


def test_the_flags_are_there_as_text_and_as_hparams(written: tuple[dict, EventAccumulator]) -> None:
    _, reader = written
    text = reader.Tensors("flags")[0].tensor_proto.string_val[0].decode()
    assert "--max_steps=60\n" in text and "--lr=0.01\n" in text
    metadata = reader.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    flags = plugin_data_pb2.HParamsPluginData.FromString(metadata).session_start_info.hparams
    assert flags["batch_size"].number_value == 10 and flags["mode"].string_value == "xla"


def test_pictures_are_grey_where_a_weight_is_nothing() -> None:
    softmax = model.SoftmaxRegression(12, 3)
    np.testing.assert_array_equal(logs.pictures(softmax, (2, 2, 3)), np.full([3, 2, 2, 3], 0.5))
    softmax.W.assign(np.diag([2, -1, 0]).repeat([1, 1, 10], axis=0).astype(np.float32))
    shown = logs.pictures(softmax, (2, 2, 3))
    assert (shown[0, 0, 0, 0], shown[1, 0, 0, 1], shown[2, 0, 0, 2]) == (1, 0.25, 0.5)


def test_each_run_has_a_folder_of_its_own_and_a_resume_goes_on_in_its_own(
    run_here: Run, tmp_path: pathlib.Path
) -> None:
    job = ("--eval_first=0", "--eval_every=5", "--mode=graph", f"--logdir={tmp_path}")
    first, second = (f"--checkpoint_dir={tmp_path / 'kept' / name}" for name in ("first", "second"))
    for kept in (first, second):
        run_here(*job, kept, "--max_steps=10")
    for kept in (first, second):
        run_here(*job, kept, "--max_steps=20")
    run_here("--eval_first=0", "--max_steps=1", "--lr=0.5", f"--logdir={tmp_path}")
    own = [
        "max_steps=10,mode=graph,eval_first=0,eval_every=5",
        "max_steps=10,mode=graph,eval_first=0,eval_every=5_2",
    ]
    other = "lr=0.5,max_steps=1,mode=xla,eval_first=0"
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "data", other, *own}
    for name in own:
        assert [step for step, _ in curve(read(tmp_path / name), "validation_accuracy")] == [
            5,
            10,
            15,
            20,
        ]
        assert [step for step, _ in curve(read(tmp_path / name), "test_accuracy")] == [10, 20]


def test_the_first_checkpoint_knows_the_folder_of_the_logs(
    tiny_dataset: data.Dataset, tmp_path: pathlib.Path
) -> None:
    folders = {"logdir": str(tmp_path / "logs"), "checkpoint_dir": str(tmp_path / "kept")}
    state = train.start(
        flags.training_config(mode="xla", **folders), tiny_dataset, Ledger(), strategies.OneDevice()
    )
    observers.asked_for(state)
    kept = checkpoints.read(tmp_path / "kept" / "step-0")
    assert [kept["figures"]["log"]] == [path.name for path in (tmp_path / "logs").iterdir()]


def test_a_run_is_named_after_the_flags_that_differ() -> None:
    assert (
        logs.name_of(flags.training_config(data_dir="/here", logdir="run/logs", record="run.json"))
        == "defaults"
    )
    named = flags.training_config(
        dataset="emnist/letters:3.0.1", lr=0.5, shuffle=False, target_accuracy=0.9
    )
    assert (
        logs.name_of(named)
        == "dataset=emnist-letters-3.0.1,lr=0.5,shuffle=False,target_accuracy=0.9"
    )
    assert len(logs.name_of(flags.training_config(dataset="a" * 300))) < 250


def test_without_tensorboard_one_line_says_what_to_install(
    run_train: Callable, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "tensorboard.py").write_text("raise ImportError")
    done = run_train(
        f"--logdir={tmp_path / 'logs'}", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}
    )
    assert done.returncode == 2
    expected = (
        "error: --logdir needs TensorBoard: python -m pip install -r requirements/tensorboard.txt\n"
    )
    assert done.stderr == expected
