"""What a run shows on the screen, in 80 columns."""

import sys
import textwrap
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from callbacks.base import Callback
from runtime.state import State

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

COLUMNS = 80
INTERVAL, PLAIN_INTERVAL = 1.0, 60.0  # seconds between two looks at the bar, between two lines


class Progress(Callback):
    """A bar on a terminal; elsewhere plain lines, some twenty for a run, or one a minute."""

    def __init__(
        self,
        state: State,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(state)
        self.stream, self.clock = stream or sys.stdout, clock
        self.bar = new_bar(self.stream, clock) if self.stream.isatty() else None
        self.due = clock()
        self.next_step, self.shown_step = 1, 0
        # images and seconds of training at the last look
        self.examples, self.seconds = 0, 0.0

    def on_block_end(self, losses: np.ndarray, evaluated: bool) -> None:
        now, step = self.clock(), self.state.step
        if self.bar and now >= self.due:
            self.due = now + INTERVAL
            self.bar.start()
            text = "  ".join(self._figures())
            total = self.state.total_steps
            self.bar.update(self.bar.task_ids[0], completed=step, total=total, text=text)
            self.bar.refresh()
        elif not self.bar and (now >= self.due or step >= self.next_step):
            self.due = now + PLAIN_INTERVAL
            self.next_step = min(2 * step, step + self.state.total_steps // 10)
            self._print()

    def _print(self) -> None:
        step = self.shown_step = self.state.step
        words = [f"step {step:,}/{self.state.total_steps:,}", *self._figures()]
        print("  ".join(words), file=self.stream, flush=True)

    def _figures(self) -> list[str]:
        """Returns the newest validation accuracy, the loss, and the speed since the last look."""
        state, trained = self.state, self.state.ledger.parts["train"]
        images = state.examples - max(self.examples, state.resumed[1])
        speed = images / (trained - self.seconds or 1.0)
        self.examples, self.seconds = state.examples, trained
        figures = [f"loss per image {state.loss:.4g}", f"{speed:,.0f} images/s"]
        if state.evaluations:
            figures.insert(0, f"validation {state.evaluations[-1][2]:.4f}")
        return figures

    def on_train_end(self, record: dict[str, Any]) -> None:
        self.close()
        print(summary(record, self.state.reached_target()), file=self.stream, flush=True)

    def close(self) -> None:
        """Takes the bar away; a line says where the run has ended, however it did."""
        if self.bar:
            self.bar.stop()
        if self.state.step not in (self.shown_step, self.state.resumed[0]):
            self._print()


def new_bar(stream: TextIO, clock: Callable[[], float]) -> "Bar | None":
    """Returns a bar that vanishes at its end; None for a terminal that cannot rewrite a line."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    bar = Progress(
        BarColumn(bar_width=None),
        TextColumn(
            "{task.percentage:.0f}%  {task.fields[text]}", table_column=Column(no_wrap=True)
        ),
        TimeRemainingColumn(compact=True),
        console=Console(file=stream, highlight=False),
        auto_refresh=False,
        transient=True,
        get_time=clock,
        expand=True,
    )
    bar.add_task("", text="")
    return None if bar.console.is_dumb_terminal else bar


def wrapped(*lines: str) -> str:
    """Returns lines, those of more than 80 columns in several; no word is broken."""
    fitting = [textwrap.fill(line, COLUMNS, break_on_hyphens=False) for line in lines if line]
    return "\n".join(fitting).replace("\xa0", " ")


def header(state: State, device_name: str) -> str:
    """Returns the data, and the job and the device, and a line if --max_steps is never reached."""
    config, dataset, total = state.config, state.dataset, state.total_steps
    strategy, tf32 = "", ", TF32 allowed" if config.tf32 else ""
    if config.strategy != "none":
        replicas = "1 replica" if state.replicas == 1 else f"{state.replicas} replicas"
        strategy = f", strategy {config.strategy} with {replicas},"
    sizes = len(dataset.train), len(dataset.validation), len(dataset.test)
    data = "{}: {:,} training, {:,} validation, {:,} test images".format(dataset.name, *sizes)
    job = "batch {batch_size:,}, lr {lr:g}, {loss_reduction} loss".format_map(config.as_dict())
    unreached = f"--max_steps={config.max_steps} is never reached: --epochs ends at step {total:,}"
    return wrapped(
        data + "; streamed from disk" if dataset.on_disk else data,
        f"mode {config.mode}{strategy} on {device_name}{tf32}; {job}",
        unreached if config.max_steps > total else "",
    )


def reached(state: State) -> str:
    """Returns what a stopped run reached, and whether it is kept."""
    kept, lost = "the same command resumes", "not saved; use --checkpoint_dir to resume"
    saved = kept if state.config.checkpoint_dir else lost
    return f"at step {state.step:,}: {saved}"


def summary(record: dict[str, Any], reached_target: bool) -> str:
    """Returns the last lines: test accuracy, the ledger of seconds, the speed of training alone."""
    seconds = record["seconds"]
    paused = seconds["paused"]
    parts = [f"{part}\xa0{value:,.3f}" for part, value in seconds.items() if part != "paused"]
    tested = "test accuracy {test_accuracy:.4f} of {test_examples:,} images".format_map(record)
    speed = "nothing left to do, the run had reached its last step, {steps:,}"
    if record["us_per_step"]:
        speed = (
            "{steps_now:,} steps, {us_per_step:,.1f} us/step, {examples_per_second:,.0f} images/s"
        )
    steps_now = record["steps"] - record["resumed_at_step"]
    speed = "training alone: " + speed.format(**record, steps_now=steps_now)
    target = ""
    if share := record["config"]["target_accuracy"]:
        step, trained, *_ = record["evaluations"][-1]
        outcome = f"reached at step {step:,}, after" if reached_target else "not reached in"
        target = f"target accuracy {share:g}: {outcome} {trained:,.3f} s of training"
    pause = f"paused for {paused:,.1f} s, which no other figure counts" if paused >= 0.05 else ""
    return wrapped(tested, f"seconds: {', '.join(parts)}", speed, target, pause)
