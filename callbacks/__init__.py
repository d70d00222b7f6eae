"""The outputs of a run: a callback for the screen, and one for each flag of an output."""

import contextlib
import pathlib
from collections.abc import Iterator

from callbacks.base import Callback
from callbacks.checkpoints import Checkpoints
from callbacks.export import Export
from callbacks.figures import Figures
from callbacks.progress import Progress
from callbacks.record import Record
from callbacks.tensorboard import Profile, TensorBoard
from runtime.state import State


@contextlib.contextmanager
def asked_for(state: State) -> Iterator[list[Callback]]:
    """Yields the callbacks that the flags select, and closes them however the run ends.

    Raises InputError, before the first step, if one of them could not write its output.
    """
    config = state.config
    asked: dict[type[Callback], str | None] = {
        Checkpoints: config.checkpoint_dir,  # first: the others see the resumed state
        Export: config.export_dir,
        Figures: config.figures,
        Profile: config.profile,
        TensorBoard: config.logdir,
        Record: config.record,  # last: it includes what the others have added
    }
    with contextlib.ExitStack() as closing:
        callbacks: list[Callback] = [Progress(state, closing)]
        if state.strategy.extended.should_checkpoint:  # of several workers, the chief
            callbacks += [
                kind(state, closing, pathlib.Path(path)) for kind, path in asked.items() if path
            ]
        for callback in callbacks:
            callback.on_train_begin()
        yield callbacks
