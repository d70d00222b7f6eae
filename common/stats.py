"""Medians and their exact intervals, and how numbers are shown."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

SURE = 0.95  # minimum coverage of a sure interval, which needs six samples


class Estimate(NamedTuple):
    """A median, and two samples that enclose the true median with probability `coverage`."""

    median: float
    low: float
    high: float
    coverage: float

    def __str__(self) -> str:
        return f"{number(self.median)} [{number(self.low)}, {number(self.high)}]"


def number(value: float) -> str:
    """Returns a number with three significant digits and separated thousands; "" for 0."""
    if not value:
        return ""
    if value < 99.95:
        return f"{value:#.3g}"  # with zeros at the end
    return f"{value:,.0f}"


def coverage(n: int, k: int) -> float:
    """Returns the probability that the k-th smallest and largest of n samples enclose the median.

    Each sample is below the median with probability 1/2.
    """
    return 1 - 2 * sum(math.comb(n, below) for below in range(k)) / 2**n


def estimate(samples: Sequence[float]) -> Estimate:
    """Returns the median and the narrowest interval with coverage SURE, or else the widest."""
    values, n, k = sorted(samples), len(samples), 1
    while coverage(n, k + 1) >= SURE:
        k += 1
    return Estimate(statistics.median(values), values[k - 1], values[-k], coverage(n, k))


def differs(ratio: Estimate) -> bool:
    """Says whether a ratio differs from 1: its interval has coverage SURE and excludes 1."""
    return ratio.coverage >= SURE and not ratio.low <= 1 <= ratio.high
