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

from comparison import measure, work
from comparison.contenders import CONTENDERS
from comparison.results import Results, Run, Sample
from errors import InputError, RunError

DEVICES = ("cpu", "gpu")


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
    reason = "{} is not installed: python -m pip install -r requirements-peers.txt"
    reasons = {name: None if one.installed() else reason.format(one.package) for name, one in CONTENDERS.items()}
    return those_here("contenders", asked, reasons, left_out)


def survey(config: Any, sizes: dict[int, tuple[int, float]], folder: pathlib.Path) -> dict[str, Any]:
    """Returns what the survey found and leaves the examples in `folder`; if it fails, exits with its code and line."""
    request = {
        "folder": str(folder),
        "dataset": config.dataset,
        "data_dir": _absolute(config.data_dir),
        "manual_dir": _absolute(config.manual_dir),
        "seed": config.seed,
        "devices": config.devices or DEVICES,
        "sizes": [(size, steps) for size, (steps, _) in sizes.items()],
    }
    command = [sys.executable, "-m", "comparison.survey", json.dumps(request)]
    if code := subprocess.run(command, cwd=measure.PROJECT).returncode:
        sys.exit(code)
    return json.loads((folder / "survey.json").read_text())


def _absolute(path: str | None) -> str | None:
    return str(pathlib.Path(path).expanduser().absolute()) if path else None


def run(config: Any, console: Console, keep: Callable[[Results], None]) -> Results:
    """Measures all rounds and returns the results, calling `keep` with those so far after each round.

    Ctrl-C ends it with the rounds that are finished; raises RunError if there is none.
    """
    left_out: list[str] = []
    contenders = installed(config.contenders, left_out)
    sizes = {size: work.steps_and_lr(size, config.max_steps, config.lr) for size in config.batch_sizes}
    with tempfile.TemporaryDirectory() as name:
        results, folder = None, pathlib.Path(name)
        try:
            for results in _rounds(config, contenders, sizes, left_out, folder, console):
                keep(results)
        except KeyboardInterrupt:
            if results is None:
                raise RunError("stopped before the first round had ended: there is nothing to keep") from None
        return results


def _rounds(
    config: Any,
    contenders: tuple[str, ...],
    sizes: dict[int, tuple[int, float]],
    left_out: list[str],
    folder: pathlib.Path,
    console: Console,
) -> Iterator[Results]:
    """Yields the results after each round."""
    with progress(console) as show:
        show("looking at the machine and the data")
        found = survey(config, sizes, folder)
        absent = {name: None if name in found["devices"] else "TensorFlow sees none here" for name in DEVICES}
        device_names = those_here("devices", config.devices, absent, left_out)
        tasks = measure.tasks_of(contenders, device_names, sizes)
        jobs = {size: {"batch_size": size, "steps": steps, "lr": lr} for size, (steps, lr) in sizes.items()}
        whole = Results(
            [_job(config, found["data"], job) for job in jobs.values()], [_run(config, found, tasks, left_out)]
        )
        rounds = measure.Rounds(
            folder, {size: job | {"seed": config.seed} for size, job in jobs.items()}, tasks, config.rounds
        )
        for round_number in range(1, config.rounds + 1):
            samples = list(rounds.measured(round_number, show))
            limits = {device: measure.limit(folder, device) for device in device_names} if len(jobs) > 1 else {}
            whole = _with_round(whole, samples, limits)
            yield whole


def _job(config: Any, data: dict[str, Any], job: dict[str, Any]) -> work.Job:
    return work.Job(dataset=config.dataset, order=f"shuffled with seed {config.seed}", **data, **job)


def _run(config: Any, found: dict[str, Any], tasks: list[measure.Task], left_out: list[str]) -> Run:
    return Run(
        devices=found["devices"],
        environment=found["environment"],
        flags=dataclasses.asdict(config),
        date=datetime.date.today().isoformat(),
        baseline=[tasks[0].contender, tasks[0].device],
        left_out=left_out,
        samples=[],
        limits={},
    )


def _with_round(whole: Results, samples: list[Sample], limits: dict[str, float]) -> Results:
    """Returns the results with a round more."""
    run = whole.runs[0]
    rates = {device: [*run.limits.get(device, []), rate] for device, rate in limits.items()}
    return Results(whole.jobs, [dataclasses.replace(run, samples=run.samples + samples, limits=rates)])


class progress:  # noqa: N801 - used as a context manager, like a function
    """Shows what is measured now: on a terminal in a line of its own, elsewhere at the start of each round."""

    def __init__(self, console: Console):
        self.console, self.status, self.round = console, Status("", console=console), ""

    def __enter__(self) -> Callable[[str], None]:
        if self.console.is_terminal:
            self.status.start()
        return self.show

    def __exit__(self, *_: object) -> None:
        self.status.stop()

    def show(self, text: str) -> None:
        """Shows `text`, whose part before the first colon is the round."""
        if self.console.is_terminal:
            self.status.update(text)
        elif self.round != (now := text.split(":")[0]):
            self.round = now
            self.console.print(f"{now} · {text.rsplit('·', 1)[1].strip()}" if "·" in text else now, highlight=False)
