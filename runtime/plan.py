"""The plan of a run: its steps as spans. Each span is one call, and ends where the run must act."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import flags

# of a span: enough to hide the cost of a call, and few enough to stop soon after Ctrl-C
MAX_STEPS = 10_000
MAX_STEPS_EAGER = 50  # an eager step takes far longer


class Span(NamedTuple):
    """Steps of a run from `start` on, taken in one call, and whether an evaluation follows.

    max_steps: no span of the run has more steps.
    """

    start: int
    steps: int
    max_steps: int
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
    last step. Spans are cut there and at checkpoints, the ends of buffers and epochs, and before a
    smaller last batch. Otherwise those of an epoch are nearly equal, because on a GPU each takes as
    many steps as the longest.
    """
    total = last_step(config, num_examples)
    epoch_steps = steps_per_epoch(config, num_examples)
    whole_batches = num_examples // config.batch_size
    limit = MAX_STEPS_EAGER if config.mode == "eager" else MAX_STEPS
    nearly_equal = math.ceil(whole_batches / math.ceil(whole_batches / limit))
    eval_first = config.eval_first if config.eval_every else 0
    eval_every = config.eval_every or total
    of_run = total, config.checkpoint_every, eval_every
    of_epoch = epoch_steps, whole_batches, steps_per_buffer
    max_steps = min(nearly_equal, *of_run, *of_epoch)
    while start < total:
        steps = 1 if start < eval_first else max_steps
        for every in of_run:
            steps = min(steps, every - start % every)
        for every in of_epoch:
            steps = min(steps, every - start % epoch_steps % every)
        stop = start + steps
        evaluate = stop <= eval_first or stop % eval_every == 0 or stop == total
        yield Span(start, steps, max_steps, evaluate)
        start = stop
