"""The record of a run as one JSON object: its flags, where it ran, and what it reached."""

import hashlib
import json
from typing import Any

from callbacks.base import Callback, writing
from common.files import check_writable, write_atomically
from runtime import devices
from runtime.state import State


class Record(Callback):
    """Writes --record after the run, completely or not at all."""

    def on_train_begin(self) -> None:
        # a resumed run replaces its own
        replace = self.state.config.overwrite or self.state.step > 0
        check_writable("record", self.path, replace)

    def on_train_end(self, record: dict[str, Any]) -> None:
        text = json.dumps(record, indent=2) + "\n"
        with writing("record", self.path):
            write_atomically(self.path, text.encode())


def of(state: State, test_accuracy: float, device: str) -> dict[str, Any]:
    """Returns the record of a finished run."""
    return {
        "config": vars(state.config),
        "environment": devices.environment(device),
        "class_names": state.dataset.class_names,
        "streamed": state.dataset.train.streamed,
        "replicas": state.strategy.num_replicas_in_sync,
        "test_examples": len(state.dataset.test),
        **reached(state, test_accuracy),
    }


def reached(state: State, test_accuracy: float) -> dict[str, Any]:
    """Returns the results of a run: seconds, accuracies, a checksum of the weights."""
    seconds = state.ledger.seconds()
    weights = b"".join(parameter.numpy() for parameter in state.model.parameters)
    return {
        "seconds": seconds,
        "paused": state.ledger.paused,
        "steps": state.step,
        "resumed_at_step": state.step - state.steps_now,
        "steps_now": state.steps_now,
        "examples": state.examples,
        "us_per_step": seconds["train"] / state.steps_now * 1e6 if state.steps_now else None,
        "examples_per_second": state.examples_now / seconds["train"] if state.steps_now else None,
        "validation_accuracy": [[step, accuracy] for step, _, accuracy, _ in state.evaluations],
        "evaluations": state.evaluations,  # step, seconds of training, validation accuracy, loss
        "test_accuracy": test_accuracy,
        "final_loss": state.loss,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
