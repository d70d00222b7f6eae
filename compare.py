"""Compares the training speed of this project's modes and of other programs, on the same work.

python compare.py --output=results.json
python compare.py --merge=a.json,b.json --output=merged.json
python compare.py --against=results.json
"""

import dataclasses
import os
import pathlib
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import rich
from rich.markdown import Markdown

sys.path.insert(0, os.path.dirname(__file__))  # python -P does not add it

from common import commandline
from common.commandline import Config
from common.errors import InputError, RunError, exit_with_one_line
from common.files import check_writable, write_atomically
from comparison import system, work
from comparison.peers import CONTENDERS, Contender
from comparison.worker import Task
from runtime import devices, signals
from storage.dataset import Dataset

try:
    import matplotlib  # noqa: F401 - draws the charts
    import pyperf
    import scipy  # noqa: F401 - the reference and the test of --against import parts of it
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is not installed: python -m pip install -r requirements/compare.txt"
    )

from comparison import charts, guard, report
from comparison.measure import Bench, Failed, LeftOut
from comparison.options import arguments, compare_flags

SECONDS_EACH = 2.5  # of a measurement of the default contenders


def chosen(config: Config) -> dict[str, Contender]:
    """Returns the contenders, the baseline first; raises InputError if two have one name."""
    found: dict[str, Contender] = {}
    for name in config.contenders:
        found |= CONTENDERS if name == "all" else {name: CONTENDERS[name]}
    for program in config.program:
        name, _, command = program.partition(":")
        if name in CONTENDERS | found:
            raise InputError(f"--program={program}: a contender has that name: choose another")
        found[name] = Contender(name, command=("sh", "-c", f'{command} "$@"', "sh"))
    for item in config.python:
        name, _, path = item.partition("=")
        if name not in found or found[name].command or not os.path.isfile(path):
            raise InputError(
                f"--python={item}: must be a contender in Python that takes part, and a file"
            )
        found[name] = dataclasses.replace(found[name], python=os.path.abspath(path))
    return found


def cores_of(config: Config) -> list[int]:
    """Returns the numbers of cores, the lowest first, at most those this process may use."""
    there = devices.cores()
    asked = {there if cores == "all" else min(int(cores), there) for cores in config.cores}
    return sorted(asked) if system.can_pin() else [there]


def tasks_of(
    contenders: dict[str, Contender], dataset: Dataset, config: Config, device_names: list[str]
) -> list[Task]:
    """Returns the measurements of a round on devices of these names.

    The baseline is first and last at each size. A small batch is measured on the fewest cores only.
    """
    numbers = {"cpu": cores_of(config), "gpu": [devices.cores()]}
    tasks: list[Task] = []
    for size in map(int, config.batch_sizes):
        found = [
            Task(
                **work.job_of(dataset, config, size, one.max_steps),
                contender=name,
                device=device,
                cores=cores,
                precision=precision,
            )
            for device in device_names
            for name, one in contenders.items()
            if device in one.devices
            for precision in config.precision
            if device == "gpu" or precision == "float32"
            for cores in numbers[device]
            if cores == numbers[device][0] or size >= one.cores_from
        ]
        if not found:
            raise InputError(
                "nothing to measure: none of --contenders runs with these --devices and --precision"
            )
        tasks += [*found, dataclasses.replace(found[0], again=1)]
    return tasks


def rounds(
    bench: Bench, tasks: Sequence[Task], about: dict[str, Any], count: int
) -> Iterator[list[report.Row]]:
    """Yields the results so far after each round. The order within a round is random.

    about: the metadata of every run. A line, and `about`, say why a contender has no row.
    """
    runs: dict[Task, list[pyperf.Run]] = {task: [] for task in tasks}
    minutes = count * len(runs) * SECONDS_EACH / 60
    print(f"{count} rounds of {len(runs)} measurements, about {minutes:.1f} min")
    for number in range(1, count + 1):
        print(f"round {number} of {count}")
        for task in random.sample(list(runs), len(runs)):
            try:
                runs[task].append(bench.measure(task, number))
            except Failed as why:
                kind = "left out" if isinstance(why, LeftOut) else "failed"
                about[f"{kind}: {task.name}"] = str(why)
                log = shutil.copy(bench.log, tempfile.mkdtemp())
                print(f"{kind}: {task.name}: {why}; its log: {log}")
                if dataclasses.replace(task, again=1) in tasks:  # only a baseline has this twin
                    raise RunError(f"the baseline has no result: {why}") from None
                del runs[task]
        benchmarks = [pyperf.Benchmark(found) for found in runs.values()]
        for benchmark in benchmarks:
            benchmark.update_metadata(about)  # it stands nowhere else
        yield report.rows_of(benchmarks)


def measured(config: Config, base: Sequence[report.Row]) -> Iterator[list[report.Row]]:
    """Measures, and yields the results so far after each round."""
    contenders = chosen(config)
    device_names = system.choose_devices(config.devices, config.device_index)
    facts = system.facts(config.keep_env, contenders.values())
    with tempfile.TemporaryDirectory() as place:
        dataset = work.load(config)
        tasks = tasks_of(contenders, dataset, config, device_names)
        if base:
            guard.check(base, {task.name for task in tasks}, facts, config)
        references = work.prepare(dataset, tasks, pathlib.Path(place))
        bench = Bench(pathlib.Path(place), contenders, references, config)
        about = facts | {
            "date": time.strftime("%Y-%m-%d %H:%M:%S"),
            "commit": devices.git_commit() or "none",
            "arguments": shlex.join(arguments(config)),
        }
        yield from rounds(bench, tasks, about, config.rounds)


def check_output(path: pathlib.Path) -> None:
    """Raises InputError unless --output and the files beside it are new and can be written."""
    if path.suffix != ".json":
        raise InputError(f"--output={path}: must be a path that ends in .json")
    for file in (path, path.with_suffix(".md"), *charts.files(path)):
        check_writable("output", file, replace=False)


def show(rows: Sequence[report.Row], output: str | None) -> None:
    """Shows the tables; writes charts and Markdown beside --output."""
    rich.print(Markdown(report.markdown(rows, columns=report.ON_A_TERMINAL)))
    if output:
        path = pathlib.Path(output)
        page = report.markdown(rows, chart=path.stem)
        write_atomically(path.with_suffix(".md"), page.encode())
        charts.draw(rows, path)
        print(f"written: {path}, and a page and charts beside it")


def run(config: Config) -> int:
    """Measures or merges, shows, writes.

    Returns 130 after Ctrl-C, 1 after a failure, 3 after a slowdown.
    """
    base = report.load(pathlib.Path(config.against)) if config.against else []
    if base:  # the user's own flags come last; if they make another job, it is refused later
        argv = [sys.argv[0], *shlex.split(base[0].metadata["arguments"]), *sys.argv[1:]]
        config = commandline.parse(compare_flags(), argv, None)
    rows: list[report.Row] = []
    code = 0
    merged = map(pathlib.Path, config.merge)
    results = [report.merge(merged)] if config.merge else measured(config, base)
    try:
        for rows in results:
            if config.output:
                report.save(rows, pathlib.Path(config.output))
    except (KeyboardInterrupt, RunError) as stop:
        if not rows:
            raise
        code = 1 if isinstance(stop, RunError) else 130
    show(rows, config.output)
    verdicts = guard.verdicts(base, rows, config.max_slowdown, config.ratios)
    for line in verdicts:
        print(line)
    failed = any(key.startswith("failed: ") for row in rows for key in row.metadata)
    return code or failed or None in verdicts.values() or 3 * any(verdicts.values())


def main() -> int:
    """Does what the flags ask for; returns the exit code."""
    config = commandline.parse(compare_flags(), sys.argv, __doc__)
    signals.unwind()
    if config.merge and config.against:
        raise InputError("--merge and --against: cannot be combined; give one of them")
    if config.output:
        check_output(pathlib.Path(config.output))
    return run(config)


if __name__ == "__main__":
    exit_with_one_line(main)
