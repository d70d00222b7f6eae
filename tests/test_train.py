"""The program: its clock, what it shows and records, its flags and its errors."""

import json
import math
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

import data
import flags
import train
from common import commandline, files
from common.errors import InputError, RunError
from outputs import record
from runtime import strategies
from runtime.clock import Ledger
from tests import conftest
from tests.conftest import PROJECT, Command, trained


def test_a_run_with_epochs_without_end_takes_its_first_steps(tiny_dataset: data.Dataset) -> None:
    ran = trained(tiny_dataset, epochs=10**12, target_accuracy=0.01)
    assert ran.step == 1 and ran.total_steps == 66 * 10**12


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"eval_every": 0}, r"the loss is (nan|inf) at step \d+"),
        ({"max_steps": 1}, "the weights overflow after step 1"),
    ],
)
def test_what_is_not_finite_names_the_step_and_the_lr(
    tiny_dataset: data.Dataset, changes: dict, found: str
) -> None:
    with pytest.raises(RunError, match=found + r" with --lr=1e\+38: try a smaller --lr"):
        trained(tiny_dataset, lr=1e38, **changes)


def test_compiling_moves_no_weight_and_no_step(tiny_dataset: data.Dataset) -> None:
    for mode in ("eager", "graph", "xla"):
        engine = strategies.OneDevice()
        state = train.start(
            flags.training_config(mode=mode, batch_size=64), tiny_dataset, Ledger(), engine
        )
        train.compiled(state, engine)
        assert (state.step, state.examples, state.evaluations) == (0, 0, [])
        assert not state.model.W.numpy().any() and not state.model.b.numpy().any()


def test_the_barrier_comes_before_each_reading_of_the_clock() -> None:
    seconds = iter([10.0, 11.0, 13.0, 14.0, 14.5, 20.0])
    events: list[str] = []
    ledger = Ledger(start=9.0, clock=lambda: events.append("clock") or next(seconds))
    ledger.barrier = lambda: events.append("barrier")
    for part in ("train", "train", "data"):
        with ledger(part):
            pass
    assert (ledger.parts["train"], ledger.parts["data"]) == (2.0, 5.5)
    assert events == ["barrier", "clock"] * 6


def test_seconds_add_up_to_the_wall_clock() -> None:
    ledger = Ledger(start=1.0, clock=iter([2.0, 5.0, 11.0]).__next__)
    with ledger("train"):
        pass
    seconds = ledger.seconds()
    assert seconds["total"] == 10.0 and seconds["train"] == 3.0 and seconds["other"] == 7.0
    assert sum(value for part, value in seconds.items() if part != "total") == seconds["total"]


def test_the_time_of_training_has_no_evaluation_in_it(
    run_here: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[tuple] = []
    count = train.num_correct
    monkeypatch.setattr(train, "num_correct", lambda *of: evaluated.append(of) or count(*of))
    # only an evaluation takes time
    ledger = Ledger(clock=lambda: 1000.0 * len(evaluated))
    monkeypatch.setattr(conftest, "Ledger", lambda: ledger)
    seconds = run_here("--max_steps=5", "--eval_first=2", "--mode=graph")["seconds"]
    # the first belongs to compiling
    assert seconds["train"] == 0 and seconds["evaluate"] == 1000 * (len(evaluated) - 1) >= 3000


def test_the_command_shows_and_records_what_it_did(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    command = [
        sys.executable,
        PROJECT / "train.py",
        f"--data_dir={tiny_data_dir}",
        f"--record={tmp_path / 'run.json'}",
    ]
    command += ["--epochs=4", "--eval_first=5", "--eval_every=50"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith(
        "mnist: 660 training, 60 validation, 100 test images; batch 10, lr 0.01, sum loss"
    )
    assert "mode xla on " in lines[0]
    record = json.loads((tmp_path / "run.json").read_text())
    assert lines[-3] == f"test accuracy {record['test_accuracy']:.4f} of 100 images"
    assert [step for step, _ in record["validation_accuracy"]] == [
        1,
        2,
        3,
        4,
        5,
        50,
        100,
        150,
        200,
        250,
        264,
    ]
    assert (
        record["steps"] == 264 and record["examples"] == 2640 and 0.8 < record["test_accuracy"] <= 1
    )
    seconds = record["seconds"]
    assert math.isclose(
        sum(seconds[part] for part in seconds if part != "total"), seconds["total"], rel_tol=1e-9
    )
    assert record["us_per_step"] == seconds["train"] / 264 * 1e6
    assert record["examples_per_second"] == 2640 / seconds["train"]
    assert record["config"]["eval_first"] == 5


@pytest.mark.slow
def test_a_small_batch_has_one_core_unless_the_user_says_otherwise(
    run_train: Command, tmp_path: pathlib.Path
) -> None:
    for mine, threads in (({}, 1), ({"TF_NUM_INTRAOP_THREADS": "3"}, 3)):
        others = {
            name: value for name, value in os.environ.items() if name != "TF_NUM_INTRAOP_THREADS"
        }
        done = run_train(
            "--max_steps=1", "--overwrite", f"--record={tmp_path / 'run.json'}", env=others | mine
        )
        assert done.returncode == 0, done.stderr
        assert (
            json.loads((tmp_path / "run.json").read_text())["environment"]["intra_op_threads"]
            == threads
        )


def test_the_record_holds_the_same_weights_for_the_same_seed_and_others_for_another(
    run_here: Callable,
) -> None:
    one, same, other = (
        run_here(*arguments)["weights_sha256"]
        for arguments in (["--seed=1"], ["--seed=1", "--eval_every=0"], ["--seed=2"])
    )
    assert one == same != other


def test_it_stops_at_the_target_accuracy(run_here: Callable, capsys: pytest.CaptureFixture) -> None:
    record = run_here("--target_accuracy=0.6")
    last = capsys.readouterr().out.splitlines()[-1]
    assert (
        f"target accuracy 0.6: reached at step {record['steps']}, after" in last
        and record["steps"] < 66
    )
    assert (
        record["validation_accuracy"][-1][1]
        >= 0.6
        > max(share for _, share in record["validation_accuracy"][:-1])
    )
    assert run_here("--target_accuracy=1", "--max_steps=3")["steps"] == 3
    assert "target accuracy 1: not reached in" in capsys.readouterr().out.splitlines()[-1]


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


@pytest.mark.parametrize(
    "flag,value", [(flag, value) for flag, values in BAD.items() for value in values]
)
def test_a_bad_flag_is_one_line_that_names_it(flag: str, value: str) -> None:
    with pytest.raises(InputError) as error:
        commandline.parse(flags.train_flags(), ["train.py", f"--{flag}={value}"], "")
    assert f"--{flag}={value}: must be " in str(error.value) and "\n" not in str(error.value)


def test_a_flag_that_is_none_is_one_line_with_the_nearest() -> None:
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


@pytest.mark.parametrize("argument", ["--batch_size=0", "--nonsense=1", "stray", "--help"])
def test_a_bad_argument_and_help_answer_without_tensorflow(argument: str) -> None:
    command = [sys.executable, "-X", "importtime", str(PROJECT / "train.py"), argument]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == (0 if argument == "--help" else 2)
    assert "tensorflow" not in done.stderr and "absl.flags" in done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert len(said) == (0 if argument == "--help" else 1) and "Traceback" not in done.stderr


def test_help_lists_every_flag_with_its_default(capsys: pytest.CaptureFixture) -> None:
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


def test_a_record_follows_links_and_the_umask_and_spares_what_is_no_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "real" / "run.json")
    before = os.umask(0o027)
    try:
        files.check_writable("record", "~/link.json", replace=False)
        record.write("~/link.json", {"steps": 7})
    finally:
        os.umask(before)
    assert link.is_symlink() and json.loads((tmp_path / "real" / "run.json").read_text()) == {
        "steps": 7
    }
    assert (tmp_path / "real" / "run.json").stat().st_mode & 0o777 == 0o640
    for path in ("/dev/null", str(tmp_path)):
        with pytest.raises(InputError, match=f"--record={path}: must be a file.*no regular file"):
            files.check_writable("record", path, replace=True)


@pytest.mark.parametrize(
    "arguments,code,said",
    [
        (
            ["--batch_size=661"],
            2,
            "--batch_size=661: must be at most the 660 training images of mnist",
        ),
        (
            ["--record=/no/such/folder/run.json"],
            2,
            "--record=/no/such/folder/run.json: must be a file in a folder",
        ),
    ],
)
def test_later_errors_are_one_line_too(
    run_train: Command, arguments: list[str], code: int, said: str
) -> None:
    done = run_train(*arguments)
    assert done.returncode == code and said in done.stderr and len(done.stderr.splitlines()) == 1


def test_device_gpu_without_a_gpu_names_the_requirements_file(run_train: Command) -> None:
    done = run_train("--device=gpu", env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert (
        done.returncode == 2
        and "requirements/gpu.txt" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )


def test_a_full_disk_under_the_output_is_one_line_and_a_reader_that_has_gone_is_none() -> None:
    with open("/dev/full", "w") as full:
        command = [
            sys.executable,
            "-c",
            "from common import errors; errors.exit_with_one_line(lambda: print('x' * 10_000))",
        ]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=PROJECT, timeout=60
        )
    assert (
        done.returncode == 1
        and len(done.stderr.splitlines()) == 1
        and "No space left" in done.stderr
    )
    read_end, write_end = os.pipe()
    os.close(read_end)
    gone = subprocess.run(
        command, stdout=write_end, stderr=subprocess.PIPE, text=True, cwd=PROJECT, timeout=60
    )
    os.close(write_end)
    assert gone.returncode == 141 and gone.stderr == ""


def test_a_run_leaves_nothing_in_the_folder_for_temporary_files(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (place := tmp_path / "temporary").mkdir()
    command = [
        sys.executable,
        "train.py",
        f"--data_dir={tiny_data_dir}",
        "--mode=graph",
        "--max_steps=5",
    ]
    subprocess.run(
        command, cwd=PROJECT, env=os.environ | {"TMPDIR": str(place)}, check=True, timeout=300
    )
    assert [*place.iterdir()] == []
