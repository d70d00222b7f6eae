"""What a run shows: the exact lines, with a clock of the test's own, on terminals of any width and in logs."""

import dataclasses
import io
import os
import pathlib
import re

import numpy as np
import pytest

import data
import flags
import model
from outputs import screen
from runtime import plan
from runtime.clock import Ledger
from runtime.state import State
from tests.conftest import Command

CLEARED = re.compile(r"\r|\x1b\[[0-9;?]*[a-zA-Z]")


class Clock:
    """Shows the seconds that it was set to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.TextIOWrapper):
    """A terminal that keeps what is written."""

    def __init__(self, encoding: str = "utf-8"):
        super().__init__(io.BytesIO(), encoding=encoding, newline="")

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined] # a BytesIO

    def shown(self) -> list[str]:
        """Returns what the line was, one after the other, without colours."""
        return [
            line
            for line in (CLEARED.sub("", part).rstrip() for part in re.split(r"\r|\n", self.text()))
            if line
        ]


@pytest.fixture
def make_state(tiny_dataset: data.Dataset):
    """Makes a run of 5,500 steps that trains on 1,812,345.6 images a second."""

    def make(examples: int = 55_000, **changes: object) -> State:
        train = data.Split(
            np.broadcast_to(np.uint8(0), (examples, 784)), np.zeros(examples, np.int32)
        )
        ledger = Ledger(clock=lambda: 0.0)
        config = flags.training_config(**changes)
        return State(
            config,
            dataclasses.replace(tiny_dataset, train=train),
            model.SoftmaxRegression(784, 10),
            ledger,
        )

    return make


def go_to(state: State, step: int, accuracy: float | None = None, loss: float = 0.2931) -> State:
    state.step, state.examples, state.loss = step, 10 * step, loss
    state.ledger.parts["train"] = 10 * step / 1_812_345.6
    if accuracy:
        state.evaluated(accuracy)
    return state


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch):
    """Makes a terminal of a width."""

    def make(width: int, encoding: str = "utf-8", kind: str = "xterm") -> Terminal:
        for name, value in {"TERM": kind, "COLUMNS": str(width), "NO_COLOR": "1"}.items():
            monkeypatch.setenv(name, value)
        return Terminal(encoding)

    return make


def line_at(terminal: Terminal, state: State) -> str:
    """Returns the line of a run that has taken its steps in four seconds, those before an even cadence not counted."""
    clock, step, examples = Clock(), state.step, state.examples
    with screen.LiveLine(terminal, clock) as line:
        clock.now += 1
        state.step = 50
        line.show(state)
        clock.now += 4 * (step - 50) / step
        state.step, state.examples = step, examples
        line.show(state)
    return terminal.shown()[-1]


LINES = {
    139: ("━" * 27).ljust(61)
    + "2,500/5,500 45%  validation 0.9184  loss 0.2931  1,812,346 images/s  5s left",
    80: ("━" * 10).ljust(23) + "2,500/5,500  val 0.9184  loss 0.2931  1,812,346 img/s  5s",
    60: ("━" * 10).ljust(24) + "45% val 0.9184 loss 0.2931 1.8M/s 5s",
    40: "45% val 0.9184 loss 0.2931 1.8M/s 5s",
}


@pytest.mark.parametrize("width", LINES)
def test_the_line_on_a_terminal_is_this(make_state, terminal, width: int) -> None:
    assert line_at(terminal(width), go_to(make_state(), 2_500, 0.9184)) == LINES[width]


def test_the_line_keeps_its_figures_at_any_width(make_state, terminal) -> None:
    state = go_to(make_state(epochs=999_999), 2_475_000_000, 0.9184, loss=1.2345e30)
    state.ledger.parts["train"] = 1e5
    for width in range(40, 201):
        shown = line_at(terminal(width), state)
        assert len(shown) <= width and re.search(r"(2,475,000,000/5,499,994,500|45%) ", shown), (
            shown
        )
        assert re.search(
            r"(val|validation) 0.9184 +loss 1.23e\+30 +(247,500 im(g|ages)|248k)/s +5s( left)?$",
            shown,
        ), shown


def test_a_terminal_without_unicode_gets_a_bar_of_ascii(make_state, terminal) -> None:
    shown = line_at(terminal(80, "ascii"), go_to(make_state(), 2_500, 0.9184))
    assert shown == LINES[80].replace("━", "-")


def test_the_line_is_rewritten_each_second_and_at_the_end_also_without_evaluations(
    make_state, terminal
) -> None:
    clock, state, stream = Clock(), make_state(eval_every=0), terminal(80)
    with screen.LiveLine(stream, clock) as line:
        for step in range(10, 5_410, 10):
            clock.now += 1 / 128
            line.show(go_to(state, step))
    pattern = re.compile(
        r" ([\d,]+)/5,500 \d+%  loss 0.2931  1,812,346 images/s(?:  (\d+)s left)?$"
    )
    shown = [pattern.search(text).groups() for text in stream.shown()]
    steps = {"10": None, "1,290": "3", "2,570": "2", "3,850": "1", "5,130": "0", "5,400": "0"}
    assert list(dict.fromkeys(shown)) == list(steps.items())
    assert stream.text().count("\n") == 1  # one line


def test_a_log_gets_plain_lines_at_a_readable_rate(make_state) -> None:
    clock, state, stream = Clock(), make_state(), io.StringIO()
    with screen.LiveLine(stream, clock) as line:
        for step in (*range(1, 51), *range(200, 5_500, 200), 5_500):
            clock.now += 0.001
            line.show(go_to(state, step, accuracy=step / 10_000))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "step 1/5,500 0%  validation 0.0001  loss 0.2931  1,812,346 images/s"
    assert lines[-1] == "step 5,500/5,500 100%  validation 0.5500  loss 0.2931  1,812,346 images/s"
    assert 10 <= len(lines) <= 25 and "\x1b" not in stream.getvalue()


def test_a_log_of_a_long_run_gets_a_line_a_minute_and_no_accuracy_of_another_step(
    make_state,
) -> None:
    clock, state, stream = Clock(), make_state(epochs=1_000), io.StringIO()
    with screen.LiveLine(stream, clock) as line:
        for step in range(1_000, 101_000, 1_000):
            clock.now += 6
            line.show(go_to(state, step, accuracy=0.5 if step == 8_000 else None))
    lines = stream.getvalue().splitlines()
    steps = [int(re.match(r"step ([\d,]+)/", line)[1].replace(",", "")) for line in lines]
    assert steps == [1_000, 2_000, 4_000, 8_000, 16_000, *range(26_000, 100_000, 10_000), 100_000]
    assert [step for step, line in zip(steps, lines, strict=True) if "validation" in line] == [
        8_000
    ]
    assert [line.partition("images/s")[2] for line in lines[:2]] == ["", "  9h09m left"]


def test_a_terminal_that_cannot_rewrite_gets_plain_lines(make_state, terminal) -> None:
    stream = terminal(80, kind="dumb")
    assert line_at(stream, go_to(make_state(), 2_500, 0.9184)).startswith(
        "step 2,500/5,500 45%  validation 0.9184  loss"
    )
    assert "\x1b" not in stream.text()


def test_a_resumed_run_counts_its_own_steps_for_the_time_left(make_state) -> None:
    clock, state, stream = Clock(), make_state(), io.StringIO()
    state.resumed = 4_500, 45_000
    with screen.LiveLine(stream, clock) as line:
        for step in (4_500, 5_000):
            clock.now += 10
            line.show(go_to(state, step))
    assert stream.getvalue().endswith("  10s left\n")


@pytest.mark.parametrize("tty", [True, False])
def test_the_time_left_is_said_once_it_is_founded_and_from_recent_steps(
    make_state, terminal, tty: bool
) -> None:
    clock, state, stream = Clock(), make_state(epochs=10), terminal(160) if tty else io.StringIO()
    with screen.LiveLine(stream, clock) as line:
        for step in range(1, 51):  # one at a time and evaluated, which takes far longer
            clock.now += 0.04
            line.show(go_to(state, step))
        for step in range(200, 25_200, 200):  # 100 steps a second
            clock.now += 2
            line.show(go_to(state, step))
        for step in range(25_200, 55_000, 200):  # 1,000 steps a second
            clock.now += 0.2
            line.show(go_to(state, step))
    lines = stream.shown() if tty else stream.getvalue().splitlines()
    left = {
        int(line.split("/")[0].split()[-1].replace(",", "")): line.partition("images/s")[2].strip()
        for line in lines
    }
    assert {left[step] for step in left if step <= 50} == {""}
    assert left[max(step for step in left if step < 5_000)].startswith("8m")
    assert left[max(step for step in left if step < 54_000)].removesuffix("s left") in (
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
    )


def test_a_run_that_ends_long_after_its_only_block_is_shown(make_state) -> None:
    clock, stream = Clock(), io.StringIO()
    with screen.LiveLine(stream, clock) as line:
        line.next_plain_step, line.due = 100, clock.now + 60  # it is not time yet
        line.show(go_to(make_state(), 60))
        clock.now += 10
    assert stream.getvalue() == "step 60/5,500 1%  loss 0.2931  1,812,346 images/s\n"


def test_a_log_has_a_line_for_each_validation_that_was_asked_for(make_state) -> None:
    clock, state, stream = (
        Clock(),
        make_state(epochs=10, eval_first=3, eval_every=5_500),
        io.StringIO(),
    )
    spans = [*plan.spans(state.config, 55_000, 5_500)]
    with screen.LiveLine(stream, clock) as line:
        for span in spans:
            clock.now += 0.001
            line.show(go_to(state, span.stop, 0.5 if span.evaluate else None))
    said = re.findall(r"^step ([\d,]+)/55,000 \d+%  validation", stream.getvalue(), re.MULTILINE)
    assert [int(step.replace(",", "")) for step in said] == [1, 2, 3, *range(5_500, 55_001, 5_500)]


def test_a_run_with_nothing_to_do_shows_no_line(terminal) -> None:
    for stream in (terminal(80), io.StringIO()):
        with screen.LiveLine(stream, Clock()):
            pass
        assert (stream.text() if isinstance(stream, Terminal) else stream.getvalue()) == ""


def test_durations_and_speeds_are_short() -> None:
    durations = {
        0: "0s",
        59.4: "59s",
        59.6: "1m00s",
        3_599: "59m59s",
        3_600: "1h00m",
        86_399: "23h59m",
        90_000: "1d01h",
    }
    assert {seconds: screen.duration(seconds) for seconds in durations} == durations
    speeds = {
        0: "0/s",
        999: "999/s",
        999.6: "1k/s",
        6_700: "7k/s",
        999_499: "999k/s",
        999_600: "1.0M/s",
        1.81e6: "1.8M/s",
    }
    assert {speed: screen.brief_speed(speed) for speed in speeds} == speeds


def test_the_header_says_what_trains_and_on_how_many(make_state) -> None:
    plain = screen.header(make_state(batch_size=1_000, mode="xla"), "a CPU")
    assert screen.header(make_state(tf32=True), "a GPU").endswith(
        "on a GPU (--device=auto), TF32 allowed"
    )
    assert plain == (
        "mnist: 55,000 training, 60 validation, 100 test images; batch 1,000, lr 0.01, sum loss; "
        "mode xla on a CPU (--device=auto)"
    )
    state = make_state(strategy="mirrored", mode="graph", device="cpu")
    for state.replicas, said in ((1, "1 replica"), (2, "2 replicas")):
        assert screen.header(state, "a CPU").endswith(
            f"; mode graph, strategy mirrored with {said}, on a CPU"
        )


def test_a_limit_that_is_never_reached_is_said(make_state) -> None:
    said = "\n--max_steps=100000 is never reached: --epochs ends at step 5,500"
    assert screen.header(make_state(max_steps=100_000), "a CPU").endswith(said)
    assert "never" not in screen.header(make_state(max_steps=5_500), "a CPU")


def test_an_ascii_terminal_can_read_all_that_a_run_says(
    run_train: Command, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "Prüfung"
    done = run_train(
        "--max_steps=3",
        f"--export_dir={folder}",
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.isascii() and f"exported to {tmp_path}/Pr\\xfcfung" in done.stdout
