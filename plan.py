"""The plan of a run: its steps as blocks, each taken in one call, cut where the run must look up."""

import dataclasses
import math
import sys
from collections.abc import Iterator

import flags

# A call has a fixed cost of 0.3 ms and each size one compilation of 0.3 s: few sizes, the largest long enough
# to hide the call (2000 steps take 20 ms) and short enough for Ctrl-C and for a stream's memory.
BLOCK_SIZES = (2000, 500, 200, 50, 10, 1)
# From here on a round of the loop takes two steps, if an even number is gathered at once: 9.9 us a step instead of 10.3
# (batch 10), for 0.13 s and 15 MB more to compile each size, which the article's blocks of 200 are not worth.
LONG_BLOCK = 500
BLOCK_BYTES = 64 * 2**20
EAGER_BLOCK = 50  # an eager step takes 4 ms, and Ctrl-C waits for the end of a block


@dataclasses.dataclass(frozen=True)
class Block:
    """Steps [start, stop) of a run, taken in one call; `evaluate` says whether an evaluation follows."""

    start: int
    stop: int
    evaluate: bool


def last_step(config: flags.Config, num_examples: int) -> int:
    """Returns the step at which a run ends."""
    return min(config.epochs * math.ceil(num_examples / config.batch_size), config.max_steps or sys.maxsize)


def blocks(config: flags.Config, num_examples: int, num_features: int, start: int = 0) -> Iterator[Block]:
    """Yields the blocks of a run from step `start` on: cut at evaluations, checkpoints and a smaller last batch."""
    steps_per_epoch = math.ceil(num_examples / config.batch_size)
    total = last_step(config, num_examples)
    most = max(1, BLOCK_BYTES // (config.batch_size * num_features))
    most = min(most, EAGER_BLOCK) if config.mode == "eager" else most
    while start < total:
        epoch_end = (start // steps_per_epoch + 1) * steps_per_epoch
        cuts = [total, epoch_end, epoch_end - 1 if num_examples % config.batch_size else epoch_end]
        cuts.append((start // config.checkpoint_every + 1) * config.checkpoint_every)
        if config.eval_every:
            cuts.append(start + 1 if start < config.eval_first else total)
            cuts.append((start // config.eval_every + 1) * config.eval_every)
        room = min(cut for cut in cuts if cut > start) - start
        stop = start + max(size for size in BLOCK_SIZES if size <= max(1, min(room, most)))
        on_cadence = config.eval_every and (stop <= config.eval_first or stop % config.eval_every == 0)
        yield Block(start, stop, evaluate=stop == total or bool(on_cadence))
        start = stop
