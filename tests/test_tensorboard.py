"""The logs, read back by TensorBoard's own reader, and the trace that --profile leaves."""

import re

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

from callbacks import tensorboard
from common import errors


def read(folder):
    reader = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    reader.Reload()
    return reader


def curve(reader, tag):
    events = reader.Tensors(tag)
    return [[event.step, float(tensor_util.make_ndarray(event.tensor_proto))] for event in events]


def test_the_curves_the_flags_and_the_weights_are_those_of_the_run(run_here, tmp_path):
    job = "--max_steps=60", "--eval_first=2", "--eval_every=25", f"--logdir={tmp_path / 'logs'}"
    record = run_here(*job)
    (folder,) = (tmp_path / "logs").iterdir()
    assert re.fullmatch(r"\d{4}(-\d\d){5}", folder.name)
    reader = read(folder)
    accuracies = curve(reader, "validation_accuracy")
    np.testing.assert_allclose(accuracies, record["validation_accuracy"], rtol=1e-6)
    losses = curve(reader, "training_loss")
    assert [step for step, _ in losses] == [1, 2, 25, 50, 60]
    # W = b = 0: all ten as likely
    assert losses[0][1] == pytest.approx(np.log(10))
    assert losses[-1][1] == pytest.approx(record["final_loss"], rel=1e-6)
    assert all(speed > 0 for _, speed in curve(reader, "images_per_second"))
    assert curve(reader, "test_accuracy") == [[60, pytest.approx(record["test_accuracy"])]]
    _, _, *pngs = reader.Tensors("weights")[0].tensor_proto.string_val  # after width and height
    for digit, png in enumerate(pngs):
        rows = tf.io.decode_png(png).numpy().mean(axis=(1, 2))
        # The tiny data's images have a bright row pair where their class is: so do its weights.
        assert len(rows) == 28 and rows.argmax() // 2 == digit
    assert len(pngs) == 10
    metadata = reader.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = plugin_data_pb2.HParamsPluginData.FromString(metadata).session_start_info.hparams
    assert hparams["batch_size"].number_value == 10


def test_a_resumed_run_goes_on_in_its_folder(run_here, tmp_path, monkeypatch):
    job = ["--eval_first=0", "--eval_every=5", "--mode=graph", f"--logdir={tmp_path / 'logs'}"]
    job.append(f"--checkpoint_dir={tmp_path / 'checkpoints'}")
    for steps in (10, 20):
        monkeypatch.setattr(tensorboard.time, "strftime", lambda *_, name=str(steps): name)
        run_here(*job, f"--max_steps={steps}")
    (folder,) = (tmp_path / "logs").iterdir()
    assert [step for step, _ in curve(read(folder), "validation_accuracy")] == [5, 10, 15, 20]
    assert [step for step, _ in curve(read(folder), "test_accuracy")] == [10, 20]


@pytest.mark.parametrize(
    ("arguments", "traced"),
    [
        (["--epochs=2"], True),
        (["--max_steps=20", "--eval_every=0"], False),
    ],
)
def test_a_warm_block_leaves_one_trace_or_a_line_says_that_there_was_none(
    run_here, tmp_path, capsys, arguments, traced
):
    run_here(f"--profile={tmp_path}", *arguments)
    assert len([*tmp_path.glob("plugins/profile/*/*.xplane.pb")]) == traced
    assert ("profile: no trace, the run had no warm block" in capsys.readouterr().out) != traced


def test_a_failure_in_the_traced_block_leaves_its_trace(run_here, tmp_path):
    with pytest.raises(errors.RunError, match="the weights overflow after step 2 "):
        run_here("--lr=2e35", "--eval_first=0", "--eval_every=1", f"--profile={tmp_path}")
    assert len([*tmp_path.glob("plugins/profile/*/*.xplane.pb")]) == 1
