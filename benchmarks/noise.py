"""Measures the same programs many times, and counts how often comparison and guard are wrong."""

import pathlib
import tempfile
from collections.abc import Callable

import numpy as np

from benchmarks import common
from common import stats
from comparison import guard, report

JOB = "--contenders=c,xla", "--devices=cpu", "--cores=1", "--rounds=60"
ROUNDS, RESAMPLED = 9, 1000  # rounds of a run; number of random runs
SLOWDOWN = 1.1  # the guard must catch it
MAX_SLOWDOWN = 1.05  # the guard tolerates it


def measure() -> dict[str, float]:
    """Returns the shares of `rates` for many rounds of two contenders, in percent."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "found.json")
        common.python("compare.py", *JOB, f"--output={path}")
        base, again, other = report.rows_of(report.load(path))
    samples = other.times, other.ratios_to(base), again.ratios_to(base)
    return rates(*map(np.array, samples))


def rates(times: np.ndarray, ratios: np.ndarray, equal: np.ndarray) -> dict[str, float]:
    """Returns how often runs drawn from many rounds give a false alarm or catch a slowdown.

    times, ratios: of a contender [rounds]; ratios are to the baseline. equal: the ratios [rounds]
    of the baseline's two measurements.
    """
    rng = np.random.default_rng(0)

    def percent(is_so: Callable[..., bool], *arguments: object) -> float:
        return 100 * float(np.mean([is_so(rng, *arguments) for _ in range(RESAMPLED)]))

    found = {"equal contenders called different, at most 5": percent(called_different, equal)}
    for flag, samples in {"": times, " with --ratios": ratios}.items():
        found |= {
            f"the guard's false alarms{flag}, at most 5": percent(called_slower, samples, 1.0),
            f"slowdowns of 10 % that it caught{flag}, at least 95": percent(
                called_slower, samples, SLOWDOWN
            ),
            f"standard deviation of the {len(samples)} {'ratios' if flag else 'times'}, %": 100
            * float(np.std(np.log(samples))),
        }
    return found


def called_different(rng: np.random.Generator, equal: np.ndarray) -> bool:
    """Says whether a contender is called different from itself in one run."""
    return stats.differs(stats.estimate(rng.choice(equal, ROUNDS, replace=False).tolist()))


def called_slower(rng: np.random.Generator, samples: np.ndarray, factor: float) -> bool:
    """Says whether the guard calls a run slower that takes `factor` times as long as another.

    The rounds of each run are consecutive.
    """
    first = rng.integers(ROUNDS)
    runs = samples[first : first + (len(samples) - first) // ROUNDS * ROUNDS].reshape(-1, ROUNDS)
    before, now = rng.choice(runs, 2, replace=False)
    return guard.judged("", (now * factor).tolist(), before.tolist(), MAX_SLOWDOWN, 1)[1]
