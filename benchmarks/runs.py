"""What the benchmarks share: their flags, real runs of programs, and tables that a script writes into a page."""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import functools
import json
import multiprocessing
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import psutil

from benchmarks.pages import RECORDS, rewrite_blocks
from common import children, flagging
from common.errors import RunError, exit_with_one_line, reason
from common.files import PROJECT, write_atomically
from common.flagging import COUNT, SWITCH, TEXT, flag

FoundT = TypeVar("FoundT")
MIB = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runs:
    """The flags of what runs train.py."""

    data_dir: str | None = flag(None, TEXT, "Prepared datasets; default: tfds's own.")
    timeout: int = flag(600, COUNT, "Seconds after which a run is given up.")

    @property
    def where(self) -> list[str]:
        """The argument of train.py that says where prepared datasets are; none for its own default."""
        return [f"--data_dir={self.data_dir}"] if self.data_dir else []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Runs):
    """The flags of a benchmark."""

    rounds: int = flag(5, COUNT, "How often each is measured, all in turn.")
    write: bool = flag(False, SWITCH, "Write the table into its page.")


@dataclasses.dataclass(frozen=True)
class Run:
    """A process that has ended: its seconds, the peak of its resident memory in MiB, and what train.py recorded."""

    seconds: float
    peak_mib: float
    record: dict[str, Any] = dataclasses.field(default_factory=dict)


def wait(process: subprocess.Popen) -> float:
    """Waits until a process has ended; returns the peak of its resident memory in MiB.

    The peak of the parent counts as the child's where that is higher: a benchmark must be smaller than what it runs.
    """
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # wait4 took it from Popen
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MIB


def run(config: Runs, *arguments: str, **options: Any) -> Run:
    """Runs Python to its end; raises RunError if it fails or takes too long."""
    command = [sys.executable, *arguments]
    with tempfile.TemporaryFile("w+") as said:
        options = {"cwd": PROJECT, "stdout": subprocess.DEVNULL, "stderr": said} | options
        began = time.perf_counter()
        with children.started(command, config.timeout, **options) as process:
            peak_mib = wait(process)
            seconds = time.perf_counter() - began
        if process.returncode:
            said.seek(0)
            raise RunError(
                f"{' '.join(command)} left with {process.returncode}: {reason(said.read()[-500:])}"
            )
    return Run(seconds, peak_mib)


def train(config: Runs, *arguments: str, **options: Any) -> Run:
    """Runs train.py to its end; raises RunError if it fails or takes too long."""
    with tempfile.TemporaryDirectory() as folder:
        record = pathlib.Path(folder, "record.json")
        found = run(config, "train.py", *config.where, *arguments, f"--record={record}", **options)
        return dataclasses.replace(
            found, record=json.loads(record.read_text()) if record.exists() else {}
        )


def elsewhere(function: Callable[..., FoundT], *arguments: Any) -> FoundT:
    """Returns what a function of a module returns in a new process, so that its memory is not counted here."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def loopback(count: int) -> list[dict[str, str]]:
    """Returns the environment, TF_CONFIG, of each worker of a cluster on this machine, at free ports."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        cluster = {"worker": [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]}
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in range(count)]
    return [{"TF_CONFIG": json.dumps(task)} for task in tasks]


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Holds what is started inside to one core; raises RunError where the system cannot."""
    if not hasattr(psutil.Process, "cpu_affinity"):
        raise RunError("this system cannot hold a process to one core")
    before = psutil.Process().cpu_affinity()
    psutil.Process().cpu_affinity(before[:1])
    try:
        yield
    finally:
        psutil.Process().cpu_affinity(before)


def middle(values: Sequence[float], digits: int | None = None) -> str:
    """Returns median, least and most of `values`."""
    if digits is None:
        digits = 0 if min(values) >= 100 else 2
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


@functools.cache
def environment(config: Runs) -> dict[str, Any]:
    """Returns what train.py records of where it ran: once, before the first page that is written changes the commit."""
    return train(config, "--max_steps=1").record["environment"]


def block(lines: Sequence[str], conditions: str) -> str:
    """Returns the Markdown of a table and of how it was measured."""
    return "\n".join([*lines, "", conditions])


def publish(
    name: str,
    config: Config,
    lines: Sequence[str],
    page: str,
    samples: Any = None,
    command: str | None = None,
) -> None:
    """Prints a table and how it was measured; with --write puts both into the block `name` of a page.

    `samples`, from which the table was made, are then kept as a record, for benchmarks.results; `command` is the
    module and the flags that measure them, if they are not `name` alone.
    """
    found = environment(config)
    conditions = (
        f"Median (least-most) of {config.rounds} rounds · {found['cores']} cores, {found['cpu_model']} · TensorFlow "
        f"{found['tensorflow']} · commit {(found['git_commit'] or 'none')[:12]} · {datetime.date.today()} · "
        f"`python -m benchmarks.{command or name} --rounds={config.rounds} --write`"
    )
    text = block(lines, conditions)
    print(text)
    if config.write and samples is not None:
        record = json.dumps({"samples": samples, "conditions": conditions}, indent=1)
        write_atomically(RECORDS / f"{name}.json", lambda file: file.write(f"{record}\n".encode()))
    if config.write:
        rewrite_blocks(PROJECT / page, {name: text})


def main(
    config_class: type[Runs], measure: Callable[[Any], int | None], summary: str | None
) -> None:
    """Runs a benchmark with the flags of the command line."""

    def measured() -> int | None:
        children.end_on_signals()
        return measure(flagging.parse(config_class, sys.argv, summary))

    exit_with_one_line(measured)
