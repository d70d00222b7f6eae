"""The command compare.py, end to end on small data, and what it refuses."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

import compare
from common import flagging
from common.errors import InputError
from comparison import campaign, results
from comparison.options import Config
from tests import forked
from tests.conftest import PROJECT

NO_GPU = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
QUICK = ("--devices=cpu", "--max_steps=100", "--rounds=2", "--cores=1")


def run_compare(*arguments: str, cwd: pathlib.Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(PROJECT / "compare.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=NO_GPU, capture_output=True, text=True, timeout=240)


@pytest.fixture
def forking(monkeypatch):
    """Lets the survey of a comparison here be forked; the test of Ctrl-C has all of it started."""
    run = subprocess.run

    def started(command, **options):
        if command[1] != "-m":
            return run(command, **options)
        return forked.run(command[1:], cwd=options["cwd"], env=NO_GPU)

    monkeypatch.setattr(subprocess, "run", started)


def asked(*arguments):
    return flagging.parse(Config, ["compare.py", *arguments], "")


@pytest.mark.usefixtures("forking")
def test_two_contenders_from_flags_to_files(tiny_data_dir, tmp_path, capsys):
    told = (
        f"--data_dir={tiny_data_dir}",
        "--contenders=numpy_best,c",
        f"--output={tmp_path / 'new.json'}",
    )
    assert compare.measured(asked(*told, *QUICK), Console()) == 0
    assert "not the same work" not in capsys.readouterr().out
    found = results.load(tmp_path / "new.json")
    job = found.jobs[0]
    assert (job.batch_size, job.steps, job.lr, job.loss, job.tf32) == (10, 100, 0.01, "sum", False)
    run = found.runs[0]
    assert run.baseline == ["numpy_best", "cpu"]
    assert run.rounds == 2
    assert sorted((s.contender, s.round, s.again) for s in run.samples) == [
        ("c", 1, False),
        ("c", 2, False),
        ("numpy_best", 1, False),
        ("numpy_best", 1, True),
        ("numpy_best", 2, False),
        ("numpy_best", 2, True),
    ]
    assert all(sample.us_per_step > 0 and sample.difference < 1e-5 for sample in run.samples)
    assert len({sample.num_correct for sample in run.samples if sample.contender != "c"}) == 1
    assert run.flags["max_steps"] == 100
    assert {sample.cores for sample in run.samples} == {1}
    assert {
        "python",
        "tensorflow",
        "numpy",
        "cpu_model",
        "cores",
        "git_commit",
        "variables",
    } <= set(run.environment)
    assert "| numpy_best cpu |" in (tmp_path / "new.md").read_text()
    assert "![new-bars](new-bars.png)" in (tmp_path / "new.md").read_text()
    assert (tmp_path / "new-bars.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "new-bars.svg").read_bytes()
    assert not list(tmp_path.glob(".new*"))


@pytest.mark.slow
def test_ctrl_c_keeps_the_finished_rounds(tiny_data_dir, tmp_path):
    command = [
        sys.executable,
        str(PROJECT / "compare.py"),
        f"--data_dir={tiny_data_dir}",
        "--contenders=numpy_best",
    ]
    command += [
        "--devices=cpu",
        "--cores=1",
        "--max_steps=100",
        "--rounds=1000",
    ]
    command += ["--output=kept.json"]
    options = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "start_new_session": True,
    }
    with subprocess.Popen(command, cwd=tmp_path, env=NO_GPU, **options) as process:
        for line in process.stdout:
            if line.startswith("round 3"):
                break
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
        shown, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors == ""
    assert "numpy_best cpu" in shown
    run = results.load(tmp_path / "kept.json").runs[0]
    assert run.rounds >= 2
    assert len(run.samples) == 2 * run.rounds


@pytest.mark.slow
def test_an_output_file_is_never_overwritten(tmp_path):
    for name in ("old.json", "old.md", "old-bars.png", "old-sweep.svg"):
        path = tmp_path / name
        path.write_text("mine")
        done = run_compare("--output=old.json", cwd=tmp_path)
        assert done.returncode == 2
        assert name in done.stderr
        assert "never overwritten" in done.stderr
        assert path.read_text() == "mine"
        path.unlink()


def test_files_of_several_machines_in_one_table(tmp_path):
    saved = {"a.json": 10.0, "b.json": 5.0}
    for name, us in saved.items():
        quiet = {"other_cores": 0.0, "stolen": 0.0}
        seconds = {"start": 1.0, "compile": 0.5, "evaluate": 0.01}
        samples = [
            results.Sample(
                "xla", "cpu", 10, again, number, quiet, 1, us * wobble, 1e-6, 9000, seconds
            )
            for number, wobble in enumerate((1.0, 1.01, 0.99), 1)
            for again in (False, True)
        ]
        job = results.Job("mnist", "0" * 64, 784, 10, 55_000, 10, 2000, 0.01, seed=0)
        environment = {"python": "3.11.7", "tensorflow": "2.21.0", "cores": 2, "git_commit": None}
        run = results.Run(
            {"cpu": f"CPU {name}"}, environment, {}, "2026-11-23", ["xla", "cpu"], [], samples
        )
        results.save(results.Results([job], [run]), tmp_path / name)
    done = run_compare("--merge", "a.json", "b.json", "--output=c.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("xla cpu (b)") < done.stdout.index("xla cpu (a)")
    assert "b: cpu: CPU b.json" in done.stdout
    assert [run.devices["cpu"] for run in results.load(tmp_path / "c.json").runs] == [
        "CPU a.json",
        "CPU b.json",
    ]
    assert (tmp_path / "c-bars.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--contenders=xla,julia"], "--contenders=xla,julia"),
        (["--contenders="], "--contenders="),
        (["--contenders=xla,xla"], "none twice"),
        (["--contenders=xla,,numpy"], "none empty"),
        (["--devices=tpu"], "--devices=tpu: must be some of cpu, gpu"),
        (["--devices="], "--devices="),
        (["--rounds=1"], "--rounds=1: must be an integer of at least 2"),
        (["--batch_sizes=10,0"], "--batch_sizes=10,0"),
        (["--output=a.txt"], "must end in .json"),
        (["--output=missing/a.json"], "cannot write to missing"),
        (["--merge=missing.json"], "missing.json: No such file"),
        (["--merge", "torn.json"], "torn.json: not whole"),
        (["--merge"], "--merge="),
        (["extra"], "stray argument 'extra'"),
        (["--program=mine"], "--program=mine: must be NAME:COMMAND"),
        (["--program=c:./mine"], "--program=c:./mine: a contender has that name"),
        (["--against=missing.json"], "missing.json: No such file"),
        (["--max_slowdown=0.9"], "--max_slowdown=0.9: must be a finite number of at least 1"),
        (["--max_slowdown=nan"], "--max_slowdown=nan"),
        (["--merge=torn.json", "--against=torn.json"], "--merge and --against: "),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, told, tiny_data_dir, tmp_path):
    (tmp_path / "torn.json").write_text('{"version": "1.0", "benchm')
    done = forked.run(
        [PROJECT / "compare.py", f"--data_dir={tiny_data_dir}", *arguments],
        cwd=tmp_path,
        env=NO_GPU,
    )
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_home_is_home_behind_an_equals_sign_too(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    given = [
        "",
        "--output=~/r.json",
        "--merge=~/a.json,b.json",
        "--against=~/c.json",
        "--data_dir=~",
    ]
    found = flagging.parse(Config, given, "")
    assert (found.output, found.against, found.data_dir) == (
        "/home/me/r.json",
        "/home/me/c.json",
        "/home/me",
    )
    assert found.merge == ("/home/me/a.json", "b.json")


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--devices=gpu", "--devices=gpu: TensorFlow sees none here"),
        ("--cores=99999", "--cores=99999: must be at most"),
    ],
)
@pytest.mark.usefixtures("forking")
def test_what_the_survey_tells_is_refused(argument, told, tiny_data_dir):
    config = asked(f"--data_dir={tiny_data_dir}", "--contenders=numpy_best", argument)
    with pytest.raises(InputError, match=told):
        campaign.run(config, Console(), keep=lambda results: pytest.fail("a round was measured"))


def test_survey_leaves_examples_order_and_what_each_job_ends_with(tiny_data_dir, tmp_path):
    jobs = [
        {"batch_size": size, "steps": steps, "lr": 0.01} for size, steps in ((10, 2000), (100, 30))
    ]
    request: dict[str, object] = {
        "folder": str(tmp_path),
        "dataset": "mnist",
        "data_dir": str(tiny_data_dir),
        "manual_dir": None,
    }
    request |= {"seed": 3, "devices": ["cpu", "gpu"], "jobs": jobs}
    assert (
        forked.run(
            ["-m", "comparison.survey", json.dumps(request)], cwd=PROJECT, env=NO_GPU
        ).returncode
        == 0
    )
    order = np.load(tmp_path / "work" / "order.npy")
    assert order.shape == (31, 660)  # 2,000 steps of 66 an epoch
    np.testing.assert_array_equal(np.sort(order), np.tile(np.arange(660), (31, 1)))
    found = json.loads((tmp_path / "survey.json").read_text())
    assert list(found["devices"]) == ["cpu"]
    known = [(job["batch_size"], job["num_examples"], job["seed"]) for job in found["jobs"]]
    assert known == [(10, 660, 3), (100, 660, 3)]
    with np.load(tmp_path / "expected-100.npz") as weights:
        assert weights["W"].shape == (784, 10)
    request["jobs"] = [{"batch_size": 661, "steps": 1, "lr": 0.01}]
    done = forked.run(["-m", "comparison.survey", json.dumps(request)], cwd=PROJECT, env=NO_GPU)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "--batch_sizes=661: must be at most the 660 training images" in done.stderr


# Trains with NumPy, and says that it took as long as the file beside it says.
PROGRAM = """
import json, pathlib, sys
import numpy as np
here = pathlib.Path(sys.argv[1])
job = json.loads((here / "job.json").read_text())
images, labels, order = (np.load(here / f"{name}.npy") for name in ("images", "labels", "order"))
W, b = np.zeros((784, 10)), np.zeros(10)
for step in range(job["steps"]):
    epoch, at = divmod(step, -(-len(labels) // job["batch_size"]))
    rows = order[epoch, at * job["batch_size"]:][:job["batch_size"]]
    x, delta = images[rows] / 255, np.exp(images[rows] / 255 @ W + b)
    delta = delta / delta.sum(1, keepdims=True) - np.eye(10)[labels[rows]]
    W, b = W - job["lr"] * x.T @ delta, b - job["lr"] * delta.sum(0)
np.save(here / "W.npy", W)
np.save(here / "b.npy", b)
took = float(pathlib.Path(__file__).with_name("took").read_text())
(here / "result.json").write_text(json.dumps({"train": [took]}))
"""


@pytest.mark.slow
def test_guard_exits_with_3_where_a_program_has_become_slower(tiny_data_dir, tmp_path):
    (tmp_path / "mine.py").write_text(PROGRAM)
    data_dir, mine = (
        f"--data_dir={tiny_data_dir}",
        f"--program=mine:{sys.executable} {tmp_path / 'mine.py'}",
    )
    (tmp_path / "took").write_text("0.01")
    few = (
        "--contenders=numpy_best",
        "--devices=cpu",
        "--max_steps=100",
        "--cores=1",
        "--rounds=4",
    )
    done = run_compare(data_dir, mine, *few, "--output=base.json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    times = [sample.us_per_step for sample in results.load(tmp_path / "base.json").runs[0].samples]
    assert times.count(0.01 / 100 * 1e6) == 4
    (tmp_path / "took").write_text("0.011")
    done = run_compare(data_dir, "--against=base.json", "--max_slowdown=1.09", cwd=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "mine on cpu, batch 10: × 1.100" in done.stdout and "SLOWER" in done.stdout
    done = run_compare(data_dir, "--against=base.json", "--max_steps=50", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        "--max_steps: --against measures what base.json measured: leave the flag out" in done.stderr
    )
