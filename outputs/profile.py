"""The trace of one warm block of steps: what ran, on which thread or device, and for how long."""

import itertools
import sys

import numpy as np
import tensorflow as tf

import data
from common.errors import InputError, RunError, reason
from common.files import writable_folder
from outputs.observers import Observer
from runtime import plan
from runtime.state import State


class Profile(Observer):
    """Writes a TensorFlow profiler trace of the first block behind --eval_first to --profile, and of its evaluation."""

    def __init__(self, state: State):
        super().__init__(state)
        self.folder = writable_folder("profile", state.config.profile or "")
        if self._warm_block() is None:
            raise InputError("--profile: the run has only one block of steps, and a warm one is traced: give it more")
        self.running = False

    def before_run(self) -> None:
        """Chooses the block; only now it is known where a run that is resumed goes on."""
        self.start = self._warm_block()
        if self.start is None:
            print("--profile: no warm block is left to trace", file=sys.stderr)

    def _warm_block(self) -> int | None:
        """Returns the step at which the block that is traced starts; None without one."""
        config, train = self.state.config, self.state.dataset.train
        spans = plan.spans(config, len(train), data.steps_of_part(train, config.batch_size), self.state.step)
        # The block traced must not be the first: that one waits for what is done once.
        starts = [span.start for span in itertools.islice(spans, config.eval_first + 2)][1:]
        return next((start for start in starts if start >= config.eval_first), starts[-1] if starts else None)

    def after_block(self, losses: np.ndarray, evaluated: bool) -> None:
        """Starts the trace before the block that is traced, ends it behind that."""
        try:
            if self.running:
                tf.profiler.experimental.stop()
            elif self.state.step == self.start:
                tf.profiler.experimental.start(str(self.folder))
            self.running = self.state.step == self.start
        except (tf.errors.OpError, OSError) as error:
            raise RunError(f"--profile={self.folder}: cannot be written: {reason(error)}") from None
