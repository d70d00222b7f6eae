"""A comparison from its flags to its results: who takes part, the survey, the rounds, what is kept of them."""

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
from comparison import measure, work
from comparison.contenders import CONTENDERS, DEVICE_NAMES
from comparison.options import Config
from comparison.results import Results, Run, Sample


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


def installed(asked: tuple[str, ...] | None, left_out: list[str]) -> tuple[str, ...]:
    """Returns the contenders whose packages are there."""
    reason = "{} is not installed: python -m pip install -r requirements/peers.txt"
    reasons = {name: None if one.installed() else reason.format(one.package) for name, one in CONTENDERS.items()}
    return those_here("contenders", asked, reasons, left_out)


def survey(config: Config, folder: pathlib.Path) -> dict[str, Any]:
    """Returns what the survey found and leaves the examples in `folder`; if it fails, exits with its code and line."""
    request = {
        "folder": str(folder),
        "dataset": config.dataset,
        "data_dir": _absolute(config.data_dir),
        "manual_dir": _absolute(config.manual_dir),
        "seed": config.seed,
        "devices": config.devices or DEVICE_NAMES,
        "sizes": [(size, work.steps_of(size, config.max_steps)) for size in config.batch_sizes],
    }
    command = [sys.executable, "-m", "comparison.survey", json.dumps(request)]
    if code := subprocess.run(command, cwd=measure.PROJECT).returncode:
        sys.exit(code)
    return json.loads((folder / "survey.json").read_text())


def _absolute(path: str | None) -> str | None:
    return str(pathlib.Path(path).expanduser().absolute()) if path else None


def run(config: Config, console: Console, keep: Callable[[Results], None]) -> Results:
    """Measures all rounds and returns the results, calling `keep` with those so far after each round.

    Ctrl-C ends it with the rounds that are finished; raises RunError if there is none.
    """
    results = None
    with tempfile.TemporaryDirectory() as folder:
        try:
            for results in _rounds(config, pathlib.Path(folder), console):
                keep(results)
        except KeyboardInterrupt:
            if results is None:
                raise RunError("stopped before the first round had ended: there is nothing to keep") from None
    return results


def _rounds(config: Config, folder: pathlib.Path, console: Console) -> Iterator[Results]:
    """Yields the results so far after each round."""
    left_out: list[str] = []
    contenders = installed(config.contenders, left_out)
    with Progress(console) as show:
        show("looking at the machine and the data")
        found = survey(config, folder)
        reasons = {name: None if name in found["devices"] else "TensorFlow sees none here" for name in DEVICE_NAMES}
        device_names = those_here("devices", config.devices, reasons, left_out)
        tasks = measure.tasks_of(contenders, device_names, config.batch_sizes)
        jobs = [_job(config, batch_size, found["data"]) for batch_size in config.batch_sizes]
        run, rounds = _empty_run(config, found, tasks[0], left_out), measure.Rounds(folder, jobs, tasks, config.rounds)
        for number in range(1, config.rounds + 1):
            samples = list(rounds.measured(number, show))
            # Only the sweep speaks of the limit.
            limits = {device: measure.limit(folder, device) for device in device_names if len(jobs) > 1}
            run = _with_round(run, samples, limits)
            yield Results(jobs, [run])


def _job(config: Config, batch_size: int, data: dict[str, Any]) -> work.Job:
    steps, lr = work.steps_of(batch_size, config.max_steps), work.lr_of(batch_size, config.lr)
    return work.Job(dataset=config.dataset, batch_size=batch_size, steps=steps, lr=lr, seed=config.seed, **data)


def _empty_run(config: Config, found: dict[str, Any], baseline: measure.Task, left_out: list[str]) -> Run:
    flags = dataclasses.asdict(config)
    for place in ("data_dir", "manual_dir", "output", "merge"):  # where, not what: nobody else's business
        del flags[place]
    return Run(
        devices=found["devices"],
        environment=found["environment"],
        flags=flags,
        date=datetime.date.today().isoformat(),
        baseline=[baseline.contender, baseline.device],
        left_out=left_out,
        samples=[],
        limits={},
    )


def _with_round(run: Run, samples: list[Sample], limits: dict[str, float]) -> Run:
    rates = {device: [*run.limits.get(device, []), rate] for device, rate in limits.items()}
    return dataclasses.replace(run, samples=run.samples + samples, limits=rates)


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
