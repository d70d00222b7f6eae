"""Ctrl-C, SIGTERM, SIGHUP and pauses; who ends a process at once, and who in good order."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

import train
from common.errors import Stopped
from runtime import clock
from tests import forked
from tests.conftest import PROJECT, python


def test_a_signal_ends_the_block_and_the_same_command_goes_on(tiny_data_dir, tmp_path, run_here):
    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    long = [PROJECT / "train.py", f"--data_dir={tiny_data_dir}", "--epochs=10000", "--mode=graph"]
    process = forked.Forked([*long, kept])
    assert any("step 8/" in line for line in process.stdout), process.stderr.read()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    step = re.fullmatch(r"stopped by SIGTERM at step ([\d,]+): .*\n", errors)[1].replace(",", "")
    job = f"--max_steps={step}", "--epochs=10000", "--mode=graph"
    unbroken, resumed = run_here(*job), run_here(*job, kept)
    assert (unbroken["resumed_at_step"], resumed["resumed_at_step"]) == (0, int(step))
    assert resumed["weights_sha256"] == unbroken["weights_sha256"]


def test_a_closed_terminal_costs_no_checkpoint(tiny_data_dir, tmp_path):
    terminal, slave = os.openpty()
    command = ["setsid", "--ctty", sys.executable, PROJECT / "train.py", "--epochs=10000"]
    command += [f"--data_dir={tiny_data_dir}", f"--checkpoint_dir={tmp_path / 'kept'}"]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    while b"images/s" not in os.read(terminal, 1000):
        pass
    os.close(terminal)
    assert process.wait(60) == 128 + signal.SIGHUP
    assert len([*tmp_path.glob("kept/step-*.index")]) == 1


def test_a_signal_behind_the_last_step_loses_nothing(run_here, tmp_path, monkeypatch):
    accuracy = train.accuracy

    def pressed(state, split):
        if split is state.dataset.test:
            os.kill(os.getpid(), signal.SIGTERM)
        return accuracy(state, split)

    monkeypatch.setattr(train, "accuracy", pressed)
    with pytest.raises(Stopped) as stopped:
        run_here("--max_steps=30", "--mode=graph", f"--record={tmp_path / 'run.json'}")
    assert stopped.value.exit_code == 143 and str(stopped.value) == "stopped by SIGTERM"
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == 30


def test_ctrl_c_during_the_imports_is_no_traceback(tiny_data_dir, tmp_path):
    # In TensorFlow's place, a module that presses Ctrl-C and never ends.
    (tmp_path / "tensorflow.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = python("train.py", f"--data_dir={tiny_data_dir}", env=environment)
    assert (done.returncode, done.stderr) == (130, "stopped by SIGINT\n")


PRESSED = """
import os, signal
from common import errors
from runtime import signals, startup
def press(name):
    os.kill(os.getpid(), getattr(signal, f'SIG{name}'))
def forever():
    while True: pass
"""


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("with signals.deferred():\n    press('TERM')\n    press('INT')\n    forever()", "SIGINT"),
        ("with signals.deferred():\n    press('TERM')", "SIGTERM"),
        ("with startup.quiet():\n    press('TERM')\n    forever()", "SIGTERM"),
    ],
    ids=["a second", "after the last block", "while stderr is held"],
)
def test_it_leaves_and_says_so(tmp_path, lines, said):
    body = "\n".join(f"    {line}" for line in f"signals.install()\n{lines}".splitlines())
    (tmp_path / "program.py").write_text(f"{PRESSED}with errors.one_line():\n{body}\n")
    done = python(tmp_path / "program.py", env=os.environ | {"PYTHONPATH": str(PROJECT)})
    assert (done.returncode, done.stderr) == (128 + signal.Signals[said], f"stopped by {said}\n")


def test_a_pause_is_noted():
    ledger = clock.Ledger()
    ledger.notice_pauses()
    assert not ledger.paused
    os.kill(os.getpid(), signal.SIGCONT)
    assert ledger.paused


@pytest.mark.parametrize(
    ("launcher", "orderly"),
    [
        ([], False),
        (["-m", "cProfile", "-o", os.devnull], True),
        (["-m", "pdb", "-c", "continue"], True),
        (["-i"], True),
        (["-c", "import runpy, sys; runpy.run_path(sys.argv[1])"], True),
    ],
)
def test_only_who_waits_for_it_gets_an_orderly_end(tmp_path, launcher, orderly):
    program = "import atexit\nfrom common import errors\natexit.register(print, 'in good order')\n"
    program += "errors.exit_with_one_line(lambda: print('done'))\n"
    (tmp_path / "program.py").write_text(program)
    options = {"cwd": tmp_path, "stdin": subprocess.DEVNULL}
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = python(*launcher, tmp_path / "program.py", env=environment, **options)
    assert "done" in done.stdout and ("in good order" in done.stdout) == orderly, done.stderr
