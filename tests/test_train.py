"""The program: its clock, what it shows and records, its flags and its errors."""

import itertools
import json
import os
import re
import subprocess
import sys
import time
from unittest import mock

import pytest
import tensorflow as tf

import flags
import train
from common import commandline, errors
from common.errors import InputError, RunError, Stopped
from runtime import devices
from runtime.clock import Ledger
from tests import conftest
from tests.conftest import PROJECT, python, trained


def parsed(*arguments, summary=""):
    return commandline.parse(flags.train_flags(), ["train.py", *arguments], summary)


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"eval_every": 0}, 66),
        ({"max_steps": 1}, 1),
    ],
)
def test_what_is_not_finite_names_the_step_and_the_lr(tiny_dataset, changes, step):
    with pytest.raises(RunError, match=rf" overflow after step {step} with --lr=1e\+38: try"):
        trained(tiny_dataset, mode="graph", lr=1e38, **changes)


def test_the_barrier_comes_before_each_reading_of_the_clock_and_seconds_add_up():
    seconds, events = iter([9.0, 10.0, 11.0, 13.0, 14.0, 20.0]), []
    ledger = Ledger(lambda: events.append("clock") or next(seconds))
    ledger.barrier = lambda: events.append("barrier")
    for part in ("train", "data"):
        with ledger(part):
            pass
    found = ledger.seconds()
    assert [found[part] for part in ("train", "data", "other", "total")] == [1, 1, 9, 11]
    assert events == ["clock", *["barrier", "clock"] * 5]


def test_the_time_of_training_has_no_evaluation_in_it(run_here, monkeypatch):
    evaluated, count = [], train.num_correct
    monkeypatch.setattr(train, "num_correct", lambda *of: evaluated.append(of) or count(*of))
    # an evaluation takes 1,000 seconds more
    ledger = Ledger(clock=lambda: 1000 * len(evaluated) + time.perf_counter())
    monkeypatch.setattr(conftest, "Ledger", lambda: ledger)
    seconds = run_here("--max_steps=5", "--eval_first=2", "--mode=graph")["seconds"]
    # the first belongs to compiling
    assert seconds["train"] < 1000 and seconds["evaluate"] // 1000 == len(evaluated) - 1 >= 3


def test_the_command_shows_and_records_what_it_did(tiny_data_dir, tmp_path):
    record = tmp_path / "new" / "run.json"
    command = ["train.py", f"--data_dir={tiny_data_dir}", f"--record={record}"]
    command += ["--epochs=4", "--eval_first=2", "--eval_every=100"]
    done = python(*command, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"})
    assert done.returncode == 0 and done.stderr == ""
    lines, found = done.stdout.splitlines(), json.loads(record.read_text())
    assert f"test accuracy {found['test_accuracy']:.4f} of 100 images" in lines
    assert [step for step, _ in found["validation_accuracy"]] == [1, 2, 100, 200, 264]
    assert (found["steps"], found["examples"]) == (264, 2640) and 0.8 < found["test_accuracy"] <= 1
    assert found["us_per_step"] == found["seconds"]["train"] / 264 * 1e6
    assert found["examples_per_second"] == 2640 / found["seconds"]["train"]


@pytest.mark.parametrize(
    ("batch_size", "given", "chosen"),
    [(10, {}, [1]), (500, {}, [7]), (10, {"TF_NUM_INTRAOP_THREADS": "3"}, [3])],
)
def test_a_small_batch_has_one_core_unless_the_user_says_otherwise(
    run_here, monkeypatch, batch_size, given, chosen
):
    monkeypatch.setattr(devices, "cores", lambda: 7)
    threading = "tensorflow.config.threading.set_intra_op_parallelism_threads"
    with mock.patch.dict(os.environ, given), mock.patch(threading) as limited:
        run_here("--max_steps=1", "--mode=graph", "--device=cpu", f"--batch_size={batch_size}")
    assert limited.mock_calls == [mock.call(threads) for threads in chosen]


def test_a_batch_larger_than_the_data_is_refused(run_here):
    with pytest.raises(InputError, match=r"^--batch_size=661: .* at most the 660 training"):
        run_here("--batch_size=661")


@pytest.mark.parametrize(
    ("flags_of", "values", "said"),
    [
        (["batch_size"], ["0", "1.5", "ten"], "must be .*"),
        (["lr"], ["0", "-1", "nan", "inf", "small"], "must be a .*"),
        (["epochs"], ["0"], "must be .*"),
        (["target_accuracy"], ["0", "1.2", "nan"], "must be a .*"),
        (["mode"], ["fast"], "should be one of .*"),
        (["shuffle"], ["maybe"], "must be true or false"),
        (["batchsize"], ["1"], "Did you mean: batch_size ."),
        (
            flags.PLACES,
            ["", "gs://bucket/run", "file:///tmp", "~nosuchuser/run"],
            "must be a path .*",
        ),
        (flags.PLACES, ["\udcff", "a\0b"], "must be a path .*"),
    ],
)
def test_a_bad_flag_is_one_line_that_names_it(flags_of, values, said):
    for flag, value in itertools.product(flags_of, values):
        with pytest.raises(InputError, match=f"^[^\n]*{flag}[='][^\n]*{said}; see --help$"):
            parsed(f"--{flag}={value}")


@pytest.mark.parametrize("content", ["--lr=0.1".encode("utf-16"), b"\xef\xbb\xbf--lr=1", None])
def test_a_flagfile_that_cannot_be_read_is_one_line(tmp_path, content):
    if content:
        (tmp_path / "flags.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"^[^\n]+$"):
        parsed(f"--flagfile={tmp_path / 'flags.txt'}")


def test_a_config_cannot_be_changed_and_equals_one_of_the_same_flags():
    config = flags.training_config(lr=0.5)
    assert config == flags.training_config().replace(lr=0.5) != config.replace(lr=0.1)
    assert config == parsed("--learning_rate=0.5")
    with pytest.raises(AttributeError):
        config.lr = 0.1
    with pytest.raises(TypeError, match="learning_rate"):
        config.replace(learning_rate=0.1)


def test_help_lists_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit):
        parsed("--help", summary="A summary.")
    shown = capsys.readouterr().out
    assert shown.startswith("A summary.\n\nData:\n  --data_dir: ")
    for name, default in vars(flags.training_config()).items():
        described = re.search(rf"^  --(\[no\])?{name}:(.*?)(^  -|\Z)", shown, re.M | re.S)[2]
        assert default is None or f"(default: '{default}')".lower() in described


@pytest.mark.parametrize("program", ["train.py", "sweep.py", "compare.py", "predict.py"])
@pytest.mark.parametrize(("argument", "code"), [("--nonsense=1", 2), ("--help", 0)])
def test_a_bad_argument_and_help_answer_without_tensorflow(program, argument, code):
    done = python("-X", "importtime", program, argument)
    assert done.returncode == code
    assert "tensorflow" not in done.stderr and "absl.flags" in done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert len(said) == (1 if code else 0)


PROGRAM = """
import sys
from common import errors
def main():
    print("output" * 10_000)
    print("a notice", file=sys.stderr)
    open(sys.argv[1], "w").close()
errors.exit_with_one_line(main)
"""


@pytest.mark.parametrize(
    ("streams", "code", "said"),
    [
        (">&-", 0, "a notice\n"),
        (">&- 2>&-", 0, ""),
        (">/dev/full", 1, "error: No space left on device\n"),
        (">/dev/null 2>/dev/full", 1, ""),
        ("", 141, ""),  # whoever read it has gone
    ],
)
def test_a_closed_or_full_stream_is_no_traceback(tmp_path, streams, code, said):
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = ["sh", "-c", f'"$@" {streams}', "", sys.executable, "-c", PROGRAM, tmp_path / "file"]
    options = {"stdout": write_end, "stderr": subprocess.PIPE, "text": True, "timeout": 60}
    done = subprocess.run(command, cwd=PROJECT, **options)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (code, said)
    assert (tmp_path / "file").exists() == (code == 0)


NEEDS_LESS = "a smaller --batch_size or --input=stream needs less"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("--lr=0"), 2, "error: --lr=0"),
        (RunError("the disk"), 1, "error: the disk"),
        (RunError("the\ndisk"), 1, "error: the disk"),
        (Stopped(15), 143, "stopped by SIGTERM"),
        (KeyboardInterrupt(), 130, "stopped by SIGINT"),
        (OSError(2, "No such file", "run.json"), 1, "error: run.json: No such file"),
        (OSError(2, "No usable temporary directory found in []"), 1, "error: TMPDIR: no folder"),
        (MemoryError("700 GB"), 1, f"error: out of memory (700 GB): {NEEDS_LESS}"),
        (
            tf.errors.InternalError(None, None, "CUDA_ERROR_OUT_OF_MEMORY"),
            1,
            "error: out of memory",
        ),
        (tf.errors.InternalError(None, None, "Dst tensor is not initialized."), 1, "error: out of"),
        (tf.errors.AbortedError(None, None, "lost"), 1, "error: TensorFlow failed: lost;"),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_code(capsys, error, code, said):
    with pytest.raises(SystemExit) as stop, errors.one_line():
        raise error
    printed = capsys.readouterr().err
    assert stop.value.code == code and printed.startswith(said) and printed.count("\n") == 1


def test_a_fault_of_the_program_is_not_hidden():
    with pytest.raises(ZeroDivisionError), errors.one_line():
        _ = 1 / 0
