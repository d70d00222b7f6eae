"""The result file: every sample and where it was taken, in JSON that `python -m pyperf compare_to` reads too."""

import dataclasses
import json
import pathlib
from typing import Any

from common.errors import InputError, RunError
from common.files import write_atomically
from comparison.work import Job

KEY, FORMAT = "softmax_regression_comparison", 2
PYPERF_VERSION = "1.0"  # of pyperf's own format: https://pyperf.readthedocs.io


@dataclasses.dataclass(frozen=True)
class Sample:
    """One measurement. us_per_step is None if the work was not the same, all from it on if the contender failed.

    cores: those that the process was held to; None where none could be held, or the system lacks affinity.
    gpu: its state right before and right after the steps that were timed, where that could be asked.
    """

    contender: str
    device: str
    batch_size: int
    again: bool
    round: int
    quiet: dict[str, float]
    cores: int | None
    us_per_step: float | None = None
    difference: float | None = None
    num_correct: int | None = None
    seconds: dict[str, float] | None = None
    peak_mib: float | None = None
    gpu: list[dict[str, Any]] | None = None
    failed: str | None = None


@dataclasses.dataclass(frozen=True)
class Run:
    """What one machine gave: its devices by name, its environment, the flags, every sample of the finished rounds.

    `baseline` is [contender, device]; `name` tells the runs of a merged file apart.
    """

    devices: dict[str, str]
    environment: dict[str, Any]
    flags: dict[str, Any]
    date: str
    baseline: list[str]
    left_out: list[str]
    samples: list[Sample]
    name: str = ""

    @property
    def rounds(self) -> int:
        return len({sample.round for sample in self.samples})


@dataclasses.dataclass(frozen=True)
class Results:
    """The jobs, one for each batch size, and the machines that did them."""

    jobs: list[Job]
    runs: list[Run]

    def label(self, index: int, *names: str) -> str:
        """Returns the names with that of the run behind them, if there are several runs."""
        return " ".join([*names, *([f"({self.runs[index].name})"] if len(self.runs) > 1 else [])])


def save(results: Results, path: pathlib.Path) -> None:
    """Writes the results to `path`, whole or not at all; raises RunError if it cannot be written."""
    content = {"format": FORMAT, **dataclasses.asdict(results)}
    whole = {"version": PYPERF_VERSION, "benchmarks": _benchmarks(results), KEY: content}
    try:
        write_atomically(
            path, lambda file: file.write((json.dumps(whole, indent=1) + "\n").encode())
        )
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None


def _benchmarks(results: Results) -> list[dict[str, Any]]:
    """Returns pyperf's view: for each contender its seconds a step, one run a round."""
    benchmarks: dict[str, list[dict[str, Any]]] = {}
    for run in results.runs:
        where = f", {run.name}" if run.name else ""
        for sample in run.samples:
            if sample.us_per_step and not sample.again:
                name = f"{sample.contender} on {sample.device}, batch {sample.batch_size}{where}"
                metadata = {
                    "name": name,
                    "unit": "second",
                    "device_name": run.devices[sample.device],
                }
                one = {"metadata": metadata, "values": [sample.us_per_step / 1e6]}
                benchmarks.setdefault(name, []).append(one)
    return [{"metadata": runs[0]["metadata"], "runs": runs} for runs in benchmarks.values()]


def load(path: pathlib.Path) -> Results:
    """Returns the results in `path`; raises InputError if it is absent, not whole, not ours, or newer."""
    try:
        whole = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; must be a result file of compare.py") from None
    except ValueError as error:
        raise InputError(
            f"{path}: not whole, or not JSON ({error}); must be a result file of compare.py"
        ) from None
    if not isinstance(whole, dict) or not isinstance(whole.get(KEY), dict):
        raise InputError(f"{path}: not a result file of compare.py: it has no {KEY!r}")
    content = whole[KEY]
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path}: has format {content.get('format')!r}, this compare.py reads {FORMAT}: measure again"
        )
    try:
        results = Results(
            [Job(**job) for job in content["jobs"]], [_run(run) for run in content["runs"]]
        )
        if not (results.jobs and results.runs and all(run.samples for run in results.runs)):
            raise ValueError("it has no samples")
        return results
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: damaged: {error}; must be a result file of compare.py") from None


def _run(run: dict[str, Any]) -> Run:
    return Run(**run | {"samples": [Sample(**sample) for sample in run["samples"]]})


def merge(paths: list[pathlib.Path]) -> Results:
    """Returns the runs of all files as one; raises InputError naming what differs if their jobs do."""
    first, *others = loaded = [load(path) for path in paths]
    for path, other in zip(paths[1:], others, strict=True):
        if differing := differences(first.jobs, other.jobs):
            raise InputError(
                f"--merge: {path} did another job than {paths[0]}: {'; '.join(differing)}"
            )
    stems = [path.stem for path in paths]
    runs = []
    for path, one in zip(paths, loaded, strict=True):
        name = path.stem if stems.count(path.stem) == 1 else str(path)
        runs += [
            dataclasses.replace(run, name=f"{name}/{run.name}" if run.name else name)
            for run in one.runs
        ]
    return Results(first.jobs, runs)


def same_machine(run: Run, other: Run) -> bool:
    """Says whether two runs seem to have been made on one machine."""
    keys = ("cpu_model", "cores", "os")
    return run.devices == other.devices and all(
        run.environment.get(k) == other.environment.get(k) for k in keys
    )


def differences(jobs: list[Job], others: list[Job]) -> list[str]:
    """Returns what differs between two lists of jobs, in words."""
    sizes, other_sizes = [job.batch_size for job in jobs], [job.batch_size for job in others]
    if sizes != other_sizes:
        return [f"batch_size {sizes} and {other_sizes}"]
    found = []
    for field in dataclasses.fields(Job):
        for job, other in zip(jobs, others, strict=True):
            values = getattr(job, field.name), getattr(other, field.name)
            if values[0] != values[1]:
                found.append(f"{field.name} {values[0]} and {values[1]} at batch {job.batch_size}")
                break
    return found
