"""What stands beside the training, each asked for by a flag; the training does not know which of them are there."""

import importlib
from typing import Any

import numpy as np

from runtime.state import State

# The flag that asks for an observer, and its module here, which has a class of it.
MODULES = {
    "checkpoint_dir": "checkpoints:Checkpoints",
    "export_dir": "export:Export",
    "logdir": "logs:Logs",
    "profile": "profile:Profile",
    "figures": "figures:Figures",
}


class Observer:
    """Watches a run. It is made before anything is compiled, so that what it refuses is refused early.

    Until `before_run` it leaves nothing on the disk. With several workers only the chief has observers.
    """

    def __init__(self, state: State):
        self.state = state

    def before_run(self) -> None:
        """Called once, when no observer has refused the run."""

    def before_steps(self) -> None:
        """Called once, when `before_run` of all observers has put what it has to into the state."""

    def after_block(self, losses: np.ndarray, evaluated: bool) -> None:
        """Called after each block and its evaluation, outside the training clock, with its losses [steps]."""

    def after_run(self, record: dict[str, Any]) -> None:
        """Called once, when the test accuracy is known."""


def asked_for(state: State) -> list[Observer]:
    """Returns the observers that the run's flags ask for, ready for it."""
    asked = [place.split(":") for flag, place in MODULES.items() if getattr(state.config, flag)]
    watching = [
        getattr(importlib.import_module(f"outputs.{module}"), name)(state) for module, name in asked
    ]
    for observer in watching:
        observer.before_run()
    for observer in watching:
        observer.before_steps()
    return watching
