"""Medians, their intervals, and ratios."""

import dataclasses
import math

import numpy as np

RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A median with its 95 % bootstrap interval, and the number of samples; one sample has no interval: nan."""

    median: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        interval = f"{self.low:{spec}} to {self.high:{spec}}" if self.n > 1 else "no interval"
        return f"{self.median:{spec}} [{interval}]"


def estimate(samples: list[float]) -> Estimate:
    """Returns the median of the samples with the 95 % percentile bootstrap interval of it."""
    values = np.asarray(samples, float)
    return _estimate(float(np.median(values)), _resampled_medians(values), len(values))


def paired_ratio(samples: list[float], baseline: list[float]) -> Estimate:
    """Returns the median of sample / baseline, round by round: what slows both in a round cancels out."""
    return estimate([sample / base for sample, base in zip(samples, baseline, strict=True)])


def unpaired_ratio(samples: list[float], baseline: list[float]) -> Estimate:
    """Returns median(samples) / median(baseline), for times of different machines, with its bootstrap interval."""
    groups = [np.asarray(group, float) for group in (samples, baseline)]
    over, under = (_resampled_medians(group, seed) for seed, group in enumerate(groups))
    return _estimate(float(np.median(groups[0]) / np.median(groups[1])), over / under, min(map(len, groups)))


def _resampled_medians(values: np.ndarray, seed: int = 0) -> np.ndarray:
    picks = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    return np.median(values[picks], axis=1)


def _estimate(median: float, resampled: np.ndarray, n: int) -> Estimate:
    if n < 2:
        return Estimate(median, math.nan, math.nan, n)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(median, float(low), float(high), n)


def noise_floor(against_itself: Estimate) -> float:
    """Returns the factor, 1 or more, by which the baseline differs from itself: the farther end of its interval.

    nan if it has no interval: then no ratio is within noise.
    """
    return max(against_itself.high, 1 / against_itself.low)


def within_noise(ratio: Estimate, floor: float) -> bool:
    """Says whether a ratio is no further from 1 than the baseline is from itself."""
    return 1 / floor <= ratio.median <= floor
