"""Makes the records of this project, and renders what they say into its pages: python -m benchmarks

With names it makes those records alone; with --render it makes none.
"""

import ast
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import pyperf

from benchmarks import common, noise, render, speed
from common.errors import InputError, exit_with_one_line
from common.files import PROJECT

DOCS = PROJECT / "docs"
MAIN_JOB = ("--batch_size=10", "--lr=0.01")
RATES = ("--lr=0.0003,0.001,0.003,0.01,0.03,0.1,0.3", "--epochs=1,10", "--seed=0:10")
COMPARISONS = {
    "batch10": ("--contenders=all",),
    "sweep": (
        "--contenders=xla,jax_best,numpy_best,c",
        "--rounds=7",
        "--batch_sizes=1,10,100,1000,10000",
    ),
}


def main_job() -> dict[str, str]:
    """What the README's command prints, and a prediction by its model; draws the figures."""
    with tempfile.TemporaryDirectory() as folder:
        model, figures = f"{folder}/exported", f"{folder}/figures"
        output = common.python("train.py", *MAIN_JOB).output
        common.python("train.py", *MAIN_JOB, f"--export_dir={model}", f"--figures={figures}")
        answer = common.python("predict.py", f"--model={model}", "docs/digit.png").output
        shutil.copytree(figures, DOCS / "figures", dirs_exist_ok=True)
    return {"train": output, "predict": answer}


def rates() -> dict[str, Any]:
    """A sweep over learning rates, epochs and seeds: what it prints, and its figures.

    Beside them the test accuracies at the learning rate of the main job, by epochs.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "rates.jsonl")
        outputs = f"--output={path}", f"--figures={DOCS / 'figures'}"
        printed = common.python("sweep.py", *RATES, *outputs).output
        runs = [json.loads(line) for line in path.read_text().splitlines()]
    default = [run for run in runs if run["lr"] == 0.01]
    accuracies = {
        epochs: [run["test_accuracy"] for run in default if run["epochs"] == epochs]
        for epochs in (1, 10)
    }
    return {"printed": printed, "test accuracies": accuracies}


def comparisons() -> None:
    """Measures the comparisons; result files, tables and charts are kept in docs/comparison."""
    with tempfile.TemporaryDirectory() as folder:
        for name, flags in COMPARISONS.items():
            common.python("compare.py", *flags, f"--output={folder}/{name}.json")
        shutil.copytree(folder, DOCS / "comparison", dirs_exist_ok=True)


def variants() -> common.Samples:
    """The ways to write the step; TensorFlow is imported only for them."""
    from benchmarks import variants

    return variants.measure()


def history() -> list[dict[str, Any]]:
    """The lines of earlier releases, and that of this one from the other records."""
    (about, modes), (_, start) = common.load("modes"), common.load("start")
    release = re.findall(r'^version = "(.*)"', (PROJECT / "pyproject.toml").read_text(), re.M)[0]
    line = {
        "release": release,
        "date": about["date"],
        "commit": about["git_commit"][:10],
        "machine": about["device_name"],
        **{
            name: f"{statistics.median(modes[name]):,.2f}"
            for name in (f"mode {mode}, µs/step" for mode in speed.MODES)
        },
        "best opponent": best_opponent(),
        speed.WARM: f"{statistics.median(start[speed.WARM]):.2f}",
        "nodes of the syntax trees": size(),
    }
    return [each for each in common.load("history")[1] if each["release"] != release] + [line]


def best_opponent() -> str:
    """Returns the fastest contender of batch 10 that is not ours, and its microseconds a step."""
    suite = pyperf.BenchmarkSuite.load(str(DOCS / "comparison" / "batch10.json"))
    others = [each for each in suite if each.get_name().split()[0] not in speed.MODES]
    best = min(others, key=pyperf.Benchmark.median)
    return f"{best.get_name().partition(',')[0]}, batch 10: {best.median() * 1e6:.2f} µs"


def size() -> int:
    """Returns the nodes of the product's syntax trees, which do not grow with lines."""
    command = ["git", "ls-files", "*.py", ":!tests"]
    listed = subprocess.check_output(command, cwd=PROJECT, text=True)
    trees = [ast.parse((PROJECT / path).read_text()) for path in listed.split()]
    return sum(len(list(ast.walk(tree))) for tree in trees)


# In this order; what a function returns is its record, if it returns anything.
MEASUREMENTS: dict[str, Callable[[], Any]] = {
    "main_job": main_job,
    "rates": rates,
    "start": speed.start,
    "modes": speed.modes,
    "batches": speed.batches,
    "large": speed.large,
    "replicas": speed.replicas,
    "variants": variants,
    "noise": noise.measure,
    "comparisons": comparisons,
    "history": history,
}


def main(names: list[str]) -> None:
    """Makes the records of these names, of all without one, then renders."""
    if unknown := set(names) - MEASUREMENTS.keys() - {"--render"}:
        allowed = f"must be --render or some of {', '.join(MEASUREMENTS)}"
        raise InputError(f"{', '.join(unknown)}: {allowed}")
    for name in names or MEASUREMENTS:
        if name != "--render":
            print(f"measuring {name}", flush=True)
            busy = common.other_cores()
            if (found := MEASUREMENTS[name]()) is not None:
                command = f"python -m benchmarks {name}"
                common.save(name, found, max(busy, common.other_cores()), command)
    render.write()


if __name__ == "__main__":
    exit_with_one_line(lambda: main(sys.argv[1:]))
