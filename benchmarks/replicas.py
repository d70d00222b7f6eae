"""Time of a step over replicas and global batch: when several devices or workers pay.

python -m benchmarks.replicas --rounds=3 --write
"""

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from benchmarks import runs
from common import children
from common.errors import RunError
from common.flagging import COUNT, flag

BATCHES = (10, 100, 1000, 10000)
KINDS = {
    "one device": ("none", 1),
    "mirrored, 2 replicas": ("mirrored", 2),
    "multi_worker, 2 workers": ("multi_worker", 2),
}
Samples = dict[str, dict[str, list[float]]]  # us/step by kind and batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(runs.Config):
    """The flags of this benchmark."""

    steps: int = flag(500, COUNT, "Steps of a run.")


def us_per_step(config: Config, strategy: str, replicas: int, batch: int) -> float:
    """Trains once, and returns the microseconds of a step; workers are processes on loopback."""
    job = [
        f"--batch_size={batch}",
        "--lr=1e-5",
        f"--max_steps={config.steps}",
        "--epochs=1000",
        "--eval_every=0",
    ]
    job += [f"--strategy={strategy}", *config.where]
    if strategy != "multi_worker":
        count = replicas if strategy == "mirrored" else 0
        return runs.train(config, *job, f"--replicas={count}").record["us_per_step"]
    with contextlib.ExitStack() as stack:
        record = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()), "record.json")
        command, processes = [sys.executable, "train.py", *job, f"--record={record}"], []
        for variables in runs.loopback(replicas):
            options = {
                "cwd": runs.PROJECT,
                "env": os.environ | variables,
                "stdout": subprocess.DEVNULL,
            }
            processes.append(
                stack.enter_context(children.started(command, config.timeout, **options))
            )
        if any(process.wait() for process in processes):
            raise RunError(f"a worker of {' '.join(command)} failed")
        return json.loads(record.read_text())["us_per_step"]


def table(found: Samples) -> list[str]:
    """Returns the Markdown of the samples."""
    heads = [*next(iter(found.values()))]
    lines = [f"| us/step | {' | '.join(heads)} |", "|---" + "|--:" * len(heads) + "|"]
    for kind, of_kind in found.items():
        lines.append(
            f"| {kind} | {' | '.join(runs.middle(values, 0) for values in of_kind.values())} |"
        )
    return lines


def measure(config: Config) -> None:
    """Measures each kind at each batch, in turn; prints and writes the table."""
    found: Samples = {}
    for _, kind, batch in itertools.product(range(config.rounds), KINDS, BATCHES):
        values = found.setdefault(kind, {}).setdefault(f"batch {batch:,}", [])
        values.append(us_per_step(config, *KINDS[kind], batch))
    runs.publish(
        "replicas",
        config,
        table(found),
        "docs/results.md",
        found,
        f"replicas --steps={config.steps}",
    )


if __name__ == "__main__":
    runs.main(Config, measure, __doc__)
