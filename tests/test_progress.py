"""What a run shows, with a clock of the test's own, on terminals and in logs."""

import dataclasses
import io
import os
import re

import numpy as np
import pytest

import data
import flags
import model
from callbacks import progress
from runtime.clock import Ledger
from runtime.state import State

CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.TextIOWrapper):
    """A terminal that keeps what is written."""

    def __init__(self, encoding="utf-8"):
        super().__init__(io.BytesIO(), encoding=encoding, newline="")

    def isatty(self):
        return True

    def text(self):
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]

    def shown(self):
        """Returns what the line was, one after the other, without colours."""
        parts = (CODES.sub("", part).rstrip() for part in re.split(r"\r|\n", self.text()))
        return [part for part in parts if part]


@pytest.fixture
def state(tiny_dataset):
    return made(tiny_dataset)


def made(dataset, **changes):
    """Makes a run of 5,500 steps an epoch."""
    images = np.broadcast_to(np.uint8(0), (55_000, 784))
    split = data.Split(images, np.zeros(55_000, np.int32))
    dataset = dataclasses.replace(dataset, train=split)
    config = flags.training_config(mode="xla", **changes)
    ledger = Ledger(clock=lambda: 0.0)
    return State(config, dataset, model.SoftmaxRegression(784, 10), ledger)


def go_to(state, step, speed=1_812_345.6, accuracy=None):
    """Takes a run to a step, at a speed since the one before."""
    state.ledger.parts["train"] += 10 * (step - state.step) / speed
    state.step, state.examples, state.loss = step, 10 * step, 0.2931
    if accuracy:
        state.evaluated(accuracy)


def followed(state, stream, steps, seconds, **more):
    """Shows a run that takes so many seconds from each of the steps to the next."""
    clock = Clock()
    shown = progress.Progress(state, stream, clock)
    for step in steps:
        clock.now += seconds
        go_to(state, step, **more)
        shown.on_block_end(np.zeros(1), False)
    return shown


@pytest.fixture(params=["utf-8", "ascii"])
def terminal(monkeypatch, request):
    """A terminal of 80 columns."""
    for name, value in {"TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    return Terminal(request.param)


def test_the_bar_fits_80_columns_and_is_gone_at_the_end(state, terminal):
    steps = range(50, 5_000, 50)
    shown = followed(state, terminal, steps, 0.25, accuracy=0.9184)
    figures = "validation 0.9184  loss per image 0.2931  1,812,346 images/s"
    last = terminal.shown()[-1]
    assert re.fullmatch(rf"[━╸╺-]+ +\d\d%  {figures} +\d+:\d\d", last) and len(last) <= 80
    shown.close()
    assert terminal.shown()[-1] == f"step 4,950/5,500  {figures}"
    assert "\x1b[2K" in terminal.text() and terminal.text().endswith("images/s\n")


def test_the_speed_on_the_bar_is_that_of_the_last_second(state, terminal):
    followed(state, terminal, [100, 200], 1.0, speed=1_000_000.0)
    assert "  1,000,000 images/s" in terminal.shown()[-1]
    followed(state, terminal, [300], 1.0, speed=2_000.0)
    go_to(state, 400, 5_000.0)
    shown = progress.Progress(state, terminal, Clock())
    shown.examples, shown.seconds = 3_000, state.ledger.parts["train"] - 0.2
    shown.on_block_end(np.zeros(1), False)
    assert "  5,000 images/s" in terminal.shown()[-1]


def test_a_log_gets_plain_lines_at_a_readable_rate(state):
    stream = io.StringIO()
    steps = (*range(1, 51), *range(200, 5_501, 100))
    followed(state, stream, steps, 0.001, accuracy=0.55).close()
    lines = stream.getvalue().splitlines()
    for step, line in (("1", lines[0]), ("5,500", lines[-1])):
        figures = "validation 0.5500  loss per image 0.2931  1,812,346 images/s"
        assert line == f"step {step}/5,500  {figures}"
    assert 10 <= len(lines) <= 25 and max(map(len, lines)) <= 80


def test_a_log_of_a_long_run_gets_a_line_a_minute(tiny_dataset):
    stream = io.StringIO()
    followed(made(tiny_dataset, epochs=1_000), stream, range(1_000, 101_000, 1_000), 6)
    steps = [
        int(step.replace(",", "")) for step in re.findall(r"step ([\d,]+)/", stream.getvalue())
    ]
    assert steps == [1_000, 2_000, 4_000, 8_000, *range(16_000, 100_000, 10_000)]


def test_a_terminal_that_cannot_rewrite_gets_plain_lines(state, terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    followed(state, terminal, [2_500], 1)
    assert terminal.shown() == ["step 2,500/5,500  loss per image 0.2931  1,812,346 images/s"]
    assert "\x1b" not in terminal.text()


def test_a_run_with_nothing_to_do_shows_no_line(state):
    stream = io.StringIO()
    state.step, state.resumed = 5_500, (5_500, 55_000)
    progress.Progress(state, stream).close()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("changes", "replicas", "job"),
    [
        ({"batch_size": 1_000}, 1, "mode xla on a CPU; batch 1,000, lr 0.01, sum loss"),
        ({"tf32": True}, 1, "mode xla on a CPU, TF32 allowed; batch 10, lr 0.01, sum loss"),
        (
            {"strategy": "mirrored"},
            2,
            "mode xla, strategy mirrored with 2 replicas, on a CPU; batch 10, lr 0.01, sum\nloss",
        ),
        (
            {"max_steps": 6_000},
            1,
            "mode xla on a CPU; batch 10, lr 0.01, sum loss\n"
            "--max_steps=6000 is never reached: --epochs ends at step 5,500",
        ),
    ],
)
def test_the_header_says_what_trains_and_on_how_many(tiny_dataset, changes, replicas, job):
    state = made(tiny_dataset, **changes)
    state.replicas = replicas
    counts = "mnist: 55,000 training, 60 validation, 100 test images"
    assert progress.header(state, "a CPU") == f"{counts}\n{job}"


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
            ["training alone: nothing left to do, the run had reached its last step, 5,500"],
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
