"""The open division: any method and any settings, and the seconds until the mean test accuracy reaches a target."""

import dataclasses
import importlib.util
import json
import pathlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping

import numpy as np
from rich.console import Console

from common.errors import RunError
from common.files import write_atomically
from comparison import campaign, measure, stats, tables
from comparison.contenders import Contender
from comparison.options import Config

SURE = 0.01
HEADER = ("entrant", "mean test accuracy ± sd", "p", "training s", "whole process s", "")


@dataclasses.dataclass(frozen=True)
class Entry:
    """What one entrant did, a value for each seed."""

    name: str
    accuracies: list[float]
    training: list[float]  # seconds
    process: list[float]  # seconds

    def cells(self, target: float) -> list[str]:
        """Returns the text of a row, one for each of HEADER; only who surely reaches the target has a time."""
        p = stats.p_reached(self.accuracies, target)
        mean, sd = statistics.mean(self.accuracies), statistics.stdev(self.accuracies)
        times = [
            tables.number(statistics.median(seconds)) for seconds in (self.training, self.process)
        ]
        reached = ["", "", "does not surely reach it"] if p >= SURE else [*times, ""]
        return [self.name, f"{mean:.4f} ± {sd:.4f}", f"{p:.4f}", *reached]


def run(config: Config, console: Console) -> int:
    """Lets every entrant train with each seed; shows, and writes to --output, who reaches the target and how soon."""
    names = ["ours", *(["sklearn"] if importlib.util.find_spec("sklearn") else [])]
    takes_part = {
        name: Contender(command=(sys.executable, "-m", "comparison.entrants", name))
        for name in names
    }
    takes_part |= {
        program.name: Contender(command=program.command, place=None)
        for program in config.program or ()
    }
    with tempfile.TemporaryDirectory() as folder, campaign.Progress(console) as show:
        show("looking at the machine and the data")
        found = campaign.survey(
            dataclasses.replace(config, batch_sizes=(10,), max_steps=1), pathlib.Path(folder)
        )
        place = pathlib.Path(folder, measure.WORK)
        labels = np.load(place / "test_labels.npy")
        (place / "test_labels.npy").unlink()  # nobody is to see them
        entries = {name: Entry(name, [], [], []) for name in takes_part}
        for seed in range(config.seed, config.seed + config.seeds):
            for name in random.sample(list(takes_part), len(takes_part)):
                show(f"seed {seed}", name)
                job = found["jobs"][0] | {"seed": seed, "target_accuracy": config.target_accuracy}
                _measure(entries[name], takes_part[name], place, job, labels, config.timeout)
    ranked = sorted(entries.values(), key=lambda entry: statistics.median(entry.training))
    body = sorted(
        (entry.cells(config.target_accuracy or 1) for entry in ranked),
        key=lambda cells: bool(cells[-1]),
    )
    title = f"{config.dataset}, mean test accuracy of {config.target_accuracy:g} over {config.seeds} seeds, any method"
    tables.show_table(console, title, HEADER, body)
    if config.output:
        _write(pathlib.Path(config.output), title, body, found, entries)
    return 0


def _measure(
    entry: Entry,
    contender: Contender,
    place: pathlib.Path,
    job: Mapping,
    labels: np.ndarray,
    timeout: int,
) -> None:
    """Adds a run to an entry; raises RunError if it failed."""
    for name in ("predictions.npy", "result.json"):
        (place / name).unlink(missing_ok=True)
    (place / "job.json").write_text(json.dumps(job))
    began = time.perf_counter()
    try:
        done = measure.child(
            [*contender.command, str(place)], "cpu", timeout, place=contender.place
        )
    except RunError:
        raise RunError(f"--timeout={timeout}: {entry.name} was ended after {timeout} s") from None
    entry.process.append(time.perf_counter() - began)
    try:
        if done.returncode:
            raise ValueError(
                (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            )
        right = np.load(place / "predictions.npy") == labels
        seconds = json.loads((place / "result.json").read_text())["train"]
        entry.training.append(float(statistics.median(seconds)))
        entry.accuracies.append(float(np.mean(np.broadcast_to(right, labels.shape))))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{entry.name} failed: {error}") from None


def _write(
    path: pathlib.Path,
    title: str,
    body: list[list[str]],
    found: Mapping,
    entries: Mapping[str, Entry],
) -> None:
    content = {"title": title, "devices": found["devices"], "environment": found["environment"]}
    content |= {"entries": [dataclasses.asdict(entry) for entry in entries.values()]}
    write_atomically(path, lambda file: file.write((json.dumps(content, indent=1) + "\n").encode()))
    text = f"**{title}**\n\n{tables.table(HEADER, body)}\n"
    write_atomically(path.with_suffix(".md"), lambda file: file.write(text.encode()))
