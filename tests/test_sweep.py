"""sweep.py: each run is train.py's own, nothing is lost, and the table says no more than the seeds
carry."""

import itertools
import json
import os
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

import flags
import model
import sweep
import train
from common.errors import InputError, RunError, Stopped
from runtime import signals
from runtime.clock import Ledger
from runtime.distribute import OneDevice
from runtime.state import State
from sweeps import kept, options, report
from tests import forked
from tests.conftest import PROJECT

Sweep = Callable[..., list[kept.Row]]


@pytest.fixture
def sweep_here(tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path) -> Sweep:
    """Runs what `python sweep.py` runs, in this process, and returns the rows of its file."""

    def run(*arguments: str) -> list[kept.Row]:
        file = tmp_path / "runs.jsonl"
        sweep.run(
            *options.parse(
                ["sweep.py", f"--data_dir={tiny_data_dir}", f"--output={file}", *arguments], ""
            )
        )
        return [json.loads(line) for line in file.read_text().splitlines()[1:]]

    return run


def arguments_of(row: kept.Row) -> list[str]:
    return [f"--{name}={row[name]}" for name in options.SWEPT]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(
            ("--lr=0.01,0.02", "--batch_size=10,64", "--epochs=1,2"), marks=pytest.mark.slow
        ),
        pytest.param(
            (
                "--loss_reduction=sum,mean",
                "--jobs=3",
                "--seed=4,6",
                "--max_steps=50",
                "--mode=graph",
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(("--batch_size=10,600", "--lr=0.001", "--figures"), marks=pytest.mark.slow),
        pytest.param(
            ("--lr=0.003,0.01", "--target_accuracy=0.5", "--eval_first=9"), marks=pytest.mark.slow
        ),
        ("--epochs=1,2", "--mode=graph", "--noshuffle", "--jobs=2"),
    ],
    ids=["all", "means", "shared batches", "target", "graph"],
)
def test_each_run_ends_at_the_bits_of_train_py(sweep_here, run_here, tmp_path, arguments):
    arguments = [f"--figures={tmp_path}" if each == "--figures" else each for each in arguments]
    shared = [
        each
        for each in arguments
        if each.partition("=")[0][2:] not in {*options.SWEPT, "jobs", "figures"}
    ]
    rows = sweep_here(*arguments)
    assert len(rows) == len({kept.key(row) for row in rows}) > 1
    for row in rows:
        record = run_here(*shared, *arguments_of(row))
        for name in ("weights_sha256", "test_accuracy", "steps", "examples"):
            assert row[name] == record[name], (name, arguments_of(row))
        assert row["validation_accuracy"][-1] == record["validation_accuracy"][-1]


def test_the_same_command_does_only_what_is_missing(sweep_here, tmp_path, monkeypatch):
    file = tmp_path / "runs.jsonl"
    whole = sweep_here("--seed=0:3", "--mode=graph")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:3]) + lines[3][:-20])  # as a kill may leave it
    begun = []
    here = sweep.runs.Runner.run
    monkeypatch.setattr(
        sweep.runs.Runner, "run", lambda self, config: begun.append(config) or here(self, config)
    )
    again = sweep_here(
        "--seed=0:4", "--eval_every=50", "--mode=graph"
    )  # more seeds, and a cadence that no weight depends on
    # two threads: in either order
    assert sorted(config.seed for config in begun) == sorted([whole[2]["seed"], 3])
    assert again[:2] == whole[:2]
    hashes = {row["seed"]: row["weights_sha256"] for row in again}
    assert (
        hashes == {row["seed"]: row["weights_sha256"] for row in whole} | {3: hashes[3]}
        and len(again) == 4
    )
    assert sweep_here("--seed=0:4", "--mode=graph") == again and len(begun) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--noshuffle"], "shuffle True, not False"),
        (["--target_accuracy=0.9"], "target_accuracy None, not 0.9"),
        (["--max_steps=9", "--mode=eager"], "mode graph, not eager"),
    ],
)
def test_a_file_of_another_sweep_is_refused_and_stays(sweep_here, tmp_path, arguments, words):
    sweep_here("--seed=1", "--mode=graph")
    before = (tmp_path / "runs.jsonl").read_bytes()
    with pytest.raises(InputError, match=words):
        sweep_here("--mode=graph", *arguments)
    assert (tmp_path / "runs.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"my notes", "no file of a sweep"),
        (b'{"sweep": 1}\n', "line 1 is damaged"),
        (
            b'{"sweep": 0, "data": "", "tensorflow": "", "device_name": "", "flags": []}\n',
            "line 1 is damaged",
        ),
        (None, "line 2 is damaged"),
        (1, "sweep 0, not 1"),
        (2, "tensorflow 1.0"),
        (3, "data other"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_and_stays(sweep_here, tmp_path, content, words):
    file = tmp_path / "runs.jsonl"
    if not isinstance(content, bytes):
        sweep_here("--seed=1", "--mode=graph")
        header = json.loads(file.read_bytes().splitlines()[0])
        changed = {1: {"sweep": 0}, 2: {"tensorflow": "1.0"}, 3: {"data": "other"}}.get(content, {})
        content = json.dumps(header | changed).encode() + b'\n{"lr": 0.1}\n{}\n'
    file.write_bytes(content)
    with pytest.raises(InputError, match=words):
        sweep_here("--seed=1", "--mode=graph")
    assert file.read_bytes() == content


def test_two_sweeps_do_not_write_to_one_file(sweep_here, tmp_path):
    sweep_here("--max_steps=5", "--mode=graph")
    with (
        kept.locked(tmp_path / ".runs.jsonl.lock", wait=False),
        pytest.raises(InputError, match="another sweep"),
    ):
        sweep_here("--max_steps=5", "--mode=graph")


@pytest.mark.slow
def test_a_disk_that_is_full_is_one_line_and_keeps_what_was_there(
    tiny_data_dir, sweep_here, tmp_path
):
    file = tmp_path / "runs.jsonl"
    job = ["--seed=0:30", "--max_steps=1", "--mode=graph"]
    process = forked.Forked(
        [PROJECT / "sweep.py", f"--data_dir={tiny_data_dir}", f"--output={file}", *job]
    )
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (8192, 8192))
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "runs.jsonl: cannot be written" in errors and len(errors.splitlines()) == 1
    before = file.read_bytes()
    assert len(before) == 8192 and "cannot tell" not in printed and "**best**" in printed
    rows = sweep_here(*job)
    assert file.read_bytes().startswith(before[: before.rfind(b"\n") + 1]) and len(rows) == 30


def test_a_run_that_diverges_is_a_row(sweep_here, capsys):
    rows = {row["lr"]: row for row in sweep_here("--lr=0.01,1e38", "--seed=0", "--mode=graph")}
    assert "with --lr=1e+38" in rows[1e38]["diverged"]
    assert "weights_sha256" in rows[0.01] and "weights_sha256" not in rows[1e38]
    printed = capsys.readouterr().out
    assert "diverged: 1 of 1" in printed and printed.count("**best**") == 1


def test_a_failure_of_a_run_ends_the_sweep(sweep_here, monkeypatch):
    def fail(*_: object) -> None:
        raise RunError("the disk is gone")

    monkeypatch.setattr(sweep.runs.train, "compiled", fail)
    with pytest.raises(RunError, match="the disk is gone"):
        sweep_here("--seed=0:4")


def test_a_run_that_ends_when_a_signal_has_stopped_another_is_kept(monkeypatch):
    both, stopped = threading.Barrier(2, timeout=60), threading.Event()

    class Runner:
        def __init__(self, first: State):
            pass

        def run(self, config: flags.Config) -> kept.Row:
            both.wait()
            if config.seed == 0:
                monkeypatch.setattr(signals, "asked", lambda: signal.SIGINT)
                stopped.set()
                raise Stopped("in its middle", 130)
            assert stopped.wait(timeout=60)
            return {"seed": config.seed}

    monkeypatch.setattr(sweep.runs, "Runner", Runner)
    configs = [flags.training_config(seed=seed) for seed in range(9)]
    assert [*sweep.runs.finished(configs, 2, None, "/CPU:0")] == [{"seed": 1}]


def test_a_run_that_had_its_last_step_when_a_signal_came_is_kept(tiny_dataset, monkeypatch):
    first = train.start(
        flags.training_config(mode="xla", max_steps=9, eval_every=0),
        tiny_dataset,
        Ledger(),
        OneDevice(),
    )
    scaled, scale = [], model.scale
    monkeypatch.setattr(model, "scale", lambda images: scaled.append(images) or scale(images))
    runner = sweep.runs.Runner(first)
    assert not scaled  # all runners evaluate on the images that the first run has scaled
    monkeypatch.setattr(signals, "asked", lambda: signal.SIGINT)
    assert runner.run(first.config)["steps"] == 9
    with pytest.raises(Stopped):
        runner.run(first.config.replace(max_steps=0, epochs=2))


def test_a_signal_shows_and_keeps_what_is_finished(tiny_data_dir, tmp_path):
    file = tmp_path / "runs.jsonl"
    command = [
        PROJECT / "sweep.py",
        f"--data_dir={tiny_data_dir}",
        f"--output={file}",
        "--epochs=1,100000",
        "--jobs=2",
    ]
    process = forked.Forked(command)
    assert any(line.startswith("1/2 runs, best validation so far") for line in process.stdout), (
        process.communicate()
    )
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (
        130,
        "stopped by SIGINT with 1 of 2 runs left: the same command goes on\n",
    )
    assert "**best**" in printed and file.read_bytes().count(b"\n") == 2


BAD = [
    ("--lr=", "--lr="),
    ("--lr=0.1,,0.2", "--lr=: must be a number, or several"),
    ("--lr=0.1,1e-1", "none twice"),
    ("--lr=0:10", "must be a number, or several with commas between them, none twice; see"),
    ("--seed=0:3,2", "none twice"),
    ("--seed=5:2", "--seed=5:2: must be a range of 1 to 1,000,000 integers; see"),
    ("--seed=5:5", "--seed=5:5: must be a range of 1 to 1,000,000 integers; see"),
    ("--seed=-1", "--seed=-1: must be a non-negative integer, or several"),
    ("--seed=0:100000000000000", "must be a range of 1 to 1,000,000 integers"),
    (f"--seed=0:{10**30}", "must be a range of 1 to 1,000,000 integers"),
    ("--epochs=0:3", "--epochs=0: must be a positive integer"),
    ("--lr=0.1,nan", "--lr=nan: must be a finite number above 0"),
    ("--batch_size=10,1.5", "--batch_size=1.5: must be a positive integer"),
    ("--max_steps=9,-1", "--max_steps=-1: must be a non-negative integer"),
    ("--loss_reduction=sum,max", "sum, mean"),
    ("--seed=0:10001", "10,001 runs: at most 10,000 without --yes"),
    ("--strategy=mirrored", "strategy"),
    ("--jobs=-1", "--jobs=-1"),
    ("--record=x.json", "record"),
    ("--output=/dev/null/x", "--output"),
]


@pytest.mark.parametrize(("argument", "words"), BAD, ids=[argument for argument, _ in BAD])
def test_bad_input_is_refused(argument: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        options.parse(["sweep.py", argument], "")
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--seed=0:20000"], 2, "error: 20,000 runs: at most 10,000 without --yes"),
        (["--seed=0:20000", "--yes"], 1, "TensorFlow was imported"),
    ],
)
def test_bad_input_is_refused_before_tensorflow_is_imported(
    tmp_path: pathlib.Path, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')\n")
    done = subprocess.run(
        [sys.executable, "sweep.py", *arguments],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1


def test_what_only_the_data_or_all_runs_tell_is_refused_before_a_run(sweep_here, monkeypatch):
    monkeypatch.setattr(sweep.runs.Runner, "run", lambda *_: pytest.fail("a run was begun"))
    with pytest.raises(InputError, match="at most the 660 training images"):
        sweep_here("--batch_size=10,661")
    with pytest.raises(InputError, match="--mode=graph needs a sweep"):
        sweep_here("--batch_size=10,600", "--mode=graph")


def test_lists_and_ranges() -> None:
    given = ["--lr=0.1,0.2", "--seed=7,0:3,12:13", "--max_steps=0,9", "--batch_size=5"]
    configs, _ = options.parse(["sweep.py", *given], "")
    found = [(config.lr, config.seed, config.max_steps) for config in configs]
    assert sorted(found) == [*itertools.product((0.1, 0.2), (0, 1, 2, 7, 12), (0, 9))]
    assert {config.batch_size for config in configs} == {5}
    assert configs[0].as_dict().keys() == flags.training_config().as_dict().keys()


def test_the_validation_cadence_is_train_pys_only_where_it_matters(tmp_path: pathlib.Path) -> None:
    for arguments, every in (
        ((), 0),
        (("--target_accuracy=0.9",), 200),
        ((f"--figures={tmp_path}",), 200),
        (("--eval_every=7", "--target_accuracy=0.9"), 7),
    ):
        assert options.parse(["sweep.py", *arguments], "")[0][0].eval_every == every


@pytest.mark.parametrize("count", range(1, 11))
def test_the_sign_test_is_that_of_all_throws_of_a_coin(count: int) -> None:
    throws = [abs(sum(signs)) for signs in itertools.product((-1, 1), repeat=count)]
    for wins in range(count + 1):
        expected = np.mean([throw >= abs(2 * wins - count) for throw in throws])
        assert report.sign_test(wins, count - wins) == pytest.approx(expected)
    assert report.sign_test(0, 0) == 1


def made(lr: float, accuracies: dict[int, float], **more: object) -> list[kept.Row]:
    """Returns the rows of one lr, with its validation accuracy by seed, and a test accuracy of 0.1
    less."""
    values = {"batch_size": 10, "loss_reduction": "sum", "epochs": 1, "lr": lr}
    reached = {"us_per_step": 5.0 + lr, "seconds": {"train": 2.0}}
    return [
        values
        | {
            "seed": seed,
            "validation_accuracy": [[1, 0.1], [9, share]],
            "test_accuracy": share - 0.1,
        }
        | reached
        | more
        for seed, share in accuracies.items()
    ]


def table_of(rows: list[kept.Row]) -> list[list[str]]:
    table = report.table(report.grouped(rows))
    return [list(cells) for cells in zip(*(column.cells for column in table.columns), strict=True)]


def test_the_table_is_plain_arithmetic() -> None:
    rng = np.random.default_rng(0)
    shares = {lr: dict(enumerate(rng.uniform(0.5, 0.9, size=7))) for lr in (0.1, 0.2)}
    cells = table_of([row for lr in (0.2, 0.1) for row in made(lr, shares[lr])])
    assert [row[3] for row in cells] == ["0.1", "0.2"] and {tuple(row[:3]) for row in cells} == {
        ("10", "1", "sum")
    }
    for row in cells:
        values = np.array([*shares[float(row[3])].values()])
        for cell, part in ((row[5], values), (row[6], values - 0.1)):
            assert (
                cell
                == f"{part.mean():.4f} ± {part.std(ddof=1):.4f} ({part.min():.4f}-{part.max():.4f})"
            )
        assert row[7:9] == ["2.00", f"{5 + float(row[3]):.1f}"] and row[4] == "7"
    best = max(shares, key=lambda lr: statistics.fmean(shares[lr].values()))
    assert [row[-1] == "**best**" for row in cells] == [lr == best for lr in (0.1, 0.2)]


@pytest.mark.parametrize(
    ("sizes", "kind", "said"),
    [
        ([10], "CPU", "Training alone, while runs shared the 2 cores of one X."),
        ([600], "CPU", "Training alone, one run after the other on the 2 cores of one X."),
        (
            [10, 600],
            "CPU",
            "Training alone: batches below 500 while runs shared the 2 cores of one X, "
            "larger ones one ",
        ),
        ([10, 600], "GPU", "Training alone, one run after the other on one X."),
    ],
)
def test_what_is_printed_says_what_shared_the_machine_without_blanks_around(
    capsys, sizes, kind, said
) -> None:
    rows = [row for size in sizes for row in made(0.1, {0: 0.5}, batch_size=size)]
    report.show(rows, {"cores": 2, "device_kind": kind, "device_name": "X"}, None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(said) and lines[0].startswith("| batch")
    assert all(line and line == line.rstrip() for line in lines)


def test_the_verdict_says_what_the_seeds_carry() -> None:
    best = dict.fromkeys(range(6), 0.9)
    for worse, words in (
        (dict.fromkeys(range(6), 0.8), "worse on 6 of 6, p 0.031"),
        (dict.fromkeys(range(5), 0.8), "5 seeds cannot tell, p 0.062"),
        ({seed: 0.8 if seed else 0.95 for seed in range(6)}, "6 seeds cannot tell, p 0.22"),
        ({seed: 0.9 if seed else 0.8 for seed in range(6)}, "6 seeds cannot tell, p 1"),
        ({seed: 0.91 if seed < 6 else 0.5 for seed in range(7)}, "better on 6 of 6, p 0.031"),
    ):
        cells = table_of(made(0.1, best) + made(0.2, worse))
        assert [row[-1] for row in cells] == ["**best**", words]


def test_a_combination_of_which_a_seed_diverged_is_not_the_best() -> None:
    diverged = [{**made(0.3, {9: 0.0})[0], "diverged": "the loss is nan"}]
    cells = table_of(made(0.1, {0: 0.5, 1: 0.6}) + made(0.3, {0: 0.99}) + diverged)
    assert [row[-1] for row in cells] == ["**best**", "diverged: 1 of 2"]


def test_the_pictures_show_every_rate_and_every_seed(tmp_path: pathlib.Path) -> None:
    groups = report.grouped(
        made(0.1, {0: 0.5, 1: 0.6})
        + made(1.0, {0: 0.7, 1: 0.75})
        + made(2.0, {0: 0}, diverged="nan")
    )
    (rates,) = report.over_learning_rate(groups).axes
    (line,) = rates.lines
    assert rates.get_xscale() == "log" and [*line.get_xdata()] == [0.1, 1.0]
    assert [*line.get_ydata()] == pytest.approx([0.55, 0.725])
    assert rates.collections[0].get_datalim(rates.transData).intervaly == pytest.approx([0.5, 0.75])
    steps = report.over_steps(groups, (10, 1, 0, "sum", 1.0)).axes
    assert [axes.get_title() for axes in steps] == ["lr 0.1", "lr 1"]
    ends = [sorted(line.get_ydata()[-1] for line in axes.lines) for axes in steps]
    assert ends == [[0.5, 0.6], [0.7, 0.75]]
    rows = [row for runs in groups.values() for row in runs]
    report.show(rows, {"cores": 2, "device_kind": "CPU", "device_name": "X"}, str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"learning_rate.png", "steps.png"}


def test_help_names_the_flags_of_both(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        options.parse(["sweep.py", "--help"], "")
    said = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    assert "--jobs" in said and "--[no]tf32" in said and "--checkpoint_dir" not in said
    assert "(default: 10) (a positive integer, or several with commas between them" in said
