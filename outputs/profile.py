"""The trace of one warm block of steps: what ran, on which thread or device, and for how long."""

import itertools

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
        config, train = state.config, state.dataset.train
        self.folder = writable_folder("profile", config.profile or "")
        spans = plan.spans(config, len(train), data.steps_of_part(train, config.batch_size), state.step)
        # The block traced must not be the first: that one waits for what is done once.
        starts = [span.start for span in itertools.islice(spans, config.eval_first + 2)][1:]
        if not starts:
            raise InputError("--profile: the run has only one block of steps, and a warm one is traced: give it more")
        self.start = next((start for start in starts if start >= config.eval_first), starts[-1])
        self.running = False

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
