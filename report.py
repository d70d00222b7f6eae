"""What a run shows on the screen and writes into its record."""

import dataclasses
import hashlib
import json
import pathlib
import sys
from typing import TYPE_CHECKING, Any, TextIO

import devices
import flags
from files import writable_file, write_atomically

if TYPE_CHECKING:
    import tensorflow as tf

    import data
    from train import Trainer


class LiveLine:
    """One line rewritten in place on a terminal; elsewhere plain lines, about ten for a run and more at its start."""

    def __init__(self, total_steps: int, stream: TextIO | None = None):
        self.total_steps, self.stream = total_steps, stream or sys.stdout
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

    def show(self, step: int, accuracy: float, loss: float, images_per_second: float) -> None:
        """Shows the state after `step` steps; `loss` is that of an example in the newest batches."""
        line = (
            f"step {step:,}/{self.total_steps:,} {step / self.total_steps:.0%}  "
            f"validation {accuracy:.4f}  loss {loss:.4f}  {images_per_second:,.0f} images/s"
        )
        if self.live:
            self.live.update(self.text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif step >= self.next_plain_line or step == self.total_steps:
            print(line, file=self.stream, flush=True)
            self.next_plain_line = min(2 * step, step + self.total_steps // 10)


def header(config: flags.Config, dataset: "data.Dataset", device_name: str) -> str:
    """Returns the first line: the data, the job and the device."""
    took = " (--device=auto)" if config.device == "auto" else ""
    streamed = " · streamed from disk" if dataset.on_disk else ""
    return (
        f"{dataset.name}: {len(dataset.train):,} training, {len(dataset.validation):,} validation, "
        f"{len(dataset.test):,} test images · batch {config.batch_size}, lr {config.lr:g}, {config.loss_reduction} "
        f"loss · mode {config.mode} on {device_name}{took}{streamed}"
    )


def record_of(trainer: "Trainer", test_accuracy: float, device: "tf.config.LogicalDevice") -> dict[str, Any]:
    """Returns the record of a finished run: its flags, where it ran, its seconds, and what it reached."""
    config, seconds = trainer.config, trainer.ledger.seconds()
    steps_now = trainer.step - trainer.resumed_at
    weights = trainer.model.W.numpy().tobytes() + trainer.model.b.numpy().tobytes()
    return {
        "config": dataclasses.asdict(config),
        "environment": devices.environment(device, config.mode, config.tf32),
        "seconds": seconds,
        "class_names": trainer.dataset.class_names,
        "streamed": trainer.dataset.on_disk,
        "steps": trainer.step,
        "resumed_at_step": trainer.resumed_at,
        "examples": trainer.examples,
        "us_per_step": seconds["train"] / steps_now * 1e6 if steps_now else None,
        "examples_per_second": trainer.images_per_second() if steps_now else None,
        "validation_accuracy": trainer.accuracies,
        "test_accuracy": test_accuracy,
        "test_examples": len(trainer.dataset.test),
        "final_loss": trainer.loss,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }


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


def check_writable(path: str | None) -> None:
    """Raises InputError unless the record can be written to `path`; asked before the run, so none is lost."""
    if path:
        writable_file("record", path)


def write_record(path: str | None, record: dict[str, Any]) -> None:
    """Writes the record to `path` as one JSON object, whole or not at all; does nothing without a path."""
    if path:
        text = json.dumps(record, indent=2) + "\n"
        write_atomically(pathlib.Path(path).expanduser(), lambda file: file.write(text.encode()))
