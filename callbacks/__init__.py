"""What a run shows, writes and keeps beside the training: a callback for each flag that asks."""

import contextlib
from collections.abc import Iterator

import flags
from callbacks.base import Callback
from callbacks.checkpoints import Checkpoints
from callbacks.export import Export
from callbacks.figures import Figures
from callbacks.progress import Progress
from callbacks.record import Record
from callbacks.tensorboard import Profile, TensorBoard
from runtime.state import State


@contextlib.contextmanager
def asked_for(state: State, is_chief: bool = True) -> Iterator[list[Callback]]:
    """Yields the callbacks that the flags ask for, and closes them however the run ends.

    Raises InputError, before a step is taken, where one of them could not do its part.
    """
    with contextlib.ExitStack() as closing:
        callbacks: list[Callback] = []
        for kind in kinds(state.config, is_chief):
            callbacks.append(kind(state))
            closing.callback(callbacks[-1].close)
        for callback in callbacks:
            callback.on_train_begin()
        yield callbacks


def kinds(config: flags.Config, is_chief: bool) -> Iterator[type[Callback]]:
    """Yields the classes of the callbacks, in the order in which they are called."""
    yield Progress
    if config.checkpoint_dir and is_chief:  # what follows sees the run that goes on
        yield Checkpoints
    if config.export_dir and is_chief:
        yield Export
    if config.figures and is_chief:
        yield Figures
    if config.profile and is_chief:
        yield Profile
    if config.logdir and is_chief:
        yield TensorBoard
    if config.record and is_chief:  # what all others have added is in it
        yield Record
