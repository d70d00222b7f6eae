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


def spans(
    config: flags.Config, num_examples: int, steps_per_buffer: int, start: int = 0
) -> Iterator[Span]:
    """Yields the spans of a run from step `start` on.

    An evaluation follows the first --eval_first steps one by one, every --eval_every steps, and the
    last step. Spans are cut there and at checkpoints, at the ends of buffers and epochs, and before
    a smaller last batch.
    """
    total = last_step(config, num_examples)
    epoch_steps = steps_per_epoch(config, num_examples)
    whole_batches = num_examples // config.batch_size
    eval_first = config.eval_first if config.eval_every else 0
    eval_every = config.eval_every or total
    usual = MAX_STEPS_EAGER if config.mode == "eager" else usual_length(config, num_examples)
    while start < total:
        length = 1 if start < eval_first else usual
        for every in (total, config.checkpoint_every, eval_every):
            length = min(length, every - start % every)
        for every in (epoch_steps, whole_batches, steps_per_buffer):
            length = min(length, every - start % epoch_steps % every)
        stop = start + length
        evaluate = stop <= eval_first or stop % eval_every == 0 or stop == total
        yield Span(start, stop, evaluate)
        start = stop


def usual_length(config: flags.Config, num_examples: int) -> int:
    """Returns the length of the nearly equal spans of an epoch without evaluations.

    On a GPU each of them takes as many steps as the longest.
    """
    whole_batches = num_examples // config.batch_size
    return math.ceil(whole_batches / math.ceil(whole_batches / MAX_STEPS))


def longest(config: flags.Config, num_examples: int, steps_per_buffer: int) -> int:
    """Returns an upper bound for the number of steps in a span of a run."""
    cadences = [config.checkpoint_every, steps_per_buffer, last_step(config, num_examples)]
    return min(usual_length(config, num_examples), *cadences, config.eval_every or MAX_STEPS)
