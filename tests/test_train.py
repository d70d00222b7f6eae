"""The program: its clock, what it shows and records, its flags and its errors."""

import json
import math
import os
import pickle
import re
import shlex
import subprocess
import sys

import pytest
from absl import flags as absl_flags

import flags
import train
from common import commandline
from common.errors import InputError, RunError
from runtime import distribute
from runtime.clock import Ledger
from tests import conftest
from tests.conftest import PROJECT, trained


def test_a_run_with_epochs_without_end_takes_its_first_steps(tiny_dataset):
    ran = trained(tiny_dataset, epochs=10**12, target_accuracy=0.01)
    assert ran.step == 1 and ran.total_steps == 66 * 10**12


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"eval_every": 0}, r"the loss is (nan|inf) at step \d+"),
        ({"max_steps": 1}, "the weights overflow after step 1"),
        ({"eval_every": 0, "max_steps": 1}, "the weights overflow after step 1"),
    ],
)
def test_what_is_not_finite_names_the_step_and_the_lr(tiny_dataset, changes, found):
    with pytest.raises(RunError, match=found + r" with --lr=1e\+38: try a smaller --lr"):
        trained(tiny_dataset, lr=1e38, **changes)


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_compiling_moves_no_weight_and_no_step(tiny_dataset, mode):
    engine, config = distribute.OneDevice(), flags.training_config(mode=mode, batch_size=64)
    state = train.start(config, tiny_dataset, Ledger(), engine)
    train.compiled(state, engine)
    assert (state.step, state.examples, state.evaluations) == (0, 0, [])
    assert not state.model.W.numpy().any() and not state.model.b.numpy().any()


def test_the_barrier_comes_before_each_reading_of_the_clock_and_seconds_add_up():
    seconds = iter([10.0, 11.0, 13.0, 14.0, 14.5, 20.0, 21.0])
    events = []
    ledger = Ledger(start=9.0, clock=lambda: events.append("clock") or next(seconds))
    ledger.barrier = lambda: events.append("barrier")
    for part in ("train", "train", "data"):
        with ledger(part):
            pass
    found = ledger.seconds()
    assert (found["train"], found["data"], found["total"]) == (2.0, 5.5, 12.0)
    assert sum(value for part, value in found.items() if part != "total") == 12.0
    assert events == ["barrier", "clock"] * 7


def test_the_time_of_training_has_no_evaluation_in_it(run_here, monkeypatch):
    evaluated, count = [], train.num_correct
    monkeypatch.setattr(train, "num_correct", lambda *of: evaluated.append(of) or count(*of))
    # only an evaluation takes time
    ledger = Ledger(clock=lambda: 1000.0 * len(evaluated))
    monkeypatch.setattr(conftest, "Ledger", lambda: ledger)
    seconds = run_here("--max_steps=5", "--eval_first=2", "--mode=graph")["seconds"]
    # the first belongs to compiling
    assert seconds["train"] == 0 and seconds["evaluate"] == 1000 * (len(evaluated) - 1) >= 3000


def test_the_command_shows_and_records_what_it_did(tiny_data_dir, tmp_path):
    record = tmp_path / "new" / "run.json"
    command = [sys.executable, PROJECT / "train.py", f"--data_dir={tiny_data_dir}"]
    command += ["--epochs=4", "--eval_first=5", "--eval_every=50", f"--record={record}"]
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=quiet)
    assert done.returncode == 0 and done.stderr == ""
    lines, found = done.stdout.splitlines(), json.loads(record.read_text())
    assert lines[0] == "mnist: 660 training, 60 validation, 100 test images"
    assert lines[1].startswith("mode xla on ") and max(map(len, lines)) <= 80
    assert f"test accuracy {found['test_accuracy']:.4f} of 100 images" in lines
    steps = [1, 2, 3, 4, 5, 50, 100, 150, 200, 250, 264]
    assert [step for step, _ in found["validation_accuracy"]] == steps
    assert (found["steps"], found["examples"]) == (264, 2640) and 0.8 < found["test_accuracy"] <= 1
    seconds = found["seconds"]
    parts = sum(seconds[part] for part in seconds if part != "total")
    assert math.isclose(parts, seconds["total"], rel_tol=1e-9)
    assert found["us_per_step"] == seconds["train"] / 264 * 1e6
    assert found["examples_per_second"] == 2640 / seconds["train"]
    assert found["config"]["eval_first"] == 5


@pytest.mark.slow
@pytest.mark.parametrize(("given", "threads"), [({}, 1), ({"TF_NUM_INTRAOP_THREADS": "3"}, 3)])
def test_a_small_batch_has_one_core_unless_the_user_says_otherwise(
    run_train, tmp_path, monkeypatch, given, threads
):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    record = tmp_path / "run.json"
    done = run_train("--max_steps=1", f"--record={record}", env=os.environ | given)
    assert done.returncode == 0, done.stderr
    assert json.loads(record.read_text())["environment"]["intra_op_threads"] == threads


def test_the_record_holds_the_same_weights_for_the_same_seed_and_others_for_another(run_here):
    jobs = ["--seed=1"], ["--seed=1", "--eval_every=0"], ["--seed=2"]
    one, same, other = (run_here(*job)["weights_sha256"] for job in jobs)
    assert one == same != other


def test_it_stops_at_the_target_accuracy(run_here, capsys):
    record = run_here("--target_accuracy=0.6")
    said = f"target accuracy 0.6: reached at step {record['steps']}, after"
    assert said in capsys.readouterr().out and record["steps"] < 66
    *before, last = (accuracy for _, accuracy in record["validation_accuracy"])
    assert last >= 0.6 > max(before)
    assert run_here("--target_accuracy=1", "--max_steps=3")["steps"] == 3
    assert "target accuracy 1: not reached in" in capsys.readouterr().out


BAD = {
    "batch_size": ("0", "-1", "1.5", "ten"),
    "lr": ("0", "-1", "nan", "inf", "small"),
    "epochs": ("0",),
    "target_accuracy": ("0", "1.2", "nan"),
    "mode": ("fast",),
    "device": ("tpu",),
    "shuffle": ("maybe",),
    "loss_reduction": ("median",),
}


@pytest.mark.parametrize(
    "flag,value", [(flag, value) for flag, values in BAD.items() for value in values]
)
def test_a_bad_flag_is_one_line_that_names_it(flag, value):
    with pytest.raises(InputError) as error:
        commandline.parse(flags.train_flags(), ["train.py", f"--{flag}={value}"], "")
    said = rf"--{flag}={value}(\.0)?: .+; see --help"
    assert re.fullmatch(said, str(error.value))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_every_float_refuses_what_is_not_finite(value):
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_float("l2", 0.0, "", lower_bound=0, flag_values=values)
    with pytest.raises(InputError, match="--l2="):
        commandline.parse(values, ["train.py", f"--l2={value}"], "")


def test_a_flag_that_is_none_is_one_line_with_the_nearest():
    for given, said in {
        "--batchsize=3": "; nearest: --batch_size",
        "--learning_rate=1": "; nearest: --lr",
        "--nonsense": "",
        "--rate=1": "",
        "--exit": "",
    }.items():
        with pytest.raises(InputError) as error:
            commandline.parse(flags.train_flags(), ["train.py", given], "")
        assert (
            str(error.value)
            == f"{given.partition('=')[0]}: there is no such flag{said}; see --help"
        )


@pytest.mark.parametrize(
    "path", ["", "gs://bucket/run", "file:///tmp/run", "~nosuchuser/run", "\udcff", "a\0b"]
)
def test_a_path_that_nothing_can_be_written_to_is_refused_with_its_flag(path):
    names = [name for name in flags.train_flags() if name in flags.PLACES]
    assert len(names) == len(flags.PLACES)
    for name in names:
        with pytest.raises(InputError, match=f"^--{name}=.*must be a path"):
            commandline.parse(flags.train_flags(), ["train.py", f"--{name}={path}"], "")


@pytest.mark.parametrize(
    "content",
    ["--lr=0.1".encode("utf-16"), "--dataset=é".encode("latin1"), b"\xef\xbb\xbf--lr=1", None],
)
def test_a_flagfile_that_cannot_be_read_is_one_line(tmp_path, content):
    file = tmp_path / "flags.txt"
    if content is not None:
        file.write_bytes(content)
    for arguments in ([f"--flagfile={file}"], ["--flagfile"]):
        with pytest.raises(InputError) as error:
            commandline.parse(flags.train_flags(), ["train.py", *arguments], "")
        assert "\n" not in str(error.value)


def test_a_config_cannot_be_changed_and_equals_one_of_the_same_flags():
    config = flags.training_config(lr=0.5)
    assert config == flags.training_config().replace(lr=0.5) != config.replace(lr=0.1)
    assert pickle.loads(pickle.dumps(config)) == config and config.as_dict()["lr"] == 0.5
    with pytest.raises(AttributeError):
        config.lr = 0.1
    with pytest.raises(TypeError, match="learning_rate"):
        config.replace(learning_rate=0.1)
    known = flags.training_config().as_dict().keys()
    assert {*flags.CAN_CHANGE, *flags.ROUNDING} <= known


@pytest.mark.parametrize(
    ("streams", "code"),
    [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), ("2>/dev/full", 0), (">/dev/full", 1)],
)
def test_a_closed_or_full_stream_loses_no_run(tiny_data_dir, tmp_path, streams, code):
    command = [sys.executable, "-P", "train.py", f"--data_dir={tiny_data_dir}", "--max_steps=3"]
    command += ["--mode=eager", f"--record={tmp_path / 'new' / 'run.json'}"]
    line = f"{shlex.join(command)} {streams}"
    done = subprocess.run(
        line, shell=True, cwd=PROJECT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code and "Traceback" not in done.stderr
    assert (tmp_path / "new" / "run.json").exists() == (code == 0)
    if streams == ">/dev/full":
        assert done.stderr == "error: standard output: No space left on device\n"


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
        commandline.parse(flags.train_flags(), ["train.py", "--help"], "A summary.")
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and shown.startswith("A summary.\n\nData:\n  --data_dir: ")
    told = dict(
        re.findall(r"^  --(?:\[no\])?(\w+):(.*?)(?=^  -|\Z)", shown, re.MULTILINE | re.DOTALL)
    )
    defaults = flags.training_config().as_dict()
    assert told.keys() == defaults.keys() | {"flagfile"}
    for name, default in defaults.items():
        written = str(default).lower() if isinstance(default, bool) else str(default)
        assert re.findall(r"\(default: (.*)\)", told[name]) == (
            [] if default is None else [written]
        ), name


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--batch_size=661", "--batch_size=661: must be at most the 660 training images of mnist"),
        ("--record=/dev/null/run.json", "--record: /dev/null must be a folder that can be written"),
        ("--device=gpu", "requirements/gpu.txt"),
    ],
)
def test_later_errors_are_one_line_too(run_train, flag, words):
    done = run_train(flag, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1


def test_a_reader_that_has_gone_ends_it_without_a_word():
    read_end, write_end = os.pipe()
    os.close(read_end)
    code = "from common import errors; errors.exit_with_one_line(lambda: print('x' * 10_000))"
    options = {"stdout": write_end, "stderr": subprocess.PIPE, "cwd": PROJECT, "timeout": 60}
    done = subprocess.run([sys.executable, "-c", code], **options)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("command", ["train.py", "sweep.py"])
def test_no_folder_for_temporary_files_is_one_line_that_names_tmpdir(tmp_path, command):
    (tmp_path / "sitecustomize.py").write_text(
        "import tempfile\ntempfile._candidate_tempdir_list = lambda: []\n"
    )
    done = subprocess.run(
        [sys.executable, command],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: TMPDIR: no folder for temporary files")
