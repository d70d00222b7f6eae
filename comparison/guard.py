"""The guard of a speed: measures once more what a results file measured, and says who is slower."""

import dataclasses
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence

import pyperf

from common.errors import InputError
from comparison import report, stats
from comparison.work import Job

FALSE_ALARMS = 0.05  # of runs in which nothing has become slower, over all contenders together


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A contender now against itself before; p: how often chance alone would make it look as
    slow."""

    name: str
    factor: float
    p: float
    slower: bool

    def __str__(self) -> str:
        verdict = "SLOWER" if self.slower else "not slower"
        return f"{self.name}: × {self.factor:.3f}, p = {self.p:.4f}: {verdict}"


def arguments_of(base: pyperf.BenchmarkSuite, flag: str, ratios: bool) -> list[str]:
    """Returns the flags that measured a file, without where things are.

    Raises InputError if the file is of several machines or has too few rounds to tell anything.
    """
    rows = report.rows_of(base)
    if machines := {row.machine for row in rows} - {""}:
        raise InputError(
            f"{flag}: must be of one machine, has {len(machines)}: give one of the files in it"
        )
    rounds, count = len(rows[0].by_round), len(samples(base, ratios))
    if 1 / math.comb(2 * rounds, rounds) > FALSE_ALARMS / max(1, count):
        raise InputError(
            f"{flag}: its {rounds} rounds are too few to tell {count} contenders from chance: "
            "take more"
        )
    # as many as the file has, which may be fewer than were asked for
    return [*shlex.split(str(rows[0].metadata.get("arguments", ""))), f"--rounds={rounds}"]


def samples(suite: pyperf.BenchmarkSuite, ratios: bool) -> dict[str, list[float]]:
    """Returns each benchmark's seconds a step, or its ratios to the baseline round by round."""
    found = {}
    for row in report.rows_of(suite):
        base = report.baseline(suite, row.batch_size)
        if not row.task.again and not ratios:
            found[row.metadata["name"]] = list(row.by_round.values())
        elif not row.task.again and base and row != base:
            rounds = sorted(row.by_round.keys() & base.by_round.keys())
            found[row.metadata["name"]] = [row.by_round[n] / base.by_round[n] for n in rounds]
    return found


def check(
    base: pyperf.BenchmarkSuite,
    jobs: Sequence[Job],
    facts: Mapping[str, str | int],
    flag: str,
    ratios: bool,
) -> list[str]:
    """Returns in words how machine and versions differ from those of `base`.

    Raises InputError if the jobs do, or machine and versions do and times are to be compared.
    """
    jobs = sorted(jobs, key=lambda job: job.batch_size)
    if differing := report.job_differences(report.jobs_of(base), jobs):
        raise InputError(f"{flag}: another job: {differing}")
    before, after = report.rows_of(base)[0].metadata, facts
    keys = [key for key in report.MACHINE if before.get(key) != after.get(key)]
    if not keys:
        return []
    said = "; ".join(
        f"{key} {before.get(key, 'none')} there, {after.get(key, 'none')} here" for key in keys
    )
    if not ratios:
        raise InputError(
            f"{flag}: another machine or other versions ({said}): compare ratios, with --ratios"
        )
    return [f"Another machine or other versions: {said}."]


def verdicts(
    base: pyperf.BenchmarkSuite, now: pyperf.BenchmarkSuite, max_slowdown: float, ratios: bool
) -> list[Verdict]:
    """Returns the verdict on each contender of `base`, on the same device and cores."""
    before, after = samples(base, ratios), samples(now, ratios)
    both = [name for name in before if name in after]
    return [
        Verdict(name, *judged(after[name], before[name], max_slowdown, len(both))) for name in both
    ]


def judged(
    now: Sequence[float], before: Sequence[float], max_slowdown: float, count: int
) -> tuple[float, float, bool]:
    """Returns the factor, p, and whether one of `count` contenders is slower.

    It is if it is slower by more than the factor, and by more than chance, which is shared.
    """
    factor, p = statistics.median(now) / statistics.median(before), stats.p_slower(now, before)
    return factor, p, factor > max_slowdown and p < FALSE_ALARMS / count
