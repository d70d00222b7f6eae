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


class Progress(Callback):
    """A bar on a terminal, and lines elsewhere: when the steps have doubled, and after an interval.

    interval: the seconds between updates of the bar, or between lines.
    due, next_step: the time and the step at which the bar or a line is due.
    seconds, examples: of training and images, at the last update.
    """

    bar: "Bar | None" = None
    interval = 60.0
    due = next_step = seconds = examples = 0.0

    def on_train_begin(self) -> None:
        if sys.stdout.isatty():
            from rich import progress

            self.bar = progress.Progress(
                progress.BarColumn(bar_width=None),
                "{task.percentage:.0f}%  {task.description}",
                progress.TimeRemainingColumn(compact=True),
                auto_refresh=False,
                transient=True,  # it disappears at its end
                expand=True,
            )
            self.bar.add_task("", total=self.state.total_steps)
            self.closing.callback(self.bar.stop)
            self.interval = 1.0

    def on_block_end(self, losses: np.ndarray) -> None:
        """Shows the newest validation accuracy, the loss, and the speed since the last update."""
        state, now, ends = self.state, time.monotonic(), self.state.ends()
        if now < self.due and state.step < self.next_step and not ends:
            return
        trained = state.ledger.parts["train"]
        speed = (state.examples_now - self.examples) / (trained - self.seconds)
        self.due = now + self.interval
        self.next_step = 2 * state.step
        self.seconds = trained
        self.examples = state.examples_now
        figures = f"loss per image {state.loss:.4g}  {speed:,.0f} images/s"
        if state.evaluations:
            figures = f"validation {state.evaluations[-1][2]:.4f}  {figures}"
        if self.bar:
            self.bar.start()
            self.bar.update(
                self.bar.task_ids[0], completed=state.step, description=figures, refresh=True
            )
            if not ends:
                return
            self.bar.stop()
        print(f"step {state.step:,}/{state.total_steps:,}  {figures}")

    def on_train_end(self, record: dict[str, Any]) -> None:
        """Prints test accuracy, the ledger of seconds, the speed of training alone."""
        text = (
            "test accuracy {test_accuracy:.4f} of {test_examples:,} images\n"
            "seconds: import {seconds[import]:,.3f}, data {seconds[data]:,.3f}, "
            "compile {seconds[compile]:,.3f}, train {seconds[train]:,.3f},\n"
            "evaluate {seconds[evaluate]:,.3f}, other {seconds[other]:,.3f}, "
            "total {seconds[total]:,.3f}"
        )
        if record["steps_now"]:
            text += (
                "\ntraining alone: {steps_now:,} steps, {us_per_step:,.1f} us/step, "
                "{examples_per_second:,.0f} images/s"
            )
        if record["config"]["target_accuracy"]:
            text += "\nvalidation accuracy {accuracy:.4f} after {trained:,.3f} s of training"
        if record["paused"]:
            text += "\nthe process was paused (Ctrl-Z, SIGSTOP): the seconds include it"
        _, trained, accuracy, _ = record["evaluations"][-1]
        print(text.format(**record, trained=trained, accuracy=accuracy))


def header(state: State, device_name: str) -> str:
    """Returns a line for the data, and one for the device and the job, wrapped at 80 columns."""
    text = (
        "{dataset.name}: {dataset.train.labels.size:,} training, "
        "{dataset.validation.labels.size:,} validation, {dataset.test.labels.size:,} test images\n"
        "mode {config.mode} on {device}; batch {config.batch_size:,}, lr {config.lr:g}, "
        "{config.loss_reduction} loss"
    )
    if state.dataset.train.streamed:
        text += "; streamed from disk"
    if state.config.strategy != "none":
        text += "; strategy {config.strategy} of {strategy.num_replicas_in_sync}"
    if state.config.tf32:
        text += "; TF32 allowed"
    lines = text.format(**vars(state), device=device_name).splitlines()
    return "\n".join(textwrap.fill(line, 80, break_on_hyphens=False) for line in lines)


def reached(state: State) -> str:
    """Returns the step that a stopped run reached, and whether it was saved."""
    saved = "not saved; use --checkpoint_dir to resume"
    if state.config.checkpoint_dir:
        saved = "the same command resumes"
    return f"at step {state.step:,}: {saved}"
