"""The guard: compares a new measurement with a results file, and says which contender is slower."""

import math
import statistics
from collections.abc import Sequence

from common.commandline import Config
from common.errors import InputError
from comparison.report import Row

FALSE_ALARMS = 0.05  # maximum share of runs with a false alarm, over all contenders together


def check(
    base: Sequence[Row], names: set[str], facts: dict[str, str | float], config: Config
) -> None:
    """Raises InputError if a measurement cannot be compared with `base`.

    names: the benchmarks that are about to be measured. All of `base` must be there, the rounds
    must be enough for the test, and times need the same machine and versions.
    """
    flag, there = f"--against={config.against}", base[0].metadata
    rounds, more = config.rounds, len(base[0].times)
    if len(base) / math.comb(rounds + more, rounds) > FALSE_ALARMS:
        raise InputError(
            f"{flag}: {rounds} rounds against its {more} are too few to tell anything: give more "
            "--rounds, or measure the file again with more"
        )
    if missing := {row.metadata["name"] for row in base} - names:
        raise InputError(
            f"{flag}: another job: it has {min(missing)}, this run {min(names)}; "
            "give the file of one machine and its own flags"
        )
    different = [
        f"{key} {there.get(key)} there, {facts[key]} here"
        for key in facts
        if there.get(key) != facts[key]
    ]
    if different and not config.ratios:
        raise InputError(
            f"{flag}: another machine or other versions ({'; '.join(different)}): compare ratios, "
            "with --ratios"
        )


def verdicts(
    base: Sequence[Row], now: Sequence[Row], max_slowdown: float, ratios: bool
) -> dict[str, bool | None]:
    """Returns a line for each contender of `base`, on the same device and cores, and whether that
    contender is slower; None if it has no result now.

    ratios: compare the ratios to the baseline, round by round, instead of the times.
    """
    before, after = (
        {
            row.metadata["name"]: row.ratios_to(row.base) if ratios else row.times
            for row in rows
            if not row.task.again
        }
        for rows in (base, now)
    )
    count = len(before) - ratios  # the ratio of the baseline is always 1
    return dict(
        judged(name, after[name], before[name], max_slowdown, count)
        if name in after
        else (f"{name}: no result now", None)
        for name in before
    )


def judged(
    name: str, now: Sequence[float], before: Sequence[float], max_slowdown: float, count: int
) -> tuple[str, bool]:
    """Returns a line for one of `count` contenders, and whether it is slower.

    It is slower if its factor exceeds `max_slowdown` and p * `count` is below FALSE_ALARMS. p is
    from the exact one-sided rank-sum test, in which equal samples count as half above.
    """
    from scipy import stats  # takes seconds, and only the guard needs it

    factor = statistics.median(now) / statistics.median(before)
    p = stats.mannwhitneyu(now, before, alternative="greater", method="exact").pvalue
    slower = factor > max_slowdown and p * count < FALSE_ALARMS
    verdict = "SLOWER" if slower else "not slower"
    return f"{name}: × {factor:.3f}, p = {p:.4f}: {verdict}", slower
