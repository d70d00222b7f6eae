"""The plan of a run: its steps as spans, each taken in one call, cut where the run must look up."""

import dataclasses
import math
import sys
from collections.abc import Iterator

import flags

# of a span: hides what a call costs, and at small batches does not keep Ctrl-C waiting
MAX_STEPS = 2_000
MAX_STEPS_EAGER = 50  # an eager step takes far longer


@dataclasses.dataclass(frozen=True)
class Span:
    """Steps [start, stop) of a run, taken in one call; `evaluate` says whether an evaluation
    follows."""

    start: int
    stop: int
    evaluate: bool


def last_step(config: flags.Config, num_examples: int) -> int:
    """Returns the step at which a run ends."""
    return min(
        config.epochs * math.ceil(num_examples / config.batch_size), config.max_steps or sys.maxsize
    )


def batch_sizes(config: flags.Config, num_examples: int) -> list[int]:
    """Returns the sizes of a run's batches: the last one of an epoch may be smaller."""
    rest = num_examples % config.batch_size
    ends_an_epoch = last_step(config, num_examples) >= math.ceil(num_examples / config.batch_size)
    return [config.batch_size, rest] if rest and ends_an_epoch else [config.batch_size]


def spans(
    config: flags.Config, num_examples: int, steps_of_part: int, start: int = 0
) -> Iterator[Span]:
    """Yields the spans of a run from step `start` on.

    They are cut at evaluations and checkpoints, where a part of an epoch ends, and before a smaller
    last batch.
    """
    steps_per_epoch, total = (
        math.ceil(num_examples / config.batch_size),
        last_step(config, num_examples),
    )
    most = MAX_STEPS_EAGER if config.mode == "eager" else MAX_STEPS
    while start < total:
        epoch, step = start // steps_per_epoch * steps_per_epoch, start % steps_per_epoch
        cuts = [total, start + most, epoch + steps_per_epoch]
        cuts.append(epoch + (step // steps_of_part + 1) * steps_of_part)
        cuts.append((start // config.checkpoint_every + 1) * config.checkpoint_every)
        if num_examples % config.batch_size:
            cuts.append(epoch + steps_per_epoch - 1)
        if config.eval_every:
            cuts.append((start // config.eval_every + 1) * config.eval_every)
            cuts.append(start + 1 if start < config.eval_first else total)
        stop = min(cut for cut in cuts if cut > start)
        on_cadence = bool(config.eval_every) and (
            stop <= config.eval_first or stop % config.eval_every == 0
        )
        yield Span(start, stop, evaluate=stop == total or on_cadence)
        start = stop


def longest(config: flags.Config, num_examples: int, steps_of_part: int) -> int:
    """Returns a number of steps that no span of a run has more of."""
    cadences = [config.checkpoint_every, steps_of_part, last_step(config, num_examples)]
    return min(MAX_STEPS, *cadences, config.eval_every or MAX_STEPS)
