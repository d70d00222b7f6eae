"""How often the comparison and its guard are wrong, by measuring one contender again and again."""

import tempfile
from collections.abc import Callable

import numpy as np
import pyperf

from benchmarks import common
from comparison import guard, stats

JOB = "--contenders=xla", "--devices=cpu", "--cores=1", "--rounds=60"
ROUNDS, RESAMPLED = 9, 1000  # of a run; runs drawn by lot
SLOWDOWN = 1.1  # what the guard must catch
MAX_SLOWDOWN = 1.05  # that it lets pass


def measure() -> dict[str, float]:
    """Returns shares of runs, drawn from many measurements of one contender, in percent."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/found.json"
        common.python("compare.py", *JOB, f"--output={path}")
        suite = pyperf.BenchmarkSuite.load(path)
    times = np.transpose([benchmark.get_values() for benchmark in suite])
    return rates(times.ravel())  # in the order in which they were measured


def rates(times: np.ndarray) -> dict[str, float]:
    """Returns how often what must not happen, or must, does so in runs drawn from `times` [n]."""
    rng = np.random.default_rng(0)
    deviation = 100 * float(np.std(np.log(times)))

    def percent(is_so: Callable[..., bool], *arguments: float) -> float:
        return 100 * float(np.mean([is_so(times, rng, *arguments) for _ in range(RESAMPLED)]))

    return {
        "equal contenders called different, of which at most 5 may be": percent(called_different),
        "the guard's false alarms, at most 5": percent(called_slower, 1.0),
        "slowdowns of 10 % that the guard caught, at least 95": percent(called_slower, SLOWDOWN),
        f"standard deviation of the {len(times)} measurements drawn from, %": deviation,
    }


def in_parts(times: np.ndarray, length: int) -> np.ndarray:
    """Returns measurements that followed one another in rows of this length; a rest is left out."""
    return times[: len(times) // length * length].reshape(-1, length)


def called_different(times: np.ndarray, rng: np.random.Generator) -> bool:
    """Says whether a contender is called different from one that is the same, in one run.

    Three measurements that followed one another are a round; the middle one is left out.
    """
    picked = rng.choice(in_parts(times, 3), ROUNDS, replace=False)
    base, _, other = rng.permuted(picked, axis=1).T
    return stats.differs(stats.estimate((other / base).tolist()))


def called_slower(times: np.ndarray, rng: np.random.Generator, factor: float) -> bool:
    """Says whether the guard calls a run slower that takes `factor` times as long as another."""
    runs = in_parts(times[rng.integers(ROUNDS) :], ROUNDS)
    before, now = rng.choice(runs, 2, replace=False)
    return guard.judged("", (now * factor).tolist(), before.tolist(), MAX_SLOWDOWN, 1).slower
