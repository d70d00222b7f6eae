"""What a run shows on the screen."""

import sys
from typing import Any, TextIO

from runtime.state import State


class LiveLine:
    """One line rewritten in place on a terminal; elsewhere plain lines, about ten for a run and more at its start."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stdout
        self.next_plain_line, self.live = 1, None
        if self.stream.isatty():
            from rich.console import Console
            from rich.live import Live
            from rich.text import Text

            self.text = Text
            self.live = Live(console=Console(file=self.stream, highlight=False), auto_refresh=False)

    def __enter__(self) -> "LiveLine":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def show(self, state: State) -> None:
        """Shows the step, the newest validation accuracy, the loss of an example in the newest batches, and the speed."""
        step, total = state.step, state.total_steps
        line = (
            f"step {step:,}/{total:,} {step / total:.0%}  validation {state.accuracies[-1][1]:.4f}  "
            f"loss {state.loss:.4f}  {state.images_per_second():,.0f} images/s"
        )
        if self.live:
            self.live.update(self.text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif step >= self.next_plain_line or step == total:
            print(line, file=self.stream, flush=True)
            self.next_plain_line = min(2 * step, step + total // 10)


def header(state: State, device_name: str) -> str:
    """Returns the first line: the data, the job and the device."""
    config, dataset = state.config, state.dataset
    took = " (--device=auto)" if config.device == "auto" else ""
    streamed = " · streamed from disk" if dataset.on_disk else ""
    return (
        f"{dataset.name}: {len(dataset.train):,} training, {len(dataset.validation):,} validation, "
        f"{len(dataset.test):,} test images · batch {config.batch_size}, lr {config.lr:g}, {config.loss_reduction} "
        f"loss · mode {config.mode} on {device_name}{took}{streamed}"
    )


def reached(state: State, accuracy: float) -> str:
    """Returns what a stopped run reached, and whether it is kept."""
    kept = "the same command goes on from there" if state.config.checkpoint_dir else "kept only with --checkpoint_dir"
    return f"at step {state.step:,} of {state.total_steps:,}, validation accuracy {accuracy:.4f}: {kept}"


def summary(record: dict[str, Any], reached_target: bool) -> str:
    """Returns the last lines: test accuracy, the ledger of seconds, and the speed of training alone."""
    parts = "  ".join(f"{part} {seconds:.3f}" for part, seconds in record["seconds"].items())
    steps, resumed_at = record["steps"], record["resumed_at_step"]
    lines = [
        f"test accuracy {record['test_accuracy']:.4f} of {record['test_examples']:,} images",
        f"seconds: {parts}",
    ]
    if steps > resumed_at:
        lines.append(
            f"training alone: {steps - resumed_at:,} steps, {record['us_per_step']:.1f} us/step, "
            f"{record['examples_per_second']:,.0f} images/s"
        )
    else:
        lines.append(f"training alone: nothing left to do, the run had reached its last step, {steps:,}")
    if target := record["config"]["target_accuracy"]:
        outcome = f"reached at step {record['steps']:,}, after" if reached_target else "not reached in"
        lines.append(f"target accuracy {target:g}: {outcome} {record['seconds']['train']:.3f} s of training")
    return "\n".join(lines)
