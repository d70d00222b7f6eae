"""Medians, their exact intervals, ratios, and whether one group of samples is slower than
another."""

import collections
import dataclasses
import math
import statistics
from collections.abc import Sequence

SURE = 0.95  # from six samples on some two of them enclose the median as often as this
NOISY = 1.5  # the largest over the smallest of a contender's times: such a contender is marked


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A median and two samples, or ratios of such, that enclose the true one with probability
    `coverage`.

    rank: 1 if they are the least and the most of the n samples, k for the k-th of each end. One
    sample has no interval: low and high are nan. spread: the most over the least sample.
    """

    median: float
    low: float
    high: float
    n: int
    coverage: float
    rank: int = 1
    spread: float = 1.0

    @property
    def kind(self) -> str:
        """What the interval is, for the head of a column."""
        ends = "min-max" if self.rank == 1 else f"{self.rank} from either end"
        return f"{ends}, {math.floor(100 * self.coverage + 0.5)} %" if self.n > 1 else "no interval"

    def __format__(self, spec: str) -> str:
        interval = f"{self.low:{spec}} to {self.high:{spec}}" if self.n > 1 else "no interval"
        return f"{self.median:{spec}} [{interval}]"


def ranks(n: int) -> tuple[int, float]:
    """Returns the largest k whose k-th least and k-th most of n samples enclose the median in SURE
    of cases, else 1.

    Beside it, how often they do: a sample is below the median as often as a coin shows heads.
    """
    found = 1, 1 - 2 * 0.5**n
    for k in range(2, n // 2 + 1):
        coverage = 1 - 2 * sum(math.comb(n, below) for below in range(k)) / 2**n
        if coverage < SURE:
            break
        found = k, coverage
    return found


def estimate(samples: Sequence[float]) -> Estimate:
    """Returns the median of the samples with its interval by order statistics."""
    values, (k, coverage) = sorted(samples), ranks(len(samples))
    low, high = (values[k - 1], values[-k]) if len(values) > 1 else (math.nan, math.nan)
    spread = values[-1] / values[0]
    return Estimate(
        statistics.median(values), low, high, len(values), max(0.0, coverage), k, spread
    )


def paired_ratio(samples: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Returns the median of sample / baseline, round by round: what slows both in a round cancels
    out."""
    return estimate([sample / base for sample, base in zip(samples, baseline, strict=True)])


def unpaired_ratio(samples: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Returns median(samples) / median(baseline), for times of different machines.

    Its interval goes from end to end of both: it is right at least as often as both of them are.
    """
    over, under = estimate(samples), estimate(baseline)
    ends = over.low / under.high, over.high / under.low
    coverage = max(0.0, over.coverage + under.coverage - 1)
    return Estimate(over.median / under.median, *ends, min(over.n, under.n), coverage, over.rank)


def differs(ratio: Estimate) -> bool:
    """Says whether the whole interval of a ratio lies on one side of 1."""
    return ratio.high < 1 or ratio.low > 1


def p_slower(now: Sequence[float], before: Sequence[float]) -> float:
    """Returns how often chance alone would rank the samples of `now` as far behind those of
    `before`.

    It is the exact one-sided rank-sum test: all ways to choose as many ranks are counted.
    """
    ranks = doubled_ranks([*now, *before])
    observed = sum(ranks[: len(now)])
    ways: list[collections.Counter[int]] = [collections.Counter() for _ in range(len(now) + 1)]
    ways[0][0] = 1  # by the number of chosen ranks: how many ways there are to a sum
    for rank in ranks:
        for count in range(len(now), 0, -1):
            for total, number in ways[count - 1].items():
                ways[count][total + rank] += number
    as_high = sum(number for total, number in ways[-1].items() if total >= observed)
    return as_high / ways[-1].total()


def doubled_ranks(samples: Sequence[float]) -> list[int]:
    """Returns twice the rank of each sample; equal ones share the middle of their ranks."""
    ordered = sorted(samples)
    first = {value: ordered.index(value) for value in ordered}
    return [2 * first[value] + ordered.count(value) + 1 for value in samples]
