"""Code that the measurements share: timed processes, and records that say where they ran."""

import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from common.errors import RunError
from common.files import PROJECT, write_atomically

RECORDS = PROJECT / "benchmarks/records"


class Run(NamedTuple):
    """A process that has ended.

    seconds: from its start to its end. peak_mib: its peak memory, on Linux. output: its stdout.
    record: the record of train.py.
    """

    seconds: float
    peak_mib: float
    output: str
    record: Any = None


def python(*arguments: str) -> Run:
    """Runs Python in the project's folder; raises RunError if it fails, after its own errors.

    The peak memory includes that of this process before the start of its child, so it is too high
    if this process has used more than the child.
    """
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as process:
        output = process.stdout.read()  # type: ignore[union-attr]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RunError(f"{' '.join(arguments)}: exit code {process.returncode}")
    return Run(time.perf_counter() - started, usage.ru_maxrss / 1024, output)


def train(*arguments: str, program: Sequence[str] = ("train.py",)) -> Run:
    """Runs train.py, or a program that has its flags, and reads its record."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "record.json")
        run = python(*program, *arguments, f"--record={path}")
        return run._replace(record=json.loads(path.read_text()))


def in_rounds(measure: Callable[[], dict[str, float]], rounds: int = 3) -> dict[str, list[float]]:
    """Returns the values that `measure` finds, one for each round, by name."""
    found = [measure() for _ in range(rounds)]
    return {name: [values[name] for values in found] for name in found[0]}


@functools.cache
def environment() -> dict[str, Any]:
    """Returns the environment that train.py records, read before a record changes the commit."""
    return train("--max_steps=1").record["environment"]


def save(name: str, found: Any, busy: float, command: str) -> None:
    """Writes the record `name`, whole or not at all: the results, the command, and the machine and
    its other load."""
    about = {**environment(), "command": command, "other_cores": round(busy, 2)}
    text = json.dumps({"about": about, "found": found}, indent=1)
    write_atomically(RECORDS / f"{name}.json", f"{text}\n".encode())


def load(name: str) -> tuple[dict[str, Any], Any]:
    """Returns the conditions and the results of the record `name`."""
    record = json.loads((RECORDS / f"{name}.json").read_text())
    return record["about"], record["found"]
