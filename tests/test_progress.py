"""What a run shows, with a clock of the test's own, on terminals and in logs."""

import contextlib
import dataclasses
import io
import os
import re
import sys

import numpy as np
import pytest

import data
import flags
import model
from callbacks import progress
from runtime.clock import Ledger
from runtime.state import State

CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
FIGURES = "loss per image 0.2931  1,812,346 images/s"


class Screen(io.TextIOWrapper):
    """What a run writes to, as a log or a terminal."""

    def __init__(self, is_terminal, encoding):
        super().__init__(io.BytesIO(), encoding=encoding, newline="")
        self.isatty = lambda: is_terminal

    def text(self):
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)

    def shown(self):
        """Returns what each line was, one after the other, without colours."""
        parts = (CODES.sub("", part).rstrip() for part in re.split(r"\r|\n", self.text()))
        return [part for part in parts if part]


@pytest.fixture
def show(tiny_dataset, monkeypatch):
    """Returns a function that shows a run of 5,500 steps an epoch on a screen of 80 columns."""
    for name, value in {"TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)

    def shown(steps, seconds, speeds=(1_812_345.6,), is_terminal=False, encoding="utf-8", **more):
        clock = iter(seconds * np.arange(1_000_000))
        monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
        screen = Screen(is_terminal, encoding)
        monkeypatch.setattr(sys, "stdout", screen)
        state = made(tiny_dataset, **more)
        with contextlib.ExitStack() as closing:
            callback = progress.Progress(state, closing)
            for number, step in enumerate(steps):
                speed = speeds[number % len(speeds)]
                state.ledger.parts["train"] += 10 * (step - state.step) / speed
                state.step, state.examples, state.loss = step, 10 * step, 0.2931
                callback.on_block_end(np.zeros(1), False)
        return screen

    return shown


def made(dataset, **changes):
    """Makes a run of 5,500 steps an epoch."""
    images = np.broadcast_to(np.uint8(0), (55_000, 784))
    split = data.Split(images, np.zeros(55_000, np.int32))
    dataset = dataclasses.replace(dataset, train=split)
    config = flags.training_config(mode="xla", **changes)
    state = State(config, dataset, model.SoftmaxRegression(784, 10), Ledger(clock=lambda: 0.0))
    state.evaluations = [[1, 0.1, 0.9184, 2.3]]
    return state


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_bar_fits_80_columns_and_is_gone_at_the_end(show, encoding):
    screen = show(range(50, 5_501, 50), 0.25, is_terminal=True, encoding=encoding)
    *_, bar, last = screen.shown()
    said = f"validation 0.9184  {FIGURES}"
    assert re.fullmatch(rf"[━╸╺-]+ +\d\d%  {said} +\d+:\d\d", bar) and len(bar) <= 80
    assert last == f"step 5,500/5,500  {said}"
    assert "\x1b[2K" in screen.text() and screen.text().endswith("images/s\n")


def test_the_speed_on_the_bar_is_that_of_the_last_second(show):
    speeds = [1_000_000, 2_000, 5_000]
    shown = show([100, 200, 300], 1.0, speeds, is_terminal=True).shown()
    found = re.findall(r"([\d,]+) images/s", "\n".join(dict.fromkeys(shown)))
    assert [int(speed.replace(",", "")) for speed in found] == speeds


@pytest.mark.parametrize(
    ("steps", "seconds", "lines"),
    [
        (
            [*range(1, 51), *range(200, 5_501, 100)],
            0.001,
            [1, 2, 4, 8, 16, 32, 200, 400, 800, 1_600, 3_200, 5_500],
        ),
        ([5_500], 0.001, [5_500]),
        ([2_500, 2_600], 0.001, [2_500]),
        (
            range(100, 5_501, 100),
            6,
            [100, 200, 400, 800, 1_600, *range(2_600, 5_501, 1_000), 5_500],
        ),
    ],
)
def test_a_log_gets_plain_lines_at_a_readable_rate(show, steps, seconds, lines):
    assert show(steps, seconds).shown() == [
        f"step {step:,}/5,500  validation 0.9184  {FIGURES}" for step in lines
    ]


def test_a_terminal_that_cannot_rewrite_gets_plain_lines(show, monkeypatch):
    monkeypatch.setattr("callbacks.progress.os.environ", {"TERM": "dumb"})
    screen = show([2_500], 1, is_terminal=True)
    assert screen.text() == f"step 2,500/5,500  validation 0.9184  {FIGURES}\n"


@pytest.mark.parametrize(
    ("changes", "job"),
    [
        ({"batch_size": 1_000}, "mode xla on a CPU; batch 1,000, lr 0.01, sum loss"),
        (
            {"strategy": "mirrored"},
            "mode xla with strategy mirrored of 1 on a CPU; batch 10, lr 0.01, sum loss",
        ),
    ],
)
def test_the_header_says_what_trains_and_on_how_many(tiny_dataset, changes, job):
    counts = "mnist: 55,000 training, 60 validation, 100 test images"
    assert progress.header(made(tiny_dataset, **changes), "a CPU") == f"{counts}\n{job}"


RECORD = {
    "test_accuracy": 0.9147,
    "test_examples": 10_000,
    "seconds": {"import": 1.5, "data": 0.25, "compile": 10.125, "train": 1234.5, "evaluate": 0.5}
    | {"paused": 0.0, "other": 0.125, "total": 1247.0},
    "steps": 5_500,
    "resumed_at_step": 0,
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
            {"seconds": RECORD["seconds"] | {"paused": 20.04}},
            [TRAINED, "paused for 20.0 s, which no other figure counts"],
        ),
        (
            {"resumed_at_step": 5_500, "us_per_step": None},
            ["nothing left to do, the run had reached its last step, 5,500"],
        ),
        (
            {"config": {"target_accuracy": 0.9}},
            [TRAINED, "target accuracy 0.9: reached at step 5,500, after 1,234.500 s of training"],
        ),
    ],
)
def test_the_last_lines_are_these(changes, last):
    said = progress.summary(RECORD | changes, reached_target=True).splitlines()
    assert said == TESTED + last and max(map(len, said)) <= 80


def test_an_ascii_terminal_can_read_all_that_a_run_says(run_train, tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run_train("--max_steps=3", f"--export_dir={tmp_path / 'Prüfung'}", env=environment)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.isascii() and f"exported to {tmp_path}/Pr\\xfcfung" in done.stdout
