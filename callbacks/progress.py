"""The output of a run on the screen, in 80 columns."""

import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from callbacks.base import Callback
from runtime.state import State

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

INTERVAL, PLAIN_INTERVAL = 1.0, 60.0  # seconds between updates of the bar, and between lines

# The header, with the values of a State
DATA = (
    "{dataset.name}: {dataset.train.labels.size:,} training, "
    "{dataset.validation.labels.size:,} validation, {dataset.test.labels.size:,} test images"
)
JOB = (
    "mode {config.mode} on {device}; batch {config.batch_size:,}, lr {config.lr:g}, "
    "{config.loss_reduction} loss"
)
# The last lines, with the values of a record
TESTED = """\
test accuracy {test_accuracy:.4f} of {test_examples:,} images
seconds: import {seconds[import]:,.3f}, data {seconds[data]:,.3f}, \
compile {seconds[compile]:,.3f}, train {seconds[train]:,.3f},
evaluate {seconds[evaluate]:,.3f}, other {seconds[other]:,.3f}, total {seconds[total]:,.3f}"""
TRAINED = """
training alone: {steps_now:,} steps, {us_per_step:,.1f} us/step, \
{examples_per_second:,.0f} images/s"""
ON_TARGET = """
validation accuracy {newest[2]:.4f} after {newest[1]:,.3f} s of training"""
PAUSED = """
the process was paused (Ctrl-Z, SIGSTOP): the seconds include it"""


class Progress(Callback):
    """A bar on a terminal; elsewhere a line when the steps have doubled, or after a minute.

    due, next_step: the time at which the bar or a line is due, and the step of the next line.
    seconds, examples: of training and images, at the last update.
    """

    bar: "Bar | None" = None
    due = seconds = 0.0
    next_step = examples = 0

    def on_train_begin(self) -> None:
        if sys.stdout.isatty():
            self.bar = new_bar(self.state.total_steps)
            self.closing.callback(self.bar.stop)

    def on_block_end(self, losses: np.ndarray) -> None:
        now, step, ends = time.monotonic(), self.state.step, self.state.ends()
        if self.bar and not ends:
            if now >= self.due:
                self.due = now + INTERVAL
                self.bar.start()
                self.bar.update(
                    self.bar.task_ids[0],
                    completed=step,
                    description=self._figures(),
                    refresh=True,
                )
        elif now >= self.due or step >= self.next_step or ends:
            if self.bar:
                self.bar.stop()
            self.due, self.next_step = now + PLAIN_INTERVAL, 2 * step
            print(f"step {step:,}/{self.state.total_steps:,}  {self._figures()}")

    def _figures(self) -> str:
        """Returns the newest validation accuracy, the loss, and the speed since the last update."""
        state, trained = self.state, self.state.ledger.parts["train"]
        images = state.examples_now - self.examples
        speed = images / (trained - self.seconds or 1.0)
        self.examples, self.seconds = state.examples_now, trained
        figures = f"loss per image {state.loss:.4g}  {speed:,.0f} images/s"
        if state.evaluations:
            figures = f"validation {state.evaluations[-1][2]:.4f}  {figures}"
        return figures

    def on_train_end(self, record: dict[str, Any]) -> None:
        print(summary(record))


def new_bar(total_steps: int) -> "Bar":
    """Returns a bar that disappears at its end."""
    from rich.progress import BarColumn, Progress, TimeRemainingColumn

    bar = Progress(
        BarColumn(bar_width=None),
        "{task.percentage:.0f}%  {task.description}",
        TimeRemainingColumn(compact=True),
        auto_refresh=False,
        transient=True,
        expand=True,
    )
    bar.add_task("", total=total_steps)
    return bar


def header(state: State, device_name: str) -> str:
    """Returns a line for the data, and one for the device and the job, wrapped at 80 columns."""
    data, job = DATA, JOB
    if state.dataset.train.streamed:
        data += "; streamed from disk"
    if state.config.strategy != "none":
        job += "; strategy {config.strategy} of {strategy.num_replicas_in_sync}"
    if state.config.tf32:
        job += "; TF32 allowed"
    lines = [line.format(**vars(state), device=device_name) for line in (data, job)]
    return "\n".join(textwrap.fill(line, 80, break_on_hyphens=False) for line in lines)


def reached(state: State) -> str:
    """Returns the step that a stopped run reached, and whether it was saved."""
    saved = "not saved; use --checkpoint_dir to resume"
    if state.config.checkpoint_dir:
        saved = "the same command resumes"
    return f"at step {state.step:,}: {saved}"


def summary(record: dict[str, Any]) -> str:
    """Returns the last lines: test accuracy, the ledger of seconds, the speed of training alone."""
    text = TESTED
    if record["steps_now"]:
        text += TRAINED
    if record["config"]["target_accuracy"]:
        text += ON_TARGET
    if record["paused"]:
        text += PAUSED
    return text.format(**record, newest=record["evaluations"][-1])
