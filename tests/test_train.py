"""The program: its plan, its clock, what it shows and records, and its three modes."""

import dataclasses
import io
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import data
import flags
import train
from common import flagging
from common.errors import InputError, RunError
from outputs import screen
from runtime import plan
from runtime.clock import Ledger
from tests import oracle
from tests.conftest import PROJECT


def config(**changes: object) -> flags.Config:
    return flags.Config(**{"batch_size": 10, **changes})


@pytest.mark.parametrize("num_examples", [55_000, 54_321])
@pytest.mark.parametrize(
    "changes",
    [{}, {"epochs": 3}, {"eval_every": 0}, {"eval_every": 77, "eval_first": 3}, {"max_steps": 130}, {"batch_size": 64}],
)
def test_the_plan_takes_every_step_once_and_evaluates_where_the_article_does(num_examples, changes):
    run = config(**changes)
    blocks = list(plan.blocks(run, num_examples, 784))
    steps_per_epoch = math.ceil(num_examples / run.batch_size)
    total = min(run.epochs * steps_per_epoch, run.max_steps or math.inf)
    assert [block.start for block in blocks] == [0, *(block.stop for block in blocks[:-1])]
    assert blocks[-1].stop == total
    marks = {step for step in range(1, total + 1) if run.eval_every and step <= run.eval_first}
    marks |= {step for step in range(1, total + 1) if run.eval_every and step % run.eval_every == 0}
    assert {block.stop for block in blocks if block.evaluate} == marks | {total}
    for block in blocks:
        assert block.start // steps_per_epoch == (block.stop - 1) // steps_per_epoch
        assert block.stop - block.start in plan.BLOCK_SIZES
        if num_examples % run.batch_size and block.stop % steps_per_epoch == 0:
            assert block.stop - block.start == 1


def test_the_plan_from_a_later_step_is_the_rest_of_the_plan():
    whole = list(plan.blocks(config(), 55_000, 784))
    for start in (7, 50, 400):
        rest = list(plan.blocks(config(), 55_000, 784, start))
        assert rest == [block for block in whole if block.start >= start]


def test_large_batches_come_in_blocks_that_fit_memory():
    for block in plan.blocks(config(batch_size=10_000, eval_every=0), 55_000, 784):
        assert block.stop - block.start == 1 or (block.stop - block.start) * 10_000 * 784 <= plan.BLOCK_BYTES


def trainer(dataset: data.Dataset, **changes: object) -> train.Trainer:
    made = train.Trainer(config(**changes), dataset, Ledger())
    made.compile()
    made.train(screen.LiveLine(made.blocks[-1].stop, io.StringIO()))
    return made


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("batch_size", [10, 64])
def test_every_mode_ends_at_the_oracles_weights(tiny_dataset, mode, batch_size):
    ran = trainer(tiny_dataset, mode=mode, batch_size=batch_size, epochs=2, seed=3)
    epochs = [data.epoch_order(660, 3, epoch) for epoch in range(2)]
    W, b, losses = oracle.train(tiny_dataset.train.images, tiny_dataset.train.labels, epochs, batch_size, 0.01)
    np.testing.assert_allclose(ran.model.W, W, atol=1e-5)
    np.testing.assert_allclose(ran.model.b, b, atol=1e-5)
    assert (ran.step, ran.examples) == (len(losses), 1320)


def test_blocks_of_any_length_end_at_the_same_bits(tiny_dataset):
    weights = [
        trainer(tiny_dataset, epochs=2, eval_every=every, eval_first=first).model.W.numpy().tobytes()
        for every, first in ((0, 0), (200, 50), (7, 3))
    ]
    assert weights[0] == weights[1] == weights[2]


def test_gathering_and_rounds_do_not_change_a_bit(tiny_dataset, monkeypatch):
    plain = trainer(tiny_dataset, epochs=2, eval_every=0)
    assert {plain.source.at_once(steps) for steps in (50, 10)} == {50, 10}
    monkeypatch.setattr(data, "GATHERED", 100)  # ten batches at a time, in five rounds of two
    monkeypatch.setattr(plan, "LONG_BLOCK", 50)
    by_parts = trainer(tiny_dataset, epochs=2, eval_every=0)
    assert {by_parts.source.at_once(steps) for steps in (50, 10)} == {10}
    assert by_parts.model.W.numpy().tobytes() == plain.model.W.numpy().tobytes()
    assert by_parts.loss == plain.loss


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_a_program_is_traced_once_for_each_shape_whatever_the_epochs(tiny_dataset, mode, monkeypatch):
    traced: list[tuple[int, int]] = []

    def count(batches: object) -> object:
        def counting(source: data.InMemory, order: object, place: object, batch: int, *which: object) -> object:
            traced.append((which[-1], batch))
            return batches(source, order, place, batch, *which)

        return counting

    if mode == "xla":
        monkeypatch.setattr(data.InMemory, "batches", count(data.InMemory.batches))
        ran = trainer(tiny_dataset, mode=mode, batch_size=64, epochs=4)
        shapes = {ran.source.shape(block.start, block.stop) for block in ran.blocks}
        assert sorted(traced) == sorted((ran.source.at_once(steps), batch) for steps, batch in shapes)
    else:
        import model

        step = model.sgd_step
        monkeypatch.setattr(model, "sgd_step", lambda *batch: traced.append(batch[1].shape) or step(*batch))
        trainer(tiny_dataset, mode=mode, batch_size=64, epochs=4)
        assert sorted(shape[0] for shape in traced) == [20, 64]


def test_a_loss_that_is_not_finite_names_the_step_and_the_lr(tiny_dataset):
    found = r"(the loss is (nan|inf) at|the weights overflow after)"
    with pytest.raises(RunError, match=found + r" step \d+ with --lr=1e\+38"):
        trainer(tiny_dataset, lr=1e38)


def test_the_barrier_comes_before_each_reading_of_the_clock():
    seconds = iter([10.0, 11.0, 13.0, 14.0, 14.5, 20.0])
    events: list[str] = []
    ledger = Ledger(start=9.0, clock=lambda: events.append("clock") or next(seconds))
    ledger.barrier = lambda: events.append("barrier")
    for part in ("train", "train", "data"):
        with ledger(part):
            pass
    assert (ledger.parts["train"], ledger.parts["data"]) == (2.0, 5.5)
    assert events == ["barrier", "clock"] * 6


def test_seconds_add_up_to_the_wall_clock():
    ledger = Ledger(start=1.0, clock=iter([2.0, 5.0, 11.0]).__next__)
    with ledger("train"):
        pass
    seconds = ledger.seconds()
    assert seconds["total"] == 10.0 and seconds["train"] == 3.0 and seconds["other"] == 7.0
    assert sum(value for part, value in seconds.items() if part != "total") == seconds["total"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line_is_rewritten_on_a_terminal_and_plain_elsewhere(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        with screen.LiveLine(5_500, stream) as line:
            for step in (*range(1, 51), *range(200, 5_500, 200), 5_500):
                line.show(step, accuracy=step / 10_000, loss=0.25, images_per_second=812_345.6)
    expected = "step 5,500/5,500 100%  validation 0.5500  loss 0.2500  812,346 images/s"
    lines = plain.getvalue().splitlines()
    assert lines[-1] == expected and 10 <= len(lines) <= 25 and "\x1b" not in plain.getvalue()
    assert expected in terminal.getvalue() and terminal.getvalue().count("\n") == 1
    assert "step 49/5,500" in terminal.getvalue()


def test_the_command_shows_and_records_what_it_did(run_train, tmp_path):
    done = run_train("--epochs=4", "--eval_first=5", "--eval_every=50", f"--record={tmp_path / 'run.json'}")
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("mnist: 660 training, 60 validation, 100 test images · batch 10, lr 0.01, sum loss")
    assert "mode xla on " in lines[0]
    record = json.loads((tmp_path / "run.json").read_text())
    assert lines[-3] == f"test accuracy {record['test_accuracy']:.4f} of 100 images"
    assert [step for step, _ in record["validation_accuracy"]] == [1, 2, 3, 4, 5, 50, 100, 150, 200, 250, 264]
    assert record["steps"] == 264 and record["examples"] == 2640 and 0.8 < record["test_accuracy"] <= 1
    seconds = record["seconds"]
    assert math.isclose(sum(seconds[part] for part in seconds if part != "total"), seconds["total"], rel_tol=1e-9)
    assert record["us_per_step"] == seconds["train"] / 264 * 1e6
    assert record["examples_per_second"] == 2640 / seconds["train"]
    assert len(record["weights_sha256"]) == 64 and record["config"]["eval_first"] == 5
    assert set(record["environment"]) >= {"python", "tensorflow", "tensorflow_datasets", "device_kind", "device_name"}
    assert set(record["environment"]) >= {"cpu_model", "cores", "os", "git_commit", "xla", "tf32"}


def test_a_small_batch_has_one_core_unless_the_user_says_otherwise(run_train, tmp_path):
    for mine, threads in (({}, 1), ({"TF_NUM_INTRAOP_THREADS": "3"}, 3)):
        others = {name: value for name, value in os.environ.items() if name != "TF_NUM_INTRAOP_THREADS"}
        done = run_train("--max_steps=1", f"--record={tmp_path / 'run.json'}", env=others | mine)
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "run.json").read_text())["environment"]["intra_op_threads"] == threads


def test_the_record_holds_the_same_weights_for_the_same_seed_and_others_for_another(run_train, tmp_path):
    def weights(*arguments: str) -> str:
        assert run_train(*arguments, f"--record={tmp_path / 'run.json'}").returncode == 0
        return json.loads((tmp_path / "run.json").read_text())["weights_sha256"]

    assert weights("--seed=1") == weights("--seed=1", "--eval_every=0") != weights("--seed=2")


def test_it_stops_at_the_target_accuracy(run_train):
    done = run_train("--target_accuracy=0.6")
    assert done.returncode == 0
    assert "target accuracy 0.6: reached at step" in done.stdout.splitlines()[-1]
    missed = run_train("--target_accuracy=1", "--max_steps=3")
    assert "target accuracy 1: not reached in" in missed.stdout.splitlines()[-1]


BAD = {
    "batch_size": ("0", "-1", "1.5", "ten"),
    "lr": ("0", "-1", "nan", "inf", "small"),
    "epochs": ("0",),
    "target_accuracy": ("0", "1.2"),
    "mode": ("fast",),
    "device": ("tpu",),
    "shuffle": ("maybe",),
    "loss_reduction": ("median",),
}


@pytest.mark.parametrize("flag,value", [(flag, value) for flag, values in BAD.items() for value in values])
def test_a_bad_flag_is_one_line_that_names_it(flag, value, capsys):
    with pytest.raises(flags.InputError) as error:
        flagging.parse(flags.Config, ["train.py", f"--{flag}={value}"], "")
    assert f"--{flag}={value}: must be " in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("argument", ["--batch_size=0", "--nonsense=1", "stray", "--help"])
def test_a_bad_argument_and_help_answer_without_tensorflow(argument):
    command = [sys.executable, "-X", "importtime", str(PROJECT / "train.py"), argument]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == (0 if argument == "--help" else 2)
    assert "tensorflow" not in done.stderr and "absl.flags" in done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert len(said) == (0 if argument == "--help" else 1) and "Traceback" not in done.stderr


def test_help_lists_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        flagging.parse(flags.Config, ["train.py", "--help"], "A summary.")
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and "A summary." in shown
    told = dict(re.findall(r"^  --(?:\[no\])?(\w+):(.*?)(?=^  -|\Z)", shown, re.MULTILINE | re.DOTALL))
    defaults = {field.name: field.default for field in dataclasses.fields(flags.Config)}
    assert told.keys() == defaults.keys() | {"flagfile", "undefok"}  # these two are absl's
    for name, default in defaults.items():
        written = f"'{str(default).lower() if isinstance(default, bool) else default}'"
        assert re.findall(r"\(default: (.*)\)", told[name]) == ([] if default is None else [written]), name


def test_a_record_follows_links_and_the_umask_and_spares_what_is_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "real" / "run.json")
    before = os.umask(0o027)
    try:
        screen.check_writable("~/link.json")
        screen.write_record("~/link.json", {"steps": 7})
    finally:
        os.umask(before)
    assert link.is_symlink() and json.loads((tmp_path / "real" / "run.json").read_text()) == {"steps": 7}
    assert (tmp_path / "real" / "run.json").stat().st_mode & 0o777 == 0o640
    for path in ("/dev/null", str(tmp_path)):
        with pytest.raises(InputError, match=f"--record={path}: must be a file.*no regular file"):
            screen.check_writable(path)


@pytest.mark.parametrize(
    "arguments,code,said",
    [
        (["--batch_size=661"], 2, "--batch_size=661: must be at most the 660 training images of mnist"),
        (["--record=/no/such/folder/run.json"], 2, "--record=/no/such/folder/run.json: must be a file in a folder"),
        (["--lr=1e38"], 1, "try a smaller --lr"),
        (["--lr=1e38", "--max_steps=1"], 1, "the weights overflow after step 1 with --lr=1e+38: try a smaller"),
    ],
)
def test_later_errors_are_one_line_too(run_train, arguments, code, said):
    done = run_train(*arguments)
    assert done.returncode == code and said in done.stderr and len(done.stderr.splitlines()) == 1


def test_device_gpu_without_a_gpu_names_the_requirements_file(run_train):
    done = run_train("--device=gpu", env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2 and "requirements/gpu.txt" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_full_disk_under_the_output_is_one_line_and_a_reader_that_has_gone_is_none():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", "import errors; errors.exit_with_one_line(lambda: print('x' * 10_000))"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=PROJECT, timeout=60)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "No space left" in done.stderr
    read_end, write_end = os.pipe()
    os.close(read_end)
    gone = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, cwd=PROJECT, timeout=60)
    os.close(write_end)
    assert gone.returncode == 141 and gone.stderr == ""
