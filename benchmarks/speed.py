"""How fast the program is at its own job, each figure against what it must beat, in one run.

python -m benchmarks.speed --rounds=5 --write
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import flags
from benchmarks import runs
from common import flagging
from common.errors import RunError, exit_with_one_line
from comparison import results, summary
from comparison.contenders import CONTENDERS

BATCHES = (10, 100, 1_000, 10_000, 55_000)
RIVALS = ("numpy", "numpy_best", "jax", "jax_best")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of this benchmark."""

    data_dir: str | None = flagging.flag(None, flagging.TEXT, "Prepared datasets; default: tfds's own.")
    rounds: int = flagging.flag(5, flags.Number(int, "a whole number of at least 2", lambda n: n >= 2), "Runs of each.")
    write: bool = flagging.flag(False, flagging.SWITCH, "Write the table into the READMEs.")

    @property
    def job(self) -> list[str]:
        return runs.where(self.data_dir)


def seconds(*arguments: str) -> tuple[float, float]:
    """Runs Python; returns the seconds and the peak of resident memory in MiB, as the operating system tells them."""
    start = time.perf_counter()
    null = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, *arguments], stdout=null, stderr=null, cwd=runs.PROJECT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def steps(config: Config) -> dict[str, list[float]]:
    """Measures a step over those of other frameworks, paired round by round, as compare.py takes its samples."""
    rivals = [name for name in RIVALS if CONTENDERS[name].installed()]
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder, "steps.json")
        command = [sys.executable, str(runs.PROJECT / "compare.py"), *config.job, f"--rounds={config.rounds}"]
        command += [f"--contenders={','.join(['xla', *rivals])}", "--devices=cpu"]
        command += ["--max_steps=5500", f"--output={output}"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RunError(f"compare.py failed: {done.stderr.strip()}")
        run = results.load(output).runs[0]
    found = {name: summary.times(summary.samples_of(run, name, "cpu", 10)) for name in ("xla", *rivals)}
    table = {"a step, us": found["xla"]}
    for name in rivals:
        table[f"a step of {name}, us"] = found[name]
        ratios = [ours / theirs for ours, theirs in zip(found["xla"], found[name], strict=True)]
        table[f"a step over that of {name}"] = ratios
    return table


def start_up(config: Config) -> dict[str, list[float]]:
    """Measures what a warm run costs beyond `import tensorflow`, and what an answer without it costs."""
    runs.together(config.job)  # the first run may prepare the dataset
    table: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        table.setdefault(name, []).append(value)

    for _ in range(config.rounds):
        imported, imported_mib = seconds("-c", "import tensorflow")
        whole, whole_mib = seconds("train.py", *config.job)
        add("a warm run beyond `import tensorflow`, s", whole - imported)
        add("`--help`, s", seconds("train.py", "--help")[0])
        add("a bad flag, s", seconds("train.py", "--batch_size=0")[0])
        add("data of a warm run, s", runs.together(config.job).record["seconds"]["data"])
        add("peak memory beyond `import tensorflow`, MiB", whole_mib - imported_mib)
    return table


def batches(config: Config) -> dict[str, list[float]]:
    """Measures images/s of training alone over the batch size."""
    table: dict[str, list[float]] = {}
    for _ in range(config.rounds):
        for batch in BATCHES:
            job = [f"--batch_size={batch}", "--loss_reduction=mean", "--eval_every=0", "--epochs=4"]
            rate = runs.together([*config.job, *job]).record["examples_per_second"]
            table.setdefault(f"batch {batch:,}, thousand images/s", []).append(rate / 1000)
    return table


def rows(table: dict[str, Sequence[float]]) -> list[str]:
    """Returns the rows of a Markdown table."""
    return [f"| {name} | {runs.middle(values, 0 if min(values) >= 100 else 2)} |" for name, values in table.items()]


def main() -> None:
    """Measures every row; prints and writes the table."""
    config = flagging.parse(Config, sys.argv, __doc__)
    lines = ["| what | median (least-most) |", "|---|---|"]
    for part in (steps, start_up, batches):
        lines += rows(part(config))
    lines += ["", runs.conditions(runs.together([*config.job, "--max_steps=1"]), config.rounds)]
    runs.publish("speed", lines, ("README.md", "README.es.md") if config.write else ())


if __name__ == "__main__":
    exit_with_one_line(main)
