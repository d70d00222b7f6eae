"""A comparison from its flags to its results: who takes part, the survey, the rounds, what is kept of them."""

import contextlib
import dataclasses
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.status import Status

from common.errors import InputError, RunError
from comparison import guard, measure, work
from comparison.contenders import CONTENDERS, DEVICE_NAMES, Contender
from comparison.options import Config
from comparison.results import Results, Run


def those_here(
    flag: str, asked: tuple[str, ...] | None, reasons: dict[str, str | None], left_out: list[str]
) -> tuple[str, ...]:
    """Returns who of `reasons`, {name: why it cannot take part}, takes part; adds to `left_out` who does not.

    Raises InputError if one that was asked for by name cannot.
    """
    for name, reason in reasons.items():
        if reason and asked and name in asked:
            raise InputError(f"--{flag}={name}: {reason}")
        if reason and not asked:
            left_out.append(f"{name}, {reason}")
    return tuple(name for name in asked or reasons if not reasons[name])


def taking_part(config: Config, left_out: list[str]) -> dict[str, Contender]:
    """Returns the contenders that can take part, then the user's programs; raises InputError if two have one name."""
    missing = {name: one.missing() for name, one in CONTENDERS.items()}
    found = {
        name: CONTENDERS[name]
        for name in those_here("contenders", config.contenders, missing, left_out)
    }
    for program in config.program or ():
        if program.name in CONTENDERS:
            raise InputError(f"--program={program}: a contender has that name: choose another")
        found[program.name] = Contender(command=program.command, place=None)
    return found


def survey(config: Config, folder: pathlib.Path) -> dict[str, Any]:
    """Returns what the survey found and leaves the examples in `folder`; if it fails, exits with its code and line."""
    sizes = [(size, work.steps_of(size, config.max_steps)) for size in config.batch_sizes]
    request = {
        "folder": str(folder),
        "dataset": config.dataset,
        "data_dir": _absolute(config.data_dir),
        "manual_dir": _absolute(config.manual_dir),
        "seed": config.seed,
        "devices": config.devices or DEVICE_NAMES,
        "jobs": [
            {"batch_size": size, "steps": n, "lr": work.lr_of(size, config.lr)} for size, n in sizes
        ],
    }
    command = [sys.executable, "-m", "comparison.survey", json.dumps(request)]
    if code := subprocess.run(command, cwd=measure.PROJECT).returncode:
        sys.exit(code)
    return json.loads((folder / "survey.json").read_text())


def _absolute(path: str | None) -> str | None:
    return str(pathlib.Path(path).absolute()) if path else None


def run(
    config: Config, console: Console, keep: Callable[[Results], None], base: Results | None = None
) -> Results:
    """Measures all rounds and returns the results, calling `keep` with those so far after each round.

    With `base` it measures what that did, on as many cores; raises InputError if the two cannot be compared. Ctrl-C
    ends it with the rounds that are finished; raises RunError if there is none.
    """
    results = None
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        for results in _rounds(config, pathlib.Path(folder), console, base):
            keep(results)
    if results is None:
        raise RunError("stopped before the first round had ended: there is nothing to keep")
    return results


def _rounds(
    config: Config, folder: pathlib.Path, console: Console, base: Results | None
) -> Iterator[Results]:
    """Yields the results so far after each round."""
    left_out: list[str] = []
    contenders = taking_part(config, left_out)
    with Progress(console) as show:
        show("looking at the machine and the data")
        found = survey(config, folder)
        reasons = {
            name: None if name in found["devices"] else "TensorFlow sees none here"
            for name in DEVICE_NAMES
        }
        device_names = those_here("devices", config.devices, reasons, left_out)
        tasks = measure.tasks_of(contenders, device_names, config.batch_sizes)
        jobs = [work.Job(**job) for job in found["jobs"]]
        run = _empty_run(config, found, tasks[0], left_out)
        for sentence in guard.check(base, Results(jobs, [run]), config) if base else []:
            console.print(sentence, highlight=False, soft_wrap=True)
        rounds = measure.Rounds(folder, jobs, contenders, tasks, config.rounds, config.timeout)
        rounds.choose_cores(config.cores)
        for number in range(1, config.rounds + 1):
            samples = list(rounds.measured(number, show))
            run = dataclasses.replace(run, samples=run.samples + samples)
            yield Results(jobs, [run])


def _empty_run(
    config: Config, found: dict[str, Any], baseline: measure.Task, left_out: list[str]
) -> Run:
    flags = dataclasses.asdict(config)
    # where, not what: nobody else's business
    for place in ("data_dir", "manual_dir", "output", "merge", "against"):
        del flags[place]
    flags["program"] = [str(program) for program in config.program or ()]
    return Run(
        devices=found["devices"],
        environment=found["environment"],
        flags=flags,
        date=datetime.date.today().isoformat(),
        baseline=[baseline.contender, baseline.device],
        left_out=left_out,
        samples=[],
    )


class Progress:
    """Shows what is measured now: on a terminal in a line of its own, elsewhere at the start of each round."""

    def __init__(self, console: Console):
        self.console, self.status, self.round = console, Status("", console=console), ""

    def __enter__(self) -> Callable[..., None]:
        if self.console.is_terminal:
            self.status.start()
        return self.show

    def __exit__(self, *_: object) -> None:
        self.status.stop()

    def show(self, now: str, what: str = "", left: str = "") -> None:
        """Shows the round, what is measured in it, and the time left."""
        if self.console.is_terminal:
            self.status.update(" · ".join(filter(None, [now, what, left])))
        elif now != self.round:
            self.round = now
            self.console.print(" · ".join(filter(None, [now, left])), highlight=False)
