"""Measures the same programs many times, and counts how often comparison and guard are wrong."""

import pathlib
import random
import statistics
import tempfile
from collections.abc import Callable

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
        base, other, again = report.load(path)
    return rates(other.times, other.ratios_to(base), again.ratios_to(base))


def rates(times: list[float], ratios: list[float], equal: list[float]) -> dict[str, float]:
    """Returns how often runs drawn from many rounds give a false alarm or catch a slowdown.

    times, ratios: of a contender, round by round; ratios are to the baseline. equal: the ratios of
    the baseline's two measurements.
    """
    rng = random.Random(0)

    def percent(is_so: Callable[..., bool], *arguments: object) -> float:
        return 100 * statistics.fmean(is_so(rng, *arguments) for _ in range(RESAMPLED))

    found = {"equal contenders called different, at most 5": percent(called_different, equal)}
    for flag, samples in {"": times, " with --ratios": ratios}.items():
        found |= {
            f"the guard's false alarms{flag}, at most 5": percent(called_slower, samples, 1.0),
            f"slowdowns of 10 % that it caught{flag}, at least 95": percent(
                called_slower, samples, SLOWDOWN
            ),
        }
    return found


def called_different(rng: random.Random, equal: list[float]) -> bool:
    """Says whether a contender is called different from itself in one run."""
    return stats.differs(stats.estimate(rng.sample(equal, ROUNDS)))


def called_slower(rng: random.Random, samples: list[float], factor: float) -> bool:
    """Says whether the guard calls a run slower that takes `factor` times as long as another.

    The rounds of each run are consecutive.
    """
    starts = range(rng.randrange(ROUNDS), len(samples) - ROUNDS + 1, ROUNDS)
    before, now = (samples[start : start + ROUNDS] for start in rng.sample(starts, 2))
    slower = [time * factor for time in now]
    return guard.judged("", slower, before, MAX_SLOWDOWN, 1)[1]
