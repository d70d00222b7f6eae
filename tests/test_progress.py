"""What a run shows, with a clock of the test's own, on terminals and in logs."""

import contextlib
import itertools
import os
import re
import sys

import numpy as np
import pytest

import flags
import model
from callbacks import progress
from runtime.clock import Ledger
from runtime.state import State
from tests.conftest import python

SHOWN = "validation 0.9184  loss per image 0.2931  1,812,346 images/s"


@pytest.fixture
def state(tiny_dataset):
    """A run of 6,600 steps, at a speed of its own."""
    config = flags.training_config(mode="xla", epochs=100)
    state = State(config, tiny_dataset, model.SoftmaxRegression(784, 10), Ledger())
    state.evaluations, state.loss = [[1, 0.1, 0.9184, 2.3]], 0.2931
    return state


@pytest.fixture
def show(state, monkeypatch, capsys):
    """Returns a function that shows a run on a screen of 80 columns; it returns what was shown."""

    def shown(steps, seconds, speeds=(1_812_345.6,), terminal=None):
        monkeypatch.setenv("TERM", terminal or "")
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setattr("rich._console", None)  # one that another test has used knows its size
        monkeypatch.setattr(sys.stdout, "isatty", lambda: bool(terminal))
        monkeypatch.setattr(progress.time, "monotonic", itertools.count(0, seconds).__next__)
        with contextlib.ExitStack() as closing:
            callback = progress.Progress(state, closing)
            callback.on_train_begin()
            for step, speed in zip(steps, itertools.cycle(speeds)):
                state.ledger.parts["train"] += 10 * (step - state.step) / speed
                state.step, state.examples_now = step, 10 * step
                callback.on_block_end(np.ones(1))
        output = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
        return [line.rstrip() for line in re.split(r"[\r\n]", output) if line.rstrip()]

    return shown


def test_only_an_accuracy_of_this_step_reaches_the_target(state):
    state.config, state.step = state.config.replace(target_accuracy=0.9), 1
    assert state.is_complete()
    state.step = 2
    assert not state.is_complete()


def test_the_bar_fits_80_columns_and_is_gone_at_the_end(show):
    *_, bar, last = show(range(50, 6_601, 50), 0.25, terminal="xterm")
    assert re.fullmatch(rf"[━╸╺-]+ +\d+%  {SHOWN} +\d+:\d\d", bar) and len(bar) <= 80
    assert last == f"step 6,600/6,600  {SHOWN}"


def test_the_speed_on_the_bar_is_that_since_its_last_update(show):
    speeds = [1_000_000, 2_000, 5_000]
    bars = dict.fromkeys(show([100, 200, 300], 1.0, speeds, terminal="xterm"))
    said = re.findall(r"([\d,]+) images/s", "\n".join(bars))
    assert said == [f"{speed:,}" for speed in speeds]


@pytest.mark.parametrize(
    ("steps", "seconds", "lines"),
    [
        (range(1, 101), 0.001, [1, 2, 4, 8, 16, 32, 64]),
        ([2_500, 2_600, 6_600], 0.001, [2_500, 6_600]),
        (range(100, 6_601, 100), 6, [100, 200, 400, 800, *range(1_600, 6_601, 1_000)]),
    ],
)
def test_a_log_gets_plain_lines_at_a_readable_rate(show, steps, seconds, lines):
    shown = show(steps, seconds)
    assert shown == [f"step {step:,}/6,600  {SHOWN}" for step in lines]


def test_the_header_says_what_trains_and_on_how_many(state):
    state.config = state.config.replace(tf32=True, strategy="mirrored", mode="graph")
    assert progress.header(state, "a CPU").splitlines() == [
        "mnist: 660 training, 60 validation, 100 test images",
        "mode graph on a CPU; batch 10, lr 0.01, sum loss; strategy mirrored of 1; TF32",
        "allowed",
    ]


RECORD = {
    "test_accuracy": 0.9147,
    "test_examples": 10_000,
    "seconds": {
        "import": 1.5,
        "data": 0.25,
        "compile": 10.125,
        "train": 1234.5,
        "evaluate": 0.5,
        "other": 0.125,
        "total": 1247.0,
    },
    "paused": False,
    "steps_now": 5_500,
    "us_per_step": 10.14,
    "examples_per_second": 985_835.4,
    "config": {"target_accuracy": None},
    "evaluations": [[5_500, 1234.5, 0.9, 0.3]],
}
TESTED = [
    "test accuracy 0.9147 of 10,000 images",
    "seconds: import 1.500, data 0.250, compile 10.125, train 1,234.500,",
    "evaluate 0.500, other 0.125, total 1,247.000",
]
TRAINED = "training alone: 5,500 steps, 10.1 us/step, 985,835 images/s"


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        ({}, [TRAINED]),
        (
            {"paused": True},
            [TRAINED, "the process was paused (Ctrl-Z, SIGSTOP): the seconds include it"],
        ),
        ({"steps_now": 0}, []),
        (
            {"config": {"target_accuracy": 0.9}},
            [TRAINED, "validation accuracy 0.9000 after 1,234.500 s of training"],
        ),
    ],
)
def test_the_last_lines_are_these(capsys, changes, last):
    progress.Progress(None, None).on_train_end(RECORD | changes)
    said = capsys.readouterr().out.splitlines()
    assert said == TESTED + last and max(map(len, said)) <= 80


def test_an_ascii_terminal_can_read_all_that_a_run_says():
    program = "from common import errors; errors.open_streams(); print('Pr\\xfcfung')"
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    assert python("-c", program, env=environment).stdout == "Pr\\xfcfung\n"
