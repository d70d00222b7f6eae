"""What the benchmarks share: real runs of train.py, and tables in the README that a script writes."""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks.pages import PROJECT, rewrite_blocks
from common.errors import RunError


@dataclasses.dataclass(frozen=True)
class Run:
    """The record of a run of train.py, and the peak of its resident memory in MiB."""

    record: dict[str, Any]
    peak_mib: float


def together(*argument_lists: Sequence[str], environments: Sequence[dict[str, str]] = ()) -> Run:
    """Runs train.py at the same time with each list of arguments; returns the first's. Raises RunError if one fails."""
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for i, arguments in enumerate(argument_lists):
            command = [sys.executable, str(PROJECT / "train.py"), *arguments, f"--record={folder}/{i}.json"]
            env = os.environ | (environments[i] if environments else {})
            processes.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL))
        waited = [os.wait4(process.pid, 0) for process in processes]
        for process, (_, status, _) in zip(processes, waited, strict=True):
            process.returncode = os.waitstatus_to_exitcode(status)  # wait4 took it from Popen
            if process.returncode:
                raise RunError(f"{' '.join(process.args)} left with {process.returncode}")
        usage: resource.struct_rusage = waited[0][2]
        return Run(json.loads(pathlib.Path(folder, "0.json").read_text()), usage.ru_maxrss / 1024)


def loopback(count: int) -> list[dict[str, str]]:
    """Returns the environment, TF_CONFIG, of each worker of a cluster on this machine, at free ports."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        cluster = {"worker": [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]}
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in range(count)]
    return [{"TF_CONFIG": json.dumps(task)} for task in tasks]


def where(data_dir: str | None) -> list[str]:
    """Returns the argument of train.py that says where prepared datasets are; none for its own default."""
    return [f"--data_dir={data_dir}"] if data_dir else []


def middle(values: Sequence[float], digits: int = 1) -> str:
    """Returns median, least and most of `values`."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def conditions(run: Run, count: int) -> str:
    """Returns what a table must say below it."""
    found = run.record["environment"]
    return (
        f"Median (least-most) of {count} runs · {found['cores']} cores, {found['cpu_model']} · TensorFlow "
        f"{found['tensorflow']} · {datetime.date.today()} · `python -m {pathlib.Path(sys.argv[0]).parent.name}."
        f"{pathlib.Path(sys.argv[0]).stem} --write`"
    )


def publish(name: str, lines: Sequence[str], pages: Sequence[str] = ()) -> None:
    """Prints a table, and puts it into the block `name` of each page."""
    text = "\n".join(lines)
    print(text)
    for page in pages:
        rewrite_blocks(PROJECT / page, {name: text})
