"""The trace of one warm block of steps: what ran, on which thread or device, and for how long."""

import itertools
import sys
from typing import Any

import numpy as np
import tensorflow as tf

import data
from common.errors import InputError, RunError, before_leaving, reason
from common.files import writable_folder
from outputs.observers import Observer
from runtime import plan, stopping
from runtime.state import State


class Profile(Observer):
    """Writes a TensorFlow profiler trace of the first block behind --eval_first to --profile, and of its evaluation."""

    def __init__(self, state: State):
        super().__init__(state)
        self.folder = writable_folder("profile", state.config.profile or "")
        if self._warm_block() is None:
            raise InputError(
                "--profile: the run has only one block of steps, and a warm one is traced: give it more"
            )
        self.running = self.traced = False

    def before_run(self) -> None:
        """Chooses the block; only now it is known where a run that is resumed goes on."""
        before_leaving.append(self._ended_within)
        self.start = self._warm_block()
        if self.start is None:
            print("--profile: no warm block is left to trace", file=sys.stderr)

    def _warm_block(self) -> int | None:
        """Returns the step at which the block that is traced starts; None without one."""
        config, train = self.state.config, self.state.dataset.train
        spans = plan.spans(
            config, len(train), data.steps_of_part(train, config.batch_size), self.state.step
        )
        # The block traced must not be the first: that one waits for what is done once.
        starts = [span.start for span in itertools.islice(spans, config.eval_first + 2)][1:]
        return next(
            (start for start in starts if start >= config.eval_first),
            starts[-1] if starts else None,
        )

    def after_block(self, losses: np.ndarray, evaluated: bool) -> None:
        """Starts the trace before the block that is traced, unless the run ends here, and ends it behind that."""
        ends = self.state.reached_target() or stopping.asked()
        try:
            if self.running:
                self._stop()
            elif self.state.step == self.start and not ends:
                tf.profiler.experimental.start(str(self.folder))
                self.running = True
        except (tf.errors.OpError, OSError) as error:
            raise RunError(f"--profile={self.folder}: cannot be written: {reason(error)}") from None

    def after_run(self, record: dict[str, Any]) -> None:
        if self.start is not None and not self.traced:
            print(
                f"--profile: no trace, the run ended before step {self.start + 1:,} was to be traced",
                file=sys.stderr,
            )

    def _stop(self) -> None:
        self.running, self.traced = False, True
        tf.profiler.experimental.stop()

    def _ended_within(self, at_once: bool) -> None:
        """Writes what there is of a trace if the run fails in the block that is traced."""
        if self.running and not at_once:
            try:
                self._stop()
                print(
                    f"--profile={self.folder}: has the trace of the block in which the run ended",
                    file=sys.stderr,
                )
            except (tf.errors.OpError, OSError) as error:
                print(f"--profile={self.folder}: no trace: {reason(error)}", file=sys.stderr)
