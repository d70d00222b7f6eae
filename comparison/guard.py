"""The guard: compares a new measurement with a results file, and says which contender is slower."""

import dataclasses
import math
import shlex
import statistics
from collections.abc import Collection, Mapping, Sequence

import pyperf

from common import stats
from common.commandline import Config
from common.errors import InputError
from comparison import report

FALSE_ALARMS = 0.05  # maximum share of runs with a false alarm, over all contenders together


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a contender is slower, and the line that says it."""

    line: str
    slower: bool


def arguments_of(base: pyperf.BenchmarkSuite, file: str) -> list[str]:
    """Returns the flags that measured a file; raises InputError if it has several machines."""
    row = report.rows_of(base)[0]
    if row.machine:
        raise InputError(f"--against={file}: is a merged file: give one of the files in it")
    # the rounds in the file, which may be fewer than its flags, after Ctrl-C
    return [*shlex.split(row.metadata.get("arguments", "")), f"--rounds={len(row.times)}"]


def check_rounds(base: pyperf.BenchmarkSuite, config: Config) -> None:
    """Raises InputError if the rounds of both are too few for the test to find a slowdown."""
    rows = report.rows_of(base)
    rounds, more = config.rounds, len(rows[0].times)
    if len(rows) / math.comb(rounds + more, rounds) > FALSE_ALARMS:
        raise InputError(
            f"--against={config.against}: {rounds} rounds against its {more} are too few to tell "
            "anything: give more --rounds, or measure the file again with more"
        )


def check(
    base: pyperf.BenchmarkSuite,
    names: Collection[str],
    facts: Mapping[str, str | int],
    config: Config,
) -> list[str]:
    """Returns the differences of machine and versions from those of `base`, in words.

    names: the benchmarks that are about to be measured. Raises InputError if they lack one of
    `base`, or if machine or versions differ in a comparison of times.
    """
    rows, flag = report.rows_of(base), f"--against={config.against}"
    if missing := {row.metadata["name"] for row in rows} - set(names):
        raise InputError(f"{flag}: another job: it has {min(missing)}, this run {min(names)}")
    there = rows[0].metadata
    said = [
        f"{key} {there.get(key)} there, {facts.get(key)} here"
        for key in dict.fromkeys([*facts, "kept", "quota", "governor"])
        if key != "commit" and there.get(key) != facts.get(key)
    ]
    if said and not config.ratios:
        raise InputError(
            f"{flag}: another machine or other versions ({'; '.join(said)}): compare ratios, with "
            "--ratios"
        )
    return said


def verdicts(
    base: pyperf.BenchmarkSuite, now: pyperf.BenchmarkSuite, max_slowdown: float, ratios: bool
) -> list[Verdict]:
    """Returns the verdict on each contender of `base`, on the same device and cores.

    ratios: compare the ratios to the baseline, round by round, instead of the times.
    """
    before, after = (
        {
            row.metadata["name"]: row.ratios_to(row.base) if ratios else row.times
            for row in report.rows_of(suite)
            if not (row.metadata["again"] or (ratios and row is row.base))
        }
        for suite in (base, now)
    )
    both = before.keys() & after.keys()
    return [
        judged(name, after[name], before[name], max_slowdown, len(both)) for name in sorted(both)
    ]


def judged(
    name: str, now: Sequence[float], before: Sequence[float], max_slowdown: float, count: int
) -> Verdict:
    """Returns the verdict on one of `count` contenders.

    It is slower if its factor exceeds `max_slowdown` and p is below FALSE_ALARMS / `count`.
    """
    factor, p = statistics.median(now) / statistics.median(before), stats.p_slower(now, before)
    slower = factor > max_slowdown and p < FALSE_ALARMS / count
    verdict = "SLOWER" if slower else "not slower"
    return Verdict(f"{name}: × {factor:.3f}, p = {p:.4f}: {verdict}", slower)
