"""The state of a run, which all callbacks share."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

import data
import flags
import model
from common.errors import RunError
from runtime import plan, signals
from runtime.clock import Ledger

MAX_SCALED = 16 * 2**20  # bytes of uint8 images that are kept as floats, which need four times that
ONE_DEVICE = tf.distribute.get_strategy()  # TensorFlow's default strategy
NUM_LOSSES = 100  # their mean is shown, in every mode and for every length of a block


class DivergedError(RunError):
    """A run whose loss or weights overflow."""


@dataclasses.dataclass
class State:
    """A run: its flags, data, model, clock and strategy, and what changes from block to block.

    step, examples: the numbers of steps and images so far.
    steps_now, examples_now: those of this process, which a checkpoint does not contain.
    losses: the loss per image in each of the last 100 steps; `loss` is their mean.
    evaluations: the [step, seconds of training, validation accuracy, loss] of each evaluation.
    log: the name of the run's folder below --logdir.
    seconds: of training before this process.
    Checkpoints contain all the others above, and a resumed run reads them.
    signal: the signal that stops the run after this block, 0 for none.
    validation: the validation images and labels, as they are evaluated.
    """

    config: flags.Config
    dataset: data.Dataset
    model: model.SoftmaxRegression
    ledger: Ledger
    strategy: tf.distribute.Strategy = ONE_DEVICE
    step: int = 0
    examples: int = 0
    steps_now: int = 0
    examples_now: int = 0
    loss: float = math.nan
    losses: Sequence[float] = ()
    evaluations: list[list[float]] = dataclasses.field(default_factory=list)
    log: str = ""
    seconds: float = 0.0
    signal: int = 0
    asked: Callable[[], int] = signals.asked  # with several workers, a signal to one stops all

    def __post_init__(self) -> None:
        """Scales the validation images once, not at each evaluation, if there are few."""
        self.validation = split = self.dataset.validation
        if split.images.nbytes <= MAX_SCALED:
            self.validation = data.Split(model.scale(split.images), split.labels)

    @property
    def total_steps(self) -> int:
        return plan.last_step(self.config, len(self.dataset.train))

    @property
    def accuracy(self) -> float | None:
        """The validation accuracy of this step, None if it was not measured."""
        if self.evaluations and self.evaluations[-1][0] == self.step:
            return self.evaluations[-1][2]
        return None

    def is_complete(self) -> bool:
        """Says whether this step is the last one, or reached --target_accuracy."""
        target = self.config.target_accuracy or math.inf
        return self.step == self.total_steps or (self.accuracy or 0.0) >= target

    def ends(self) -> bool:
        """Says whether the run stops after the newest block."""
        return bool(self.signal) or self.is_complete()

    def training_seconds(self) -> float:
        """Returns the seconds of training, in this process and those before."""
        return self.seconds + self.ledger.parts["train"]

    def count(self, block: data.Block, losses: np.ndarray) -> None:
        """Counts the steps of `block`; raises DivergedError if the loss or the weights overflow."""
        examples = block.steps * block.batch_size
        self.step += block.steps
        self.steps_now += block.steps
        self.examples += examples
        self.examples_now += examples
        images = block.batch_size if self.config.loss_reduction == "sum" else 1
        self.losses = np.append(self.losses, losses / images)[-NUM_LOSSES:].tolist()
        self.loss = float(np.mean(self.losses))
        # A loss is from before its step. Only the weights show the effect of the last step.
        sums = [np.abs(variable.numpy()).sum(dtype=float) for variable in self.model.variables]
        # Below that no logit can overflow, as pixels are at most 1. A nan is not below.
        if not sum(sums) + self.loss < tf.float32.max:
            raise DivergedError(
                f"the loss or the weights overflow after step {self.step:,} with "
                f"--lr={self.config.lr:g}: try a smaller --lr, or --loss_reduction=mean"
            )
