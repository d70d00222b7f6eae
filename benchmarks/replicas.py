"""Time of a step over replicas and global batch: when several devices or workers pay.

python -m benchmarks.replicas --runs=3
"""

import dataclasses
import itertools
import sys

from benchmarks import runs
from common import flagging
from common.errors import exit_with_one_line

BATCHES = (10, 100, 1000, 10000)
KINDS = (("none", 1), ("mirrored", 2), ("mirrored", 3), ("multi_worker", 2), ("multi_worker", 3))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of this benchmark."""

    data_dir: str | None = flagging.flag(None, flagging.TEXT, "Prepared datasets; default: tfds's own.")
    runs: int = flagging.flag(3, flagging.COUNT, "Runs of each.")
    steps: int = flagging.flag(500, flagging.COUNT, "Steps of a run.")
    write: bool = flagging.flag(False, flagging.SWITCH, "Write the table into the READMEs.")


def measure(config: Config, strategy: str, replicas: int, batch: int) -> runs.Run:
    """Trains once; workers are processes on loopback."""
    job = [f"--batch_size={batch}", "--lr=1e-5", f"--max_steps={config.steps}", "--epochs=1000", "--eval_every=0"]
    job += [f"--strategy={strategy}", *runs.where(config.data_dir)]
    if strategy != "multi_worker":
        return runs.together([*job, f"--replicas={replicas if strategy == 'mirrored' else 0}"])
    return runs.together(*[job] * replicas, environments=runs.loopback(replicas))


def main() -> None:
    """Measures each kind at each batch, in turn; prints and writes the table."""
    config = flagging.parse(Config, sys.argv, __doc__)
    found = {}
    for _, (kind, batch) in itertools.product(range(config.runs), itertools.product(KINDS, BATCHES)):
        run = measure(config, *kind, batch)
        found.setdefault((kind, batch), []).append(run.record["us_per_step"])
    heads = " | ".join(f"batch {batch:,}" for batch in BATCHES)
    lines = [f"| us/step | {heads} |", "|---" * (len(BATCHES) + 1) + "|"]
    for strategy, replicas in KINDS:
        cells = " | ".join(runs.middle(found[(strategy, replicas), batch], 0) for batch in BATCHES)
        lines.append(f"| {strategy}, {replicas} | {cells} |")
    lines += ["", runs.conditions(run, config.runs)]
    runs.publish("replicas", lines, ("README.md", "README.es.md") if config.write else ())


if __name__ == "__main__":
    exit_with_one_line(main)
