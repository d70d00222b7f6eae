"""The plan of a run: its steps as spans. Each span is one call, and ends where the run must act."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import flags

# of a span: enough to hide the cost of a call, and few enough to stop soon after Ctrl-C
MAX_STEPS = 10_000
MAX_STEPS_EAGER = 50  # an eager step takes far longer


class Span(NamedTuple):
    """Steps [start, stop) of a run, taken in one call, and whether an evaluation follows."""

    start: int
    stop: int
    evaluate: bool


def steps_per_epoch(config: flags.Config, num_examples: int) -> int:
    """Returns the number of steps in an epoch, including the step of a smaller last batch."""
    return math.ceil(num_examples / config.batch_size)


def last_step(config: flags.Config, num_examples: int) -> int:
    """Returns the step at which a run ends."""
    steps = config.epochs * steps_per_epoch(config, num_examples)
    return min(steps, config.max_steps or steps)


def evaluates(config: flags.Config, step: int) -> bool:
    """Says whether --eval_first or --eval_every asks for an evaluation after `step` steps."""
    if not config.eval_every:
        return False
    return step <= config.eval_first or step % config.eval_every == 0


def spans(
    config: flags.Config, num_examples: int, steps_per_buffer: int, start: int = 0
) -> Iterator[Span]:
    """Yields the spans of a run from step `start` on.

    They are cut at evaluations and checkpoints, at the ends of buffers and epochs, and before a
    smaller last batch.
    """
    total = last_step(config, num_examples)
    epoch_steps = steps_per_epoch(config, num_examples)
    whole_batches = num_examples // config.batch_size
    usual = MAX_STEPS_EAGER if config.mode == "eager" else usual_length(config, num_examples)
    while start < total:
        length = 1 if evaluates(config, start + 1) else usual
        for every in (total, config.checkpoint_every, config.eval_every or total):
            length = min(length, every - start % every)
        for every in (epoch_steps, whole_batches, steps_per_buffer):
            length = min(length, every - start % epoch_steps % every)
        stop = start + length
        yield Span(start, stop, evaluate=stop == total or evaluates(config, stop))
        start = stop


def usual_length(config: flags.Config, num_examples: int) -> int:
    """Returns the length of the nearly equal spans of an epoch without evaluations.

    On a GPU each of them takes as many steps as the longest.
    """
    whole_batches = max(1, num_examples // config.batch_size)
    return math.ceil(whole_batches / math.ceil(whole_batches / MAX_STEPS))


def longest(config: flags.Config, num_examples: int, steps_per_buffer: int) -> int:
    """Returns an upper bound for the number of steps in a span of a run."""
    cadences = [config.checkpoint_every, steps_per_buffer, last_step(config, num_examples)]
    return min(usual_length(config, num_examples), *cadences, config.eval_every or MAX_STEPS)
