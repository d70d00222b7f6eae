"""sweep.py: each run is train.py's own, nothing is lost, and the table says no more than the seeds
carry."""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

import model
import sweep
from common.errors import InputError, RunError, Stopped
from sweeps import options, results
from tests import forked
from tests.conftest import PROJECT


@pytest.fixture
def output(tmp_path):
    return tmp_path / "new" / "runs.jsonl"


@pytest.fixture
def run_sweep(tiny_data_dir, output):
    """Runs what `python sweep.py` runs, in this process, and returns the rows of its file."""

    def run(*arguments):
        argv = ["sweep.py", f"--data_dir={tiny_data_dir}", f"--output={output}", *arguments]
        sweep.run(options.parse(argv, ""))
        return [json.loads(line) for line in output.read_text().splitlines()]

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(
            ["--lr=0.01,0.02", "--batch_size=10,64", "--epochs=1,2"], marks=pytest.mark.slow
        ),
        pytest.param(
            ["--loss_reduction=sum,mean", "--seed=4,6", "--max_steps=50"], marks=pytest.mark.slow
        ),
        pytest.param(
            ["--batch_size=10,600", "--lr=0.001", "--eval_every=0"], marks=pytest.mark.slow
        ),
        pytest.param(
            ["--lr=0.003,0.01", "--target_accuracy=0.5", "--eval_first=9"], marks=pytest.mark.slow
        ),
        ["--epochs=1,2", "--mode=graph", "--noshuffle", "--jobs=3"],
    ],
    ids=["xla", "means", "all cores", "target", "graph"],
)
def test_each_run_ends_at_the_bits_of_train_py(run_sweep, run_here, arguments):
    rows = run_sweep(*arguments)
    others = [each for each in arguments if "," not in each and "jobs" not in each]
    assert len(rows) == len({results.key(row) for row in rows}) > 1
    for row in rows:
        record = run_here(*others, *(f"--{name}={row[name]}" for name in options.SWEPT))
        for name in ("weights_sha256", "test_accuracy", "validation_accuracy", "examples"):
            assert row[name] == record[name], name


def test_runs_share_their_programs(run_sweep, monkeypatch):
    made, compiled_block = [], model.compiled_block
    monkeypatch.setattr(
        model,
        "compiled_block",
        lambda *args, **more: made.append(args) or compiled_block(*args, **more),
    )
    rows = run_sweep("--lr=0.1,0.2", "--seed=0:3", "--epochs=1,2", "--eval_every=0", "--jobs=2")
    assert len(rows) == 12 and 1 <= len(made) <= 2


def test_the_same_command_does_only_what_is_missing(run_sweep, output, capsys):
    whole = run_sweep("--seed=0:3", "--mode=graph", "--jobs=1")
    lines = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join(lines[:2]) + lines[2][:-20])  # as a kill may leave it
    again = run_sweep("--seed=0:4", "--mode=graph", "--jobs=1")
    assert again[:2] == whole[:2] and [row["seed"] for row in again] == [0, 1, 2, 3]
    assert [row["weights_sha256"] for row in again[:3]] == [row["weights_sha256"] for row in whole]
    before = output.read_bytes()
    capsys.readouterr()
    assert run_sweep("--seed=0:2", "--mode=graph") == again and output.read_bytes() == before
    assert "**best**" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shuffle": False}, "shuffle False"),
        ({"mode": "eager"}, "mode eager"),
        ({"tensorflow": "1.0"}, "tensorflow 1.0"),
        ({"device_name": "abacus"}, "device_name abacus"),
        ({"data": "other"}, "data other"),
        (b"my notes", "line 1 has damaged JSON"),
        (b"5\n{", "line 1 has damaged JSON"),
        (b'{"lr": 0.1}\n', "data None"),
    ],
)
def test_a_file_of_something_else_is_refused_and_stays(run_sweep, output, change, words):
    job = "--max_steps=5", "--mode=graph"
    (row,) = run_sweep(*job)
    if isinstance(change, dict):
        change = json.dumps(row | change).encode() + b"\n"
    output.write_bytes(change)
    with pytest.raises(InputError, match=words):
        run_sweep(*job)
    assert output.read_bytes() == change


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_keeps_what_was_there(tiny_data_dir, run_sweep, output):
    job = ["--seed=0:30", "--max_steps=1", "--mode=graph"]
    command = [PROJECT / "sweep.py", f"--data_dir={tiny_data_dir}", f"--output={output}", *job]
    process = forked.Forked(command)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (8192, 8192))
    printed, errors = process.communicate()
    assert process.returncode == 1 and "**best**" in printed
    assert "runs.jsonl: cannot be written" in errors and len(errors.splitlines()) == 1
    before = output.read_bytes()
    rows = run_sweep(*job)
    assert output.read_bytes().startswith(before[: before.rfind(b"\n") + 1]) and len(rows) == 30


def test_a_run_that_diverges_is_a_row(run_sweep, capsys):
    rows = {row["lr"]: row for row in run_sweep("--lr=0.01,1e38", "--mode=graph")}
    assert "with --lr=1e+38" in rows[1e38]["diverged"] and "diverged" not in rows[0.01]
    printed = capsys.readouterr().out
    assert "1 of 1 diverged" in printed and printed.count("**best**") == 1


def test_a_failure_of_a_run_ends_the_sweep(run_sweep, monkeypatch):
    def fail(*_):
        raise RunError("the disk is gone")

    monkeypatch.setattr(sweep.train, "compiled", fail)
    with pytest.raises(RunError, match="the disk is gone"):
        run_sweep("--seed=0:4")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_shows_and_keeps_what_is_finished(
    run_sweep, output, monkeypatch, capsys, number, code
):
    def add_and_interrupt(path, row, add=results.add):
        add(path, row)
        signal.raise_signal(number)

    monkeypatch.setattr(results, "add", add_and_interrupt)
    with pytest.raises(Stopped) as stopped:
        run_sweep("--epochs=1,100000", "--seed=0:3", "--jobs=1")
    assert stopped.value.exit_code == code
    assert "**best**" in capsys.readouterr().out and output.read_bytes().count(b"\n") == 1


BAD = [
    ("--lr=", "--lr="),
    ("--lr=0.1,,0.2", "--lr=: must be a number"),
    ("--seed=5:2", "--seed=5:2: must be a non-negative integer"),
    ("--seed=0:100000000000000", "must be a non-negative integer"),
    ("--epochs=0:3", "--epochs=0: must be a positive integer"),
    ("--lr=0.1,nan", "--lr=nan: must be a finite number above 0"),
    ("--batch_size=10,1.5", "--batch_size=1.5: must be a positive integer"),
    ("--loss_reduction=sum,max", "sum, mean"),
    ("--seed=0:10001", "10,001 runs: at most 10,000 without --yes"),
    ("--strategy=mirrored", "strategy"),
    ("--jobs=-1", "--jobs=-1"),
    ("--record=x.json", "record"),
    ("--output=/dev/null/x", "--output"),
    ("--figures=/dev/null/x", "--figures"),
]


@pytest.mark.parametrize(("argument", "words"), BAD, ids=[argument for argument, _ in BAD])
def test_bad_input_is_refused(argument, words):
    with pytest.raises(InputError) as caught:
        options.parse(["sweep.py", argument], "")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_bad_input_is_refused_before_tensorflow_is_imported(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')\n")
    command = [sys.executable, PROJECT / "sweep.py", "--seed=0:20000"]
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("error: 20,000 runs")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch_size=10,661"], "at most the 660 training images"),
        (["--batch_size=10,600", "--mode=graph"], "--mode=graph needs a sweep"),
    ],
)
def test_what_only_the_data_or_all_runs_tell_is_refused_before_a_run(
    run_sweep, monkeypatch, arguments, words
):
    monkeypatch.setattr(sweep, "trainer", lambda _: pytest.fail("a run was begun"))
    with pytest.raises(InputError, match=words):
        run_sweep(*arguments)


def test_lists_and_ranges():
    given = [
        "--lr=0.1,0.2,2e-1",
        "--seed=7,0:3,12:13",
        "--max_steps=0,9",
        "--batch_size=5",
        "--yes",
    ]
    configs = options.parse(["sweep.py", *given], "")
    found = [(config.lr, config.seed, config.max_steps) for config in configs]
    assert sorted(found) == [*itertools.product((0.1, 0.2), (0, 1, 2, 7, 12), (0, 9))]
    assert {config.batch_size for config in configs} == {5}


def rows_of(lr, accuracies, **more):
    """Returns the rows of a learning rate by the validation accuracy of each seed; that of the test
    is 0.1 less."""
    return [
        {**options.DEFAULTS, "lr": lr, "seed": seed, "test_accuracy": share - 0.1}
        | {"validation_accuracy": [[1, 0.1], [9, share]]}
        | more
        for seed, share in enumerate(accuracies)
    ]


def printed_cells(rows, capsys):
    """Returns the cells of the table that is printed, line by line, below its headings."""
    results.show(rows)
    table = capsys.readouterr().out.partition("\n\n")[0]
    assert max(map(len, table.splitlines())) <= 80
    lines = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    assert {*"".join(lines[1])} == {"-"}
    return lines[0], lines[2:]


def test_the_table_is_plain_arithmetic_and_shows_what_varies(capsys):
    rng = np.random.default_rng(0)
    shares = {lr: rng.uniform(0.5, 0.9, size=7) for lr in (0.1, 0.2)}
    rows = [row for lr in (0.2, 0.1) for row in rows_of(lr, shares[lr])]
    headings, lines = printed_cells(rows, capsys)
    assert headings == ["lr", "validation", "test", "beside the best"]
    assert [line[0] for line in lines] == ["0.1", "0.2"]
    for line in lines:
        values = shares[float(line[0])]
        assert line[1] == f"{values.mean():.4f} ± {values.std(ddof=1):.4f}"
        assert line[2] == f"{values.mean() - 0.1:.4f}"
    best = max(shares, key=lambda lr: shares[lr].mean())
    assert [line[3] == "**best**" for line in lines] == [lr == best for lr in (0.1, 0.2)]


def test_four_flags_fit_80_columns(capsys):
    rows = [
        row
        for lr, size, epochs, loss in itertools.product(
            (0.0003, 0.03), (10, 10000), (1, 100), ("sum", "mean")
        )
        for row in rows_of(lr, [lr] * 10, batch_size=size, epochs=epochs, loss_reduction=loss)
    ]
    headings, lines = printed_cells(rows, capsys)
    assert headings[:4] == ["batch", "lr", "epochs", "loss"] and len(lines) == 16


@pytest.mark.parametrize("count", range(1, 11))
def test_a_star_is_a_p_below_5_percent_over_all_throws_of_a_coin(count, capsys):
    throws = [abs(sum(signs)) for signs in itertools.product((-1, 1), repeat=count)]
    for worse in range(count // 2 + 1, count + 1):
        others = [0.8] * worse + [0.91] * (count - worse)
        _, lines = printed_cells(rows_of(0.1, [0.9] * count) + rows_of(0.2, others), capsys)
        p = np.mean([throw >= 2 * worse - count for throw in throws])
        star = " *" if p < 0.05 else ""
        assert [line[-1] for line in lines] == ["**best**", f"worse on {worse} of {count}{star}"]


def test_seeds_are_compared_where_both_have_them(capsys):
    rows = rows_of(0.1, [0.9] * 6) + rows_of(0.2, [0.9, 0.8])
    assert [line[-1] for line in printed_cells(rows, capsys)[1]] == ["**best**", "worse on 1 of 2"]


def test_the_charts_show_every_run(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        results.plots, "save", lambda figure, path: drawn.update({path.name: figure})
    )
    rows = rows_of(0.1, [0.5, 0.6]) + rows_of(1.0, [0.7, 0.75]) + rows_of(1.0, [0.2], epochs=9)
    results.draw(rows, tmp_path)
    found = {
        name: [sorted(map(tuple, line.get_xydata())) for line in figure.axes[0].lines]
        for name, figure in drawn.items()
    }
    assert found["learning_rate.png"] == [
        [(0.1, 0.5), (0.1, 0.6), (1.0, 0.7), (1.0, 0.75)],
        [(1.0, 0.2)],
    ]
    assert found["steps.png"] == [
        [(1, 0.1), (1, 0.1), (9, 0.5), (9, 0.6)],
        [(1, 0.1), (1, 0.1), (9, 0.7), (9, 0.75)],
    ]


def test_charts_are_written_to_a_new_folder(run_sweep, tmp_path):
    run_sweep("--max_steps=3", f"--figures={tmp_path / 'a' / 'b'}")
    found = {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert found == {"learning_rate.png", "steps.png"}


def test_help_names_the_flags_of_both(capsys):
    with pytest.raises(SystemExit) as stop:
        options.parse(["sweep.py", "--help"], "")
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert "--jobs" in said and "--[no]tf32" in said and "--checkpoint_dir" not in said
