"""How often equal contenders are called different and the guard is right, by measuring one of them
again and again."""

import pathlib
import tempfile
from typing import Any

import numpy as np
import pyperf

from benchmarks import common
from comparison import guard, stats

CONTENDER, MEASUREMENTS = "xla", 60  # rounds of compare.py
ROUNDS, RESAMPLED = 9, 1000  # of a run; runs drawn by lot
SLOWDOWN = 1.1  # what the guard must catch
MAX_SLOWDOWN = 1.05  # that it lets pass


def measure() -> dict[str, float]:
    """Returns shares of runs, drawn from many measurements of one contender, in percent."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "found.json")
        job = (
            f"--contenders={CONTENDER}",
            "--devices=cpu",
            "--cores=1",
            f"--rounds={MEASUREMENTS}",
        )
        common.python("compare.py", *job, f"--output={path}")
        suite = pyperf.BenchmarkSuite.load(str(path))
    times = np.transpose([benchmark.get_values() for benchmark in suite])
    return rates(times.ravel())  # in the order in which they were measured


def rates(times: np.ndarray, resampled: int = RESAMPLED) -> dict[str, float]:
    """Returns how often what must not happen, or must, does so in runs drawn from these
    measurements."""
    rng = np.random.default_rng(0)
    deviation = 100 * float(np.std(np.log(times)))

    def percent(is_so: Any, *arguments: Any) -> float:
        return 100 * float(np.mean([is_so(times, rng, *arguments) for _ in range(resampled)]))

    return {
        "equal contenders called different, of which at most 5 may be": percent(called_different),
        "the guard's false alarms, at most 5": percent(called_slower, 1.0),
        "slowdowns of 10 % that the guard caught, at least 95": percent(called_slower, SLOWDOWN),
        f"standard deviation of the {len(times)} measurements drawn from, %": deviation,
    }


def called_different(times: np.ndarray, rng: np.random.Generator) -> bool:
    """Says whether a contender is called different from one that is the same, in one run.

    Three measurements that followed one another are a round; the middle one is left out.
    """
    rounds = times[: len(times) // 3 * 3].reshape(-1, 3)
    picked = rng.permuted(rng.choice(rounds, ROUNDS, replace=False), axis=1)
    base, _, other = picked.T
    return stats.differs(stats.estimate((other / base).tolist()))


def called_slower(times: np.ndarray, rng: np.random.Generator, factor: float) -> bool:
    """Says whether the guard calls a run slower that takes `factor` times as long as another
    run."""
    cut = rng.integers(ROUNDS, len(times) - ROUNDS + 1)
    starts = rng.integers(cut - ROUNDS + 1), rng.integers(cut, len(times) - ROUNDS + 1)
    before, now = (times[start : start + ROUNDS] for start in rng.permutation(starts))
    return guard.judged("", (now * factor).tolist(), before.tolist(), MAX_SLOWDOWN, 1).slower
