"""How often equal contenders are called different and the guard is right, from measurements of one contender.

python -m benchmarks.noise --write
"""

import dataclasses
import math
import pathlib
import sys

import numpy as np
from rich.console import Console

from benchmarks.pages import rewrite_blocks
from common import children, flagging
from common.errors import RunError, exit_with_one_line
from common.files import PROJECT
from comparison import campaign, guard, machine, options, results, stats
from comparison.results import Run

PAGE = PROJECT / "docs" / "comparison.md"
ROUNDS, PLANTED, RESAMPLED = 7, 1.1, 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of this benchmark."""

    contender: str = flagging.flag("xla", flagging.TEXT, "Who is measured again and again.")
    measurements: int = flagging.flag(200, flagging.integer(60), "How often.")
    data_dir: str | None = flagging.flag(
        None, flagging.TEXT, "Prepared datasets; default: tfds's own."
    )
    file: str | None = flagging.flag(
        None, flagging.TEXT, "A result file of one contender, to take instead."
    )
    write: bool = flagging.flag(False, flagging.SWITCH, "Write the table into docs/comparison.md.")


def measured(config: Config) -> Run:
    """Returns a run of one contender; each of its rounds has two measurements of it."""
    if config.file:
        return results.load(pathlib.Path(config.file)).runs[0]
    rounds = config.measurements // 2
    job = [
        f"--contenders={config.contender}",
        "--devices=cpu",
        f"--rounds={rounds}",
    ]
    job += [f"--data_dir={config.data_dir}"] if config.data_dir else []
    asked = flagging.parse(options.Config, ["compare.py", *job], None)
    run = campaign.run(asked, Console(), keep=lambda results: None).runs[0]
    if run.rounds < rounds:
        raise RunError(f"stopped after {run.rounds} of {rounds} rounds: nothing is written")
    return run


def called_different(times: np.ndarray, rng: np.random.Generator) -> float:
    """Returns the share of runs in which a contender is called different from one that is the same.

    Three measurements that followed one another are a round: the baseline, the baseline again, and the contender.
    """
    rounds, wrong = times[: len(times) // 3 * 3].reshape(-1, 3), 0
    for _ in range(RESAMPLED):
        picked = rng.permuted(rng.choice(rounds, ROUNDS, replace=False), axis=1)
        base, again, other = picked.T.tolist()
        floor = stats.noise_floor(stats.paired_ratio(again, base))
        wrong += not stats.within_noise(stats.paired_ratio(other, base), floor)
    return wrong / RESAMPLED


def outside(times: np.ndarray, rng: np.random.Generator) -> float:
    """Returns the share of runs in which the ratio of two equal contenders is outside another run's interval of it."""
    pairs, out = times[: len(times) // 2 * 2].reshape(-1, 2), 0
    for _ in range(RESAMPLED):
        picked = rng.permuted(rng.choice(pairs, 2 * ROUNDS, replace=False), axis=1)
        first, second = (stats.paired_ratio(*run.T.tolist()) for run in np.split(picked, 2))
        out += not first.low <= second.median <= first.high
    return out / RESAMPLED


def called_slower(times: np.ndarray, factor: float, rng: np.random.Generator) -> float:
    """Returns the share of runs, `factor` times as slow as an earlier or later one, in which the guard says so."""
    said = 0
    for _ in range(RESAMPLED):
        cut = rng.integers(ROUNDS, len(times) - ROUNDS + 1)
        starts = rng.integers(cut - ROUNDS + 1), rng.integers(cut, len(times) - ROUNDS + 1)
        before, now = (times[start : start + ROUNDS] for start in rng.permutation(starts))
        said += guard.judged(
            (now * factor).tolist(), before.tolist(), options.Config.max_slowdown, count=1
        )[2]
    return said / RESAMPLED


def table(run: Run) -> list[str]:
    """Returns the table and what must be said below it."""
    times, rng = (
        np.array([sample.us_per_step for sample in run.samples], float),
        np.random.default_rng(0),
    )
    spread, middle = np.std(np.log(times)), ROUNDS // 2 + 1
    # the least of all samples are of one run
    by_chance = 2 * math.comb(ROUNDS, middle) / math.comb(2 * ROUNDS, middle)
    out = f"{100 * outside(times, rng):.1f} | {100 * by_chance:.0f}, by chance"
    busy = " ".join(machine.warnings([sample.quiet for sample in run.samples]))
    return [
        "| of 100 runs of 7 rounds | found | must be |",
        "|---|--:|--:|",
        f"| two equal contenders called different | {100 * called_different(times, rng):.1f} | at most 5 |",
        f"| the guard's false alarms | {100 * called_slower(times, 1.0, rng):.1f} | at most 5 |",
        f"| a slowdown of 10 % caught by the guard | {100 * called_slower(times, PLANTED, rng):.1f} | at least 95 |",
        f"| a ratio outside the interval of an earlier run | {out} |",
        "",
        f"From {len(times)} measurements of {run.baseline[0]}, one after the other, whose standard deviation is "
        f"{spread:.1%}; {run.date} on {'; '.join(run.devices.values())}, {run.environment['cores']} cores. {busy}  ",
        "To repeat it: `python -m benchmarks.noise --write`",
    ]


def main() -> None:
    """Measures, prints, and writes if asked."""
    config = flagging.parse(Config, sys.argv, __doc__)
    children.end_on_signals()
    text = "\n".join(table(measured(config)))
    print(text)
    if config.write:
        rewrite_blocks(PAGE, {"noise": text})


if __name__ == "__main__":
    exit_with_one_line(main)
