"""The guard of a speed: measures once more what a result file measured, and says who has become slower."""

import dataclasses
import math
import pathlib
import statistics
from collections.abc import Sequence

from common import flagging
from common.errors import InputError
from comparison import results, stats, summary
from comparison.measure import Task
from comparison.options import Config, ProgramParser
from comparison.results import Results, Run

FALSE_ALARMS = 0.05  # of runs in which nothing has become slower, over all contenders together
TAKEN = (
    "contenders",
    "program",
    "devices",
    "cores",
    "rounds",
    "batch_sizes",
    "max_steps",
    "lr",
    "seed",
    "dataset",
)
# of an environment; the rest must be the same
PASSING = ("date", "git_commit", "load_average", "clocks", "gpus")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A contender now against itself before; p: how often chance alone would make it look as slow."""

    task: Task
    factor: float
    p: float
    slower: bool

    def __str__(self) -> str:
        return f"{self.task}: × {self.factor:.3f}, p = {self.p:.4f}: {'SLOWER' if self.slower else 'not slower'}"


def load(config: Config) -> Results:
    """Returns the result file of --against; raises InputError if nothing can be guarded by it."""
    base, flag = results.load(pathlib.Path(config.against or "")), f"--against={config.against}"
    if len(base.runs) > 1:
        raise InputError(
            f"{flag}: must be of one machine, has {len(base.runs)}: give one of the files in it"
        )
    default = flagging.parse(Config, [""], None)
    for name in TAKEN:
        if getattr(config, name) != getattr(default, name):
            raise InputError(
                f"--{name}: --against measures what {config.against} measured: leave the flag out"
            )
    rounds, count = base.runs[0].rounds, len(times_of(base.runs[0], config.ratios))
    if 1 / math.comb(2 * rounds, rounds) > FALSE_ALARMS / max(1, count):
        raise InputError(
            f"{flag}: its {rounds} rounds are too few to tell {count} contenders from chance: take more"
        )
    return base


def config_of(config: Config, base: Results) -> Config:
    """Returns the flags that measure what `base` measured; who had no time there does not take part."""
    run = base.runs[0]
    taken = {name: run.flags[name] for name in TAKEN} | {"rounds": run.rounds}
    programs = tuple(ProgramParser().parse(each) for each in taken["program"])
    named = dict.fromkeys(task.contender for task in times_of(run, ratios=False))
    contenders = [run.baseline[0], *(name for name in named if name != run.baseline[0])]
    taken["contenders"] = tuple(
        name for name in contenders if name not in {each.name for each in programs}
    )
    taken |= {
        "devices": tuple(run.devices),
        "batch_sizes": tuple(taken["batch_sizes"]),
        "program": programs or None,
    }
    return dataclasses.replace(config, **taken)


def times_of(run: Run, ratios: bool) -> dict[Task, list[float]]:
    """Returns us a step of each contender that has one, or their ratios to the baseline, round by round, without it."""
    found = {}
    for task in dict.fromkeys(
        Task(each.contender, each.device, each.batch_size) for each in run.samples
    ):
        own = summary.times(summary.samples_of(run, task.contender, task.device, task.batch_size))
        if ratios:
            base = summary.baseline_times(run, task.batch_size)
            is_baseline = [task.contender, task.device] == run.baseline
            own = [] if is_baseline else [time / per for time, per in zip(own, base, strict=False)]
        if own:
            found[task] = own
    return found


def check(base: Results, new: Results, config: Config) -> list[str]:
    """Returns in words how the machine and the versions differ; raises InputError if times cannot be compared then."""
    flag = f"--against={config.against}"
    if differing := results.differences(base.jobs, new.jobs):
        raise InputError(f"{flag}: another job: {'; '.join(differing)}")
    before, now = (
        {**run.environment, "devices": run.devices} for run in (base.runs[0], new.runs[0])
    )
    keys = [
        key for key in {**before, **now} if key not in PASSING and before.get(key) != now.get(key)
    ]
    if not keys:
        return []
    said = "; ".join(f"{key} {before.get(key)} there, {now.get(key)} here" for key in keys)
    if not config.ratios:
        raise InputError(
            f"{flag}: another machine or other versions ({said}): compare ratios, with --ratios"
        )
    return [f"Another machine or other versions: {said}."]


def verdicts(base: Run, now: Run, max_slowdown: float, ratios: bool) -> list[Verdict]:
    """Returns the verdict on each contender of `base`: slower by more than the factor, and by more than chance."""
    before, after = times_of(base, ratios), times_of(now, ratios)
    both = [task for task in before if task in after]
    return [
        Verdict(task, *judged(after[task], before[task], max_slowdown, len(both))) for task in both
    ]


def judged(
    now: Sequence[float], before: Sequence[float], max_slowdown: float, count: int
) -> tuple[float, float, bool]:
    """Returns the factor, p, and whether it is slower, of one of `count` contenders: so many may give a false alarm."""
    factor, p = statistics.median(now) / statistics.median(before), stats.p_slower(now, before)
    return factor, p, factor > max_slowdown and p < FALSE_ALARMS / count
