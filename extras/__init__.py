"""What stands beside the training, each asked for by a flag; the training does not know which of them are there."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from train import Block, Trainer

# The flag that asks for an extra, and its module here, which has a class Extra(Observer).
MODULES: dict[str, str] = {
    "checkpoint_dir": "checkpoints",
    "export_dir": "export",
    "logdir": "logs",
    "figures": "figures",
}


class Observer:
    """Watches a run. It is made before anything is compiled, so that what it refuses is refused early.

    With several workers only the chief has observers, except those that say `on_every_worker`: they must not write.
    """

    on_every_worker = False

    def __init__(self, trainer: "Trainer"):
        self.trainer = trainer

    def after_block(self, block: "Block", losses: "np.ndarray") -> None:
        """Called after each block and its evaluation, outside the training clock, with its losses [steps]."""

    def after_run(self, record: dict[str, Any]) -> None:
        """Called once, when the test accuracy is known."""


def observers(trainer: "Trainer") -> list[Observer]:
    """Returns the extras that the run's flags ask for."""
    asked = [name for flag, name in MODULES.items() if getattr(trainer.config, flag)]
    kinds = [importlib.import_module(f"extras.{name}").Extra for name in asked]
    return [kind(trainer) for kind in kinds if trainer.engine.is_chief or kind.on_every_worker]
