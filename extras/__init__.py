"""What stands beside the training, each asked for by a flag; the training does not know which of them are there."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from plan import Block
    from train import Trainer

# The flag that asks for an extra, and its module here, which has a class Extra(Observer).
MODULES: dict[str, str] = {
    "checkpoint_dir": "checkpoints",
    "export_dir": "export",
    "logdir": "logs",
    "figures": "figures",
}


class Observer:
    """Watches a run. It is made before anything is compiled, so that what it refuses is refused early.

    With several workers only the chief has observers.
    """

    def __init__(self, trainer: "Trainer"):
        self.trainer = trainer

    def after_block(self, block: "Block", losses: "np.ndarray") -> None:
        """Called after each block and its evaluation, outside the training clock, with its losses [steps]."""

    def after_run(self, record: dict[str, Any]) -> None:
        """Called once, when the test accuracy is known."""


def observers(trainer: "Trainer") -> list[Observer]:
    """Returns the extras that the run's flags ask for; none on a worker that is not the chief."""
    if not trainer.engine.is_chief:
        return []
    asked = [name for flag, name in MODULES.items() if getattr(trainer.config, flag)]
    return [importlib.import_module(f"extras.{name}").Extra(trainer) for name in asked]
