"""How fast the program is at its own job, each figure against what it must beat, in one run.

python benchmarks/speed.py --rounds=5 --output=speed.json
"""

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

PROJECT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT))

import flags
from errors import exit_with_one_line
from files import write_atomically


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of the benchmark."""

    rounds: int = flags.flag(5, flags.Number(int, "a whole number of at least 2", lambda n: n >= 2), "Rounds.")
    data_dir: str | None = flags.flag(None, flags.TEXT, "Prepared datasets, as for train.py.")
    output: str = flags.flag("speed.json", flags.TEXT, "Write every sample to this file.")


@dataclasses.dataclass(frozen=True)
class Process:
    """One finished process: wall-clock seconds, peak resident MB, and the record of train.py if it wrote one."""

    seconds: float
    peak_mb: float
    record: dict[str, Any]


def run(*command: str) -> Process:
    """Runs a Python command to its end; the operating system accounts for time and memory."""
    with tempfile.TemporaryDirectory() as folder:
        record = pathlib.Path(folder) / "record.json"
        arguments = [argument.replace("RECORD", str(record)) for argument in command]
        start = time.perf_counter()
        child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = 0
        written = json.loads(record.read_text()) if record.exists() else {}
        return Process(seconds, usage.ru_maxrss / 1024, written)


def summary(samples: list[float]) -> str:
    """Returns median [least .. most] of the samples."""
    return f"{statistics.median(samples):.3g} [{min(samples):.3g} .. {max(samples):.3g}]"


def start_up(config: Config) -> dict[str, list[float]]:
    """Measures what a warm run costs beyond `import tensorflow`, and what an answer without it costs."""
    train = [str(PROJECT / "train.py"), *([f"--data_dir={config.data_dir}"] if config.data_dir else [])]
    commands = {
        "import": ["-c", "import tensorflow"],
        "run": [*train, "--record=RECORD"],
        "help": [*train, "--help"],
        "bad flag": [*train, "--batch_size=0"],
    }
    run(*commands["run"])  # the first run may prepare the dataset
    rounds = [{name: run(*command) for name, command in commands.items()} for _ in range(config.rounds)]
    return {
        "a warm run beyond `import tensorflow`, s": [r["run"].seconds - r["import"].seconds for r in rounds],
        "`--help`, s": [r["help"].seconds for r in rounds],
        "a bad flag, s": [r["bad flag"].seconds for r in rounds],
        "data of a warm run, s": [r["run"].record["seconds"]["data"] for r in rounds],
        "peak memory beyond `import tensorflow`, MB": [r["run"].peak_mb - r["import"].peak_mb for r in rounds],
    }


def batch_sizes(config: Config) -> dict[str, list[float]]:
    """Measures images/s of training alone over the batch size."""
    train = [str(PROJECT / "train.py"), *([f"--data_dir={config.data_dir}"] if config.data_dir else [])]
    samples: dict[str, list[float]] = {}
    for _ in range(config.rounds):
        for batch in (10, 100, 1_000, 10_000, 55_000):
            flags_of_run = [f"--batch_size={batch}", "--loss_reduction=mean", "--eval_every=0", "--epochs=4"]
            done = run(*train, *flags_of_run, "--record=RECORD")
            rate = done.record["examples_per_second"]
            samples.setdefault(f"batch {batch:,}, images/s", []).append(rate)
    return samples


def main() -> None:
    """Runs every row, prints it, and writes the samples."""
    config = flags.parse(Config, sys.argv, __doc__)
    samples: dict[str, list[float]] = {}
    rows: list[Callable[[Config], dict[str, list[float]]]] = [start_up, batch_sizes]
    for row in rows:
        for name, values in row(config).items():
            samples[name] = values
            print(f"{name}: {summary(values)}  n={len(values)}", flush=True)
    text = json.dumps(samples, indent=2)
    write_atomically(pathlib.Path(config.output), lambda file: file.write(text.encode()))


if __name__ == "__main__":
    exit_with_one_line(main)
