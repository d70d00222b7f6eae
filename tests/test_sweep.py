"""sweep.py: each run is train.py's own, nothing is lost, the table says what the seeds carry."""

import itertools
import json
import pathlib
import signal

import numpy as np
import pytest

import sweep
from common.errors import InputError, RunError, Stopped
from sweeps import options, results

SHORT = "--max_steps=5", "--mode=graph"


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
        "--epochs=1,2 --mode=graph --jobs=3",
        pytest.param("--lr=0.01,0.02 --batch_size=10,600 --seed=4:6", marks=pytest.mark.slow),
        pytest.param("--loss_reduction=sum,mean --target_accuracy=0.5", marks=pytest.mark.slow),
    ],
)
def test_each_run_ends_at_the_bits_of_train_py(run_sweep, run_here, arguments):
    arguments = arguments.split()
    rows = run_sweep(*arguments)
    alike = [each for each in arguments if each.startswith(("--mode", "--target"))]
    assert len({results.key(row) for row in rows}) == len(rows) > 1
    for row in rows:
        record = run_here(*alike, *(f"--{name}={row[name]}" for name in options.SWEPT))
        for name in ("weights_sha256", "test_accuracy", "validation_accuracy"):
            assert row[name] == record[name]


def test_runs_share_their_programs_and_draw_in_a_new_folder(run_sweep, monkeypatch, tmp_path):
    made, folder, choose = [], tmp_path / "a" / "b", sweep.modes.choose
    monkeypatch.setattr(sweep.modes, "choose", lambda *of: made.append(of) or choose(*of))
    rows = run_sweep("--lr=0.1,0.2", "--seed=0:3", "--epochs=1,2", f"--figures={folder}")
    assert len(rows) == 12 and 1 <= len(made) <= sweep.devices.cores()
    assert {path.name for path in folder.iterdir()} == {"learning_rate.png", "steps.png"}


def test_the_same_command_does_only_what_is_missing(run_sweep, output):
    whole = run_sweep("--seed=0:3", "--jobs=1", *SHORT)
    lines = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join(lines[:2]) + lines[2][:-20])  # as a kill may leave it
    again = run_sweep("--seed=0:4", "--jobs=1", *SHORT)
    assert again[:2] == whole[:2] and [row["seed"] for row in again] == [0, 1, 2, 3]
    assert again[2]["weights_sha256"] == whole[2]["weights_sha256"]
    assert run_sweep("--seed=0:2", *SHORT) == again


@pytest.mark.parametrize(
    "content",
    [
        b"my notes",
        b'{"lr": 0.1}\n{"lr": 0.2}',
    ],
)
def test_a_file_of_something_else_is_refused_and_stays(run_sweep, output, content):
    output.parent.mkdir()
    output.write_bytes(content)
    with pytest.raises(InputError, match="must be a new file, or one that sweep"):
        run_sweep(*SHORT)
    assert output.read_bytes() == content


def test_rows_of_another_machine_are_kept_and_count_for_nothing(run_sweep, output, capsys):
    (row,) = run_sweep(*SHORT)
    other = row | {"device_name": "abacus", "validation_accuracy": [[1, 1.0]]}
    output.write_text(json.dumps(other) + "\n")
    assert run_sweep(*SHORT)[0] == other and "1.0000" not in capsys.readouterr().out


def test_a_full_disk_is_one_line():
    with pytest.raises(RunError, match="--output=/dev/full: cannot be written: No space left"):
        results.add(pathlib.Path("/dev/full"), {})


def test_a_run_that_diverges_is_a_row(run_sweep, capsys):
    rows = run_sweep("--lr=0.01,1e38", "--mode=graph", "--jobs=1")
    assert "diverged" not in rows[0] and "with --lr=1e+38" in rows[1]["diverged"]
    printed = capsys.readouterr().out
    assert "1 of 1 diverged" in printed and printed.count("**best**") == 1


def test_a_signal_keeps_and_shows_what_is_finished(run_sweep, output, monkeypatch, capsys):
    def add_and_interrupt(*args, add=results.add):
        add(*args)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(results, "add", add_and_interrupt)
    with pytest.raises(Stopped) as stopped:
        run_sweep("--seed=0:3", "--epochs=1,1000", "--jobs=1")
    assert stopped.value.exit_code == 143
    assert "**best**" in capsys.readouterr().out and output.read_bytes().count(b"\n") == 1


BAD = [
    ("--lr=0.1,,0.2", "--lr=: must be a number"),
    ("--seed=5:2", "--seed=5:2: must be a non-negative integer"),
    ("--epochs=0:3", "--epochs=0: must be a positive integer"),
    ("--lr=0.1,nan", "--lr=nan: must be a finite number"),
    ("--loss_reduction=sum,max", "<sum|mean>"),
    ("--seed=0:10001", "10,001 runs: at most 10,000 without --yes"),
    ("--strategy=mirrored", "strategy"),
    ("--output=/dev/null/x", "--output"),
]


@pytest.mark.parametrize(("argument", "words"), BAD)
def test_bad_input_is_refused(argument, words):
    with pytest.raises(InputError) as caught:
        options.parse(["sweep.py", argument], "")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_batch_that_is_too_large_is_refused_before_other_runs(run_sweep, output):
    with pytest.raises(InputError, match="at most the 660 training images"):
        run_sweep("--batch_size=10,661", "--jobs=1", *SHORT)
    assert output.read_bytes() == b""


def test_lists_and_ranges():
    given = ["--lr=0.1,0.2,2e-1", "--seed=7,0:3,12:13", "--max_steps=0,9", "--yes"]
    configs = options.parse(["sweep.py", *given], "")
    found = [(config.lr, config.seed, config.max_steps) for config in configs]
    assert sorted(found) == [*itertools.product((0.1, 0.2), (0, 1, 2, 7, 12), (0, 9))]


def rows_of(accuracies, **values):
    """Returns the rows of a combination by the validation accuracy of each seed; that of the test
    is 0.1 less."""
    return [
        {**options.DEFAULTS, "seed": seed, "test_accuracy": accuracy - 0.1}
        | {"validation_accuracy": [[1, 0.1], [9, accuracy]], **values}
        for seed, accuracy in enumerate(accuracies)
    ]


def cells(rows, capsys):
    """Returns the cells of the table that is printed of rows, line by line."""
    results.show(rows, None)
    lines = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    assert max(map(len, lines)) <= 80
    return [line.replace(" ", "").split("|") for line in lines]


def test_the_table_is_plain_arithmetic_and_fits_80_columns(capsys):
    rng, rows, expected = np.random.default_rng(0), [], []
    for values in itertools.product((10, 10000), (0.0003, 0.03), (1, 100), ("mean", "sum")):
        shares = rng.uniform(0.5, 0.9, size=10)
        names = ("batch_size", "lr", "epochs", "loss_reduction")
        rows += rows_of(shares, **dict(zip(names, values, strict=True)))
        mean, sd = shares.mean(), shares.std(ddof=1)
        expected.append([*map(str, values), f"{mean:.4f}±{sd:.4f}", f"{mean - 0.1:.4f}"])
    headings, _, *lines = cells(rows[::-1], capsys)
    assert headings == ["batch", "lr", "epochs", "loss", "validation", "test", "besidethebest"]
    assert [line[:6] for line in lines] == expected
    best = [line for line in lines if line[6] == "**best**"]
    assert best == [max(lines, key=lambda line: line[4])]


@pytest.mark.parametrize(
    ("worse", "better", "star"),
    [  # as tables of the sign test say
        (5, 0, ""),
        (6, 0, "*"),
        (18, 7, "*"),
        (17, 8, ""),
    ],
)
def test_a_star_is_a_p_below_5_percent(capsys, worse, better, star):
    count, shares = worse + better, [0.8] * worse + [0.91] * better
    line = cells(rows_of([0.9] * (count + 1), lr=0.1) + rows_of(shares, lr=0.2), capsys)[3]
    assert line[3] == f"worseon{worse}of{count}{star}"


def test_the_charts_show_means(monkeypatch):
    drawn = []
    monkeypatch.setattr(results.plots, "save", lambda figure, _: drawn.append(figure.axes[0]))
    rows = rows_of([0.5, 0.6], lr=0.1) + rows_of([0.7], lr=1.0) + rows_of([0.2], lr=2.0, epochs=9)
    results.draw(rows, ["lr", "epochs"], pathlib.Path())
    rates, steps = ([line.get_ydata().tolist() for line in axes.lines] for axes in drawn)
    np.testing.assert_allclose(np.hstack(rates), [0.55, 0.7, 0.2])
    np.testing.assert_allclose(np.hstack(steps), [0.1, 0.55, 0.1, 0.7])
    assert drawn[0].lines[0].get_xdata().tolist() == [0.1, 1.0]
