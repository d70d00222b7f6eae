"""What the measurements share: processes that are timed, and records that say where they ran."""

import dataclasses
import functools
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil

from common.errors import InputError, RunError, reason
from common.files import PROJECT

RECORDS = PROJECT / "benchmarks" / "records"
ROUNDS = 3
Samples = dict[str, list[float]]  # by what was measured, one value a round


@dataclasses.dataclass(frozen=True)
class Run:
    """A process that has ended.

    seconds: from its start to its end. peak_mib: the most memory it had, on Linux. output: what it
    printed.
    record: what train.py recorded.
    """

    seconds: float
    peak_mib: float
    output: str
    record: dict[str, Any] = dataclasses.field(default_factory=dict)


def python(*arguments: str, env: Mapping[str, str] | None = None) -> Run:
    """Runs Python in the project's folder; raises RunError if it fails.

    Where this process has had more memory than its child, the child is said to have had as much.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        command, started = [sys.executable, *arguments], time.perf_counter()
        with subprocess.Popen(
            command, stdout=output, stderr=errors, cwd=PROJECT, env=env
        ) as process:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            said = reason(errors.read().decode(errors="replace")[-500:])
            raise RunError(f"{' '.join(arguments)}: exit code {process.returncode}: {said}")
        return Run(seconds, usage.ru_maxrss / 1024, output.read().decode())


def train(*arguments: str, env: Mapping[str, str] | None = None) -> Run:
    """Runs train.py, and reads its record."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "record.json")
        run = python("train.py", *arguments, f"--record={path}", env=env)
        return dataclasses.replace(run, record=json.loads(path.read_text()))


def in_rounds(
    measure: Callable[[], dict[str, float]], rounds: int = ROUNDS
) -> Callable[[], Samples]:
    """Returns what calls `measure` in each round, and keeps what it finds by what was measured."""

    def measure_all() -> Samples:
        samples: Samples = {}
        for _ in range(rounds):
            for name, value in measure().items():
                samples.setdefault(name, []).append(value)
        return samples

    return measure_all


def loopback(count: int) -> list[dict[str, str]]:
    """Returns the environment, TF_CONFIG, of each worker of a cluster here, at free ports."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    cluster = {"worker": [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]}
    for each in sockets:
        each.close()
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in range(count)]
    return [{"TF_CONFIG": json.dumps(task)} for task in tasks]


def median_range(values: Sequence[float]) -> str:
    """Returns the median, the minimum and the maximum of `values`."""
    digits = 0 if min(values) >= 100 else 2
    found = statistics.median(values), min(values), max(values)
    return "{:,.{digits}f} ({:,.{digits}f}-{:,.{digits}f})".format(*found, digits=digits)


def other_cores() -> float:
    """Returns how many cores other processes keep busy, seen for a second."""
    return psutil.cpu_percent(interval=1) / 100 * (os.cpu_count() or 1)


@functools.cache
def environment() -> dict[str, Any]:
    """Returns what train.py records of where it runs: asked once, before a record changes the
    commit."""
    return train("--max_steps=1").record["environment"]


def save(name: str, found: Any, busy: float, command: str) -> None:
    """Writes the record `name`: what was found, how, and machine, versions, commit, quietness."""
    about = {**environment(), "command": command, "other_cores": round(busy, 2)}
    text = json.dumps({"about": about, "found": found}, indent=1)
    (RECORDS / f"{name}.json").write_text(f"{text}\n")


def load(name: str) -> tuple[dict[str, Any], Any]:
    """Returns how the record `name` was made, and what was found.

    Raises InputError if there is none, or it is damaged.
    """
    path = RECORDS / f"{name}.json"
    try:
        record = json.loads(path.read_text())
        return record["about"], record["found"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        cure = f"make it with python -m benchmarks {name}"
        raise InputError(f"{path}: is no record ({reason(error)}); {cure}") from None
