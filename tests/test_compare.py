"""The command compare.py, end to end on small data; who does other work gets no time."""

import dataclasses
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import types
from unittest import mock

import pytest

import compare
from common import children
from comparison import measure, report, system, work, worker
from comparison.peers import Contender
from tests import forked, jobs
from tests.conftest import PROJECT, gone, python

NO_GPU = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
QUICK = ("--devices=cpu", "--max_steps=100", "--cores=1")

# A contender that speaks the protocol in its own words; CHEAT is what it does instead.
PROGRAM = """
import json, pathlib, sys
import numpy as np
here, cheat = pathlib.Path(sys.argv[2]), sys.argv[1]
job = json.loads((here / "job.json").read_text())
images, labels, order = (np.load(here / f"{name}.npy") for name in ("images", "labels", "order"))
kind, size = (np.float64 if cheat in ("float64", "dtype") else np.float32), job["batch_size"]
steps = job["steps"] // 2 if cheat == "half" else job["steps"]
lr = job["lr"] / size if cheat == "mean" else job["lr"]
def train():
    W, b = np.zeros((784, 10), kind), np.zeros(10, kind)
    batches = [rows[at:at + size] for rows in order for at in range(0, len(rows), size)]
    for rows in batches[:steps]:
        x = images[rows].astype(kind) / kind(255)
        if cheat == "rounded":
            x = x.astype(np.float16).astype(kind)
        delta = np.exp(x @ W + b)
        delta = delta / delta.sum(1, keepdims=True) - np.eye(10, dtype=kind)[labels[rows]]
        W -= kind(lr) * (x.T @ delta)
        b -= kind(lr) * delta.sum(0)
    if cheat == "nan":
        b[0] = np.nan
    print("worked")
    return W, b
print("noise")
print("ready", flush=True)
before = train() if cheat == "before" else None
while sys.stdin.readline():
    W, b = before or train()
    print("done", flush=True)
    if cheat == "before":
        before = train()
    if cheat != "nothing":
        np.save(here / "W.npy", W if cheat == "dtype" else W.astype(np.float32))
        np.save(here / "b.npy", b.astype(np.float32))
    if cheat == "once":
        sys.exit("Error: no memory\\n\\nMy language v1.0")
    print("ready", flush=True)
"""


@pytest.fixture(scope="module")
def prepared(tiny_dataset, tmp_path_factory):
    """A folder as work.prepare leaves it, a task of 400 steps, its reference, and a program that
    can cheat."""
    folder = tmp_path_factory.mktemp("prepared")
    task, examples = jobs.fill(folder, tiny_dataset.train, batch_size=10, steps=400, lr=0.01)
    (folder / "program.py").write_text(PROGRAM)
    return folder, task, work.reference(task, examples)


def bench_of(prepared, timeout=60, **commands):
    """Returns a bench with contenders of these names and commands."""
    folder, task, reference = prepared
    contenders = {name: Contender(name, command=command) for name, command in commands.items()}
    config = types.SimpleNamespace(timeout=timeout, keep_env=[])
    references = {(task.job, task.precision): reference}
    return measure.Bench(folder, contenders, references, config)


def measured(prepared, *command, timeout=60):
    return bench_of(prepared, timeout, mine=command).measure(prepared[1], 1)


def cheating(prepared, cheat):
    return measured(prepared, sys.executable, str(prepared[0] / "program.py"), cheat)


@pytest.fixture
def clock(monkeypatch):
    """A clock that shows work instead of time: 0.1 s each job that the program does, whenever that
    is, and 0.02 s each reading."""
    seconds, wait_for = [0.0], measure.wait_for

    def counting(process, *words):
        while (word := wait_for(process, "worked", *words)) == "worked":
            seconds[0] += 0.1
        return word

    def now():
        seconds[0] += 0.02
        return seconds[0]

    monkeypatch.setattr(measure, "wait_for", counting)
    monkeypatch.setattr(measure, "now", now)


def test_who_does_the_job_gets_the_time_of_this_process(prepared, clock):
    run = cheating(prepared, "honest")
    metadata = run.get_metadata()
    assert 6e-8 < metadata["relative_error"] < 1e-5
    assert (metadata["inner_loops"], metadata["loops"]) == (400, 3)  # until 0.3 s are over
    assert run.values == (pytest.approx(0.12 / 400),)
    assert metadata["start"] == pytest.approx(0.02) and metadata["peak_mib"] > 10
    assert "compile" not in metadata  # nobody said loaded


@pytest.mark.parametrize(
    ("cheat", "why"),
    [
        ("float64", r"off by [1-5]\.\de-08; must"),
        ("rounded", "not the same work"),
        ("half", "not the same work"),
        ("mean", "not the same work"),
        ("nan", "off by nan"),
        ("before", "between done and ready"),
        ("dtype", "must be float32: .*float64"),
        ("nothing", "must be float32: No such file"),
        ("once", "Error: no memory"),
    ],
)
def test_a_cheat_gets_no_time(cheat, why, prepared, clock):
    with pytest.raises(measure.Failed, match=why):
        cheating(prepared, cheat)


def test_a_log_is_told_by_the_line_that_names_the_error():
    log = "ReferenceError: x is not defined\n    at main.js:1\n\nNode.js v20.20.2\n"
    assert measure.telling_line(log).startswith("Reference")


@pytest.mark.parametrize(
    ("code", "timeout", "why"),
    [
        ("sleep 1000 & echo $! > $0/other; wait", 1, "given up after 1 s"),
        ("sleep 1000 > $0/said 2>&1 & echo $! > $0/other; exit 3", 60, "exit code 3"),
    ],
)
def test_what_a_program_has_started_ends_with_it(code, timeout, why, prepared):
    with pytest.raises(measure.Failed, match=why):
        measured(prepared, "sh", "-c", code, timeout=timeout)
    assert gone(int((prepared[0] / "other").read_text()))


def test_one_that_cannot_run_here_is_left_out(prepared):
    with pytest.raises(measure.LeftOut, match="no GPU"):
        measured(prepared, "sh", "-c", "echo no GPU >&2; exit 77")


def test_who_lacks_a_library_is_left_out(tmp_path):
    (tmp_path / "mine.py").write_text("import gone")
    command = ("-m", "comparison.worker", "mine:best", tmp_path)
    done = python(*command, cwd=PROJECT, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == worker.LEFT_OUT and "requirements/compare.txt" in done.stderr


@pytest.mark.skipif(not system.can_pin(), reason="this system holds no process to cores")
def test_a_process_runs_on_its_cores_and_the_next_is_free_again():
    ask = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
    with system.pinned(1):
        assert subprocess.check_output(ask) == b"1\n"
    assert int(subprocess.check_output(ask)) == len(os.sched_getaffinity(0))


def test_a_contender_sees_only_what_is_allowed(monkeypatch, tmp_path):
    hidden = {"OMP_NUM_THREADS", "OPENBLAS_CORETYPE", "LD_PRELOAD"}
    for name in (*hidden, "XLA_FLAGS", "KERAS_BACKEND", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "1")
    seen = system.environment("cpu", tmp_path, ["XLA_FLAGS"])
    assert {"PATH", "XLA_FLAGS"} <= seen.keys() and not hidden & seen.keys()
    assert (seen["KERAS_BACKEND"], seen["KERAS_HOME"]) == ("tensorflow", str(tmp_path))
    assert system.environment("cpu", tmp_path, ["KERAS_BACKEND"])["KERAS_BACKEND"] == "1"
    assert system.facts(["XLA_FLAGS"], [])["kept"] == "XLA_FLAGS='1'"


def test_the_watch_sees_another_process():
    spin = "import sys\nprint('on', flush=True)\nwhile True: pass"
    with children.started([sys.executable, "-c", spin], 60, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        other_cores = system.watch()
        python("-c", "sum(range(20_000_000))")
        assert other_cores() > system.BUSY


@pytest.mark.slow
def test_from_flags_to_files_and_a_guard_that_exits_with_3(tiny_data_dir, tmp_path):
    """Under settings of Python that other programs break by; the data is where the user stands."""
    nap = "\n    __import__('time').sleep(float(pathlib.Path('nap').read_text()))"
    (tmp_path / "mine.py").write_text(PROGRAM.replace("def train():", f"def train():{nap}"))
    (tmp_path / "nap").write_text("0.2")
    settings = {"PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error", "TFDS_DATA_DIR": "data"}

    def run_compare(*arguments):
        return python(PROJECT / "compare.py", *arguments, cwd=tmp_path, env=NO_GPU | settings)

    mine = f"--program=mine:{sys.executable} mine.py honest"
    few = ("--contenders=numpy_best", *QUICK, "--rounds=4", mine)
    done = run_compare(*few, "--output=base.json")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = report.load(tmp_path / "base.json")
    assert [row.name for row in rows] == ["numpy_best", "mine", "numpy_best, again"]
    assert all(len(row.times) == 4 for row in rows)
    assert "| mine |" in (tmp_path / "base.md").read_text()
    assert (tmp_path / "base-dark.png").exists()
    (tmp_path / "nap").write_text("0.6")
    done = run_compare("--against=base.json", "--max_slowdown=2")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "mine, cores 1" in done.stdout and "SLOWER" in done.stdout


@pytest.mark.slow
def test_ctrl_c_keeps_the_finished_rounds(tiny_data_dir, tmp_path):
    flags = (f"--data_dir={tiny_data_dir}", "--contenders=numpy_best", "--rounds=1000")
    with subprocess.Popen(
        [sys.executable, PROJECT / "compare.py", *flags, *QUICK, "--output=kept.json"],
        cwd=tmp_path,
        env=NO_GPU,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            if line.startswith("round 3"):
                break
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of the command
        shown, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert "numpy_best" in shown
    rows = report.load(tmp_path / "kept.json")
    assert len(rows[0].times) == len(rows[1].times) >= 2


def test_who_fails_is_left_out_and_the_baseline_must_not(prepared, capsys):
    folder, task, _ = prepared
    honest = (sys.executable, str(folder / "program.py"), "honest")
    fails = "echo no memory >&2; exit 1"
    on_two = f"grep -q '\"cores\": 2' $0/job.json || exec {shlex.join(honest)} $0; {fails}"
    bench = bench_of(prepared, good=honest, bad=("sh", "-c", on_two))
    good, bad = (dataclasses.replace(task, contender=name) for name in ("good", "bad"))
    rows = good, bad, dataclasses.replace(bad, cores=2), dataclasses.replace(good, again=1)
    first, second = compare.rounds(bench, rows, {}, 2)
    found = [(row.name, row.task.cores) for row in second]
    assert found == [("good", 1), ("bad", 1), ("good, again", 1)]
    assert first[0].metadata[f"failed: {rows[2].name}"] == "no memory"
    log = capsys.readouterr().out.partition("its log: ")[2].splitlines()[0]
    assert pathlib.Path(log).read_text() == "no memory\n"
    bench.contenders["good"] = Contender("", command=("sh", "-c", fails))
    with pytest.raises(compare.RunError, match="the baseline has no result: no memory"):
        list(compare.rounds(bench, rows, {}, 1))


def test_a_round_has_each_row_once_and_the_baseline_twice(monkeypatch):
    monkeypatch.setattr("runtime.devices.cores", lambda: 4)
    argv = "compare.py --contenders=xla,c,graph,eager --precision=float32,tf32 --batch_sizes=10,500"
    config = compare.commandline.parse(compare.compare_flags(), argv.split(), None)
    mnist = mock.Mock(train=range(11_000), checksum="", num_features=784, class_names="0123456789")
    tasks = compare.tasks_of(compare.chosen(config), mnist, config, ["cpu", "gpu"])
    on_cpu = [task for task in tasks if task.device == "cpu"]
    on_all = {f"{task.contender} {task.batch_size}" for task in on_cpu if task.cores == 4}
    assert on_all == {"graph 10", "eager 10", "graph 500", "eager 500", "xla 500", "c 500"}
    assert [task.contender for task in tasks if task.again] == [tasks[0].contender] * 2
    assert len(set(tasks)) == len(tasks) == len(on_all) + 2 * (4 + 1 + 2 * 3)
    # whole epochs, of at least 300 steps
    assert {task.steps for task in tasks if task.contender == "c"} == {1_100, 22 * 14}
    assert {task.steps for task in tasks if task.contender == "eager"} == {1_000, 22 * 14}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--contenders=xla,julia", "--contenders=['xla', 'julia']: must be as its help says (Some"),
        ("--devices=gpu", "--device_index: nvidia-smi lists no GPU"),
        ("--cores=half", "must be as its help says (Numbers of CPU cores"),
        ("--rounds=1", "--rounds=1: must be an integer in the range"),
        ("--batch_sizes=661 --contenders=numpy_best", "at most the 660 training images"),
        ("--output=a.txt", "must be a path that ends in .json"),
        ("--output=old.json", "old-dark.png: is there already"),
        ("--python=numpy_best=python3 --contenders=c", "must be a contender in Python"),
        ("--output=torn.json/a.json", "torn.json must be a folder"),
        ("--merge=missing.json", "missing.json: No such file"),
        ("extra", "stray argument 'extra'"),
        ("--program=mine", "NAME:COMMAND"),
        ("--program=c:./mine", "--program=c:./mine: a contender has that name"),
        ("--merge=torn.json --against=torn.json", "--merge and --against: "),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, told, tiny_data_dir, tmp_path):
    (tmp_path / "torn.json").write_text('{"version": "1.0", "benchm')
    (tmp_path / "old-dark.png").write_text("mine")
    done = forked.run(
        [PROJECT / "compare.py", f"--data_dir={tiny_data_dir}", *arguments.split()],
        cwd=tmp_path,
        env=NO_GPU,
    )
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "old-dark.png").read_text() == "mine"
