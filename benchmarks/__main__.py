"""Makes the records of this project, and renders them into its pages: python -m benchmarks

With names it makes only those records; with --render it makes none.
"""

import ast
import functools
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks import common, noise, render, speed
from common.errors import InputError, exit_with_one_line
from common.files import PROJECT
from common.stats import number
from comparison import system

FIGURES = "--figures=docs/figures"
MAIN_JOB = ("train.py", "--batch_size=10", "--lr=0.01")
RATES = ("--lr=0.0003,0.001,0.003,0.01,0.03,0.1,0.3", "--epochs=1,10", "--seed=0:10")
COMPARISONS = {
    "batch10": ("--contenders=all",),
    "sweep": ("--contenders=xla,jax_best,numpy_best,c", "--batch_sizes=1,10,100,1000,10000"),
}


def main_job() -> dict[str, str]:
    """Returns the output of the README's command and of a prediction; draws the figures."""
    with tempfile.TemporaryDirectory() as folder:
        output = common.python(*MAIN_JOB).output
        common.python(*MAIN_JOB, f"--export_dir={folder}/model", FIGURES)
        answer = common.python("predict.py", f"--model={folder}/model", "docs/digit.png")
    return {"train": output, "predict": answer.output}


def rates() -> dict[str, str]:
    """Returns the output of a sweep over learning rates, epochs and seeds; draws its figures."""
    return {"printed": common.python("sweep.py", *RATES, FIGURES).output}


def comparisons() -> None:
    """Measures the comparisons; result files, tables and charts are kept in docs/comparison."""
    with tempfile.TemporaryDirectory() as folder:
        for name, flags in COMPARISONS.items():
            common.python("compare.py", *flags, f"--output={folder}/{name}.json")
        shutil.copy(render.COMPARISONS / "batch10.json", render.COMPARISONS / "batch10_before.json")
        shutil.copytree(folder, render.COMPARISONS, dirs_exist_ok=True)


def variants() -> dict[str, list[float]]:
    """Measures the variants of the step; TensorFlow is imported only for them."""
    from benchmarks import variants

    return variants.measure()


def history() -> list[dict[str, Any]]:
    """Returns the lines of earlier releases, and the line of this one from the other records."""
    (about, modes), (_, start) = common.load("modes"), common.load("start")
    release = re.findall(r'^version = "(.*)"', (PROJECT / "pyproject.toml").read_text(), re.M)[0]
    best = next(row for row in render.fastest() if row.task.contender not in speed.MODES)
    line = {
        "release": release,
        "date": about["date"],
        "commit": about["git_commit"][:10],
        "machine": about["device_name"],
        **{
            name: f"{statistics.median(times):,.2f}"
            for name, times in modes.items()
            if name != speed.BY_HAND
        },
        "best opponent": f"{best.name}, batch 10: {number(best.time.median)} µs",
        speed.WARM: f"{statistics.median(start[speed.WARM]):.2f}",
        "nodes of the syntax trees": size(),
    }
    return [each for each in common.load("history")[1] if each["release"] != release] + [line]


def size() -> int:
    """Returns the number of nodes in the product's syntax trees, which ignores line breaks."""
    listed = subprocess.check_output(["git", "ls-files", "*.py", ":!tests"], cwd=PROJECT, text=True)
    texts = ((PROJECT / path).read_text() for path in listed.split())
    return sum(1 for text in texts for _ in ast.walk(ast.parse(text)))


IN_ROUNDS = (speed.start, speed.modes, speed.batches, speed.large, speed.replicas)
# Always in this order, because variants imports TensorFlow, and start could then measure no memory.
# The value that a function returns is its record, unless it is None.
MEASUREMENTS: dict[str, Callable[[], Any]] = {
    "comparisons": comparisons,  # first, as it reads the commit itself
    "main_job": main_job,
    "rates": rates,
    **{each.__name__: functools.partial(common.in_rounds, each) for each in IN_ROUNDS},
    "variants": variants,
    "noise": noise.measure,
    "history": history,
}


def main(names: list[str]) -> None:
    """Makes the records of these names, or all records if there are none, then renders."""
    if unknown := set(names) - {"--render", *MEASUREMENTS}:
        raise InputError(
            f"{', '.join(unknown)}: must be --render, or some of {', '.join(MEASUREMENTS)}"
        )
    for name, measure in MEASUREMENTS.items():
        if names and name not in names:
            continue
        common.environment()  # is cached with the commit, which the first record makes dirty
        print(f"measuring {name}")
        other_cores = system.watch()
        if (found := measure()) is not None:
            common.save(name, found, other_cores(), f"python -m benchmarks {name}")
    render.write()


if __name__ == "__main__":
    exit_with_one_line(lambda: main(sys.argv[1:]))
