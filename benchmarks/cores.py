"""Whether a step is faster on one core of the CPU or on all of them, over the batch size.

python -m benchmarks.cores --rounds=5 --write
"""

import dataclasses
import sys

from benchmarks import runs
from common import flagging
from common.errors import exit_with_one_line
from runtime import devices

BATCHES = (10, 100, 500, 1_000, 2_000, 10_000, 55_000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of the benchmark."""

    rounds: int = flagging.flag(5, flagging.COUNT, "Runs of each batch size, on one core and on all in turn.")
    data_dir: str | None = flagging.flag(None, flagging.TEXT, "Prepared datasets; default: tfds's own.")
    write: bool = flagging.flag(False, flagging.SWITCH, "Write the table into docs/performance.md.")


def us_per_step(config: Config, batch_size: int, cores: int) -> float:
    """Returns the microseconds of a step in a run of train.py that is given so many cores."""
    job = [f"--batch_size={batch_size}", "--loss_reduction=mean", "--eval_every=0", "--epochs=4", "--device=cpu"]
    environment = {devices.THREADS: str(cores)}
    run = runs.together([*runs.where(config.data_dir), *job], environments=[environment])
    return run.record["us_per_step"]


def main() -> None:
    """Measures every batch size; prints and writes the table."""
    config = flagging.parse(Config, sys.argv, __doc__)
    cores = devices.cores()
    lines = [f"| batch | one core, us/step | {cores} cores, us/step | one over {cores} |", "|---|---|---|---|"]
    for batch_size in BATCHES:
        pairs = [tuple(us_per_step(config, batch_size, n) for n in (1, cores)) for _ in range(config.rounds)]
        one, several = zip(*pairs, strict=True)
        ratios = [a / b for a, b in pairs]
        lines.append(f"| {batch_size:,} | {runs.middle(one)} | {runs.middle(several)} | {runs.middle(ratios, 2)} |")
    lines += ["", runs.conditions(runs.together([*runs.where(config.data_dir), "--max_steps=1"]), config.rounds)]
    runs.publish("cores", lines, ("docs/performance.md",) if config.write else ())


if __name__ == "__main__":
    exit_with_one_line(main)
