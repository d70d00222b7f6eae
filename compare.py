"""Compares the speed of training: this project's modes and other programs, all at the same work.

python compare.py --output=results.json
python compare.py --merge=a.json,b.json --output=merged.json
python compare.py --against=results.json
"""

import dataclasses
import datetime
import os
import pathlib
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from common import children, commandline
from common.commandline import Config
from common.errors import InputError, RunError, exit_with_one_line
from common.files import writable_folder
from comparison import system, work
from comparison.peers import CONTENDERS, Contender
from runtime import devices

try:
    import pyperf
except ModuleNotFoundError:
    sys.exit("error: pyperf is not installed: python -m pip install -r requirements/compare.txt")

from comparison import charts, guard, report
from comparison.measure import Bench, Failed, LeftOut, Task
from comparison.options import arguments, as_in_file, compare_flags

SECONDS_EACH = 2.5  # of a measurement, before any was made


def chosen(config: Config) -> dict[str, Contender]:
    """Returns who is asked for, the baseline first; raises InputError if two have one name."""
    asked = ((CONTENDERS if name == "all" else [name]) for name in config.contenders)
    found = {name: CONTENDERS[name] for names in asked for name in names}
    for program in config.program:
        name, _, command = program.partition(":")
        if name in CONTENDERS:
            raise InputError(f"--program={program}: a contender has that name: choose another")
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise InputError(f"--program={program}: {error}: close it") from None
        found[name] = Contender(name, command=words, cores_from=1, place=None)
    for item in config.python:
        name, _, path = item.partition("=")
        python = shutil.which(path)
        if name not in found or not python:
            raise InputError(f"--python={item}: must be a contender that takes part and a Python")
        found[name] = dataclasses.replace(found[name], python=os.path.abspath(python))
    return found


def missing(contender: Contender) -> str:
    """Returns what must be installed before a contender can take part; "" if nothing must."""
    if contender.tool and not shutil.which(contender.tool):
        return f"{contender.tool} is not found: install it, or name a C compiler with CC"
    if contender.command or contender.package in system.versions(contender.python):
        return ""
    return f"{contender.package} is not installed: pip install -r requirements/compare.txt"


def cores_of(config: Config) -> list[int]:
    """Returns the numbers of cores, none twice; raises InputError if there are not so many."""
    there = devices.cores()
    asked = list(dict.fromkeys(there if cores == "all" else int(cores) for cores in config.cores))
    if max(asked) > there:
        raise InputError(
            f"--cores={max(asked)}: must be at most the {there} cores that this process may use"
        )
    return asked if system.can_pin() else [there]


def tasks_of(
    contenders: Mapping[str, Contender],
    jobs: Sequence[work.Job],
    config: Config,
    cores: Sequence[int],
    device_names: Collection[str],
) -> list[Task]:
    """Returns the measurements of a round, the baseline first, and twice at each batch size."""
    numbers = {"cpu": cores, "gpu": [devices.cores()]}
    tasks: list[Task] = []
    for job in jobs:
        found = [
            Task(
                **vars(job.cut() if one.slow else job),
                contender=name,
                device=device,
                cores=number,
                precision=precision,
            )
            for device in device_names
            for name, one in contenders.items()
            if device in one.devices
            for precision in config.precision
            if device == "gpu" or precision == "float32"
            for number in numbers[device]
            if number == numbers[device][0] or job.batch_size >= one.cores_from
        ]
        again = [dataclasses.replace(task, again=True) for task in found[:1]]
        tasks += [*found[:1], *again, *found[1:]]
    if not tasks:
        raise InputError(
            f"--contenders={','.join(contenders)}: none runs on --devices={','.join(device_names)} "
            f"with --precision={','.join(config.precision)}"
        )
    return tasks


@dataclasses.dataclass
class Comparison:
    """The rounds of a comparison.

    runs: by task what was measured, without who has failed or was left out. about: becomes metadata
    of every run; it says who that was.
    """

    bench: Bench
    runs: dict[Task, list[pyperf.Run]]
    about: dict[str, Any]

    def rounds(self, count: int) -> Iterator[pyperf.BenchmarkSuite]:
        """Yields the results so far after each round; the order in each is drawn."""
        seconds = SECONDS_EACH
        for number in range(count):
            tasks = random.sample(list(self.runs), len(self.runs))
            minutes = (count - number) * len(tasks) * seconds / 60
            say(
                f"round {number + 1} of {count} · {len(tasks)} measurements · {minutes:.1f} min "
                "left"
            )
            began = time.perf_counter()
            for task in tasks:
                if task in self.runs:  # it may have failed on other cores
                    self.measure(task, number + 1)
            seconds = (time.perf_counter() - began) / len(tasks)
            yield self.suite()

    def measure(self, task: Task, number: int) -> None:
        """Adds a run; who fails is left out from here on. Raises RunError if the baseline fails."""
        baseline = next(iter(self.runs))
        try:
            run = self.bench.measure(task)
            if "disturbed" in run.get_metadata():
                run = self.bench.measure(task)  # once more: the GPU may be left alone by now
        except Failed as why:
            if (task.contender, task.device) == (baseline.contender, baseline.device):
                raise RunError(f"the baseline, {task}, failed: {why}") from None
            self.leave_out(task, why)
        else:
            self.runs[task].append(report.with_metadata(run, {"round": number}))

    def leave_out(self, task: Task, why: Failed) -> None:
        """Drops the contender's rows on this device at this batch size, with a line."""
        kind = "left out" if isinstance(why, LeftOut) else "failed"
        name = f"{kind}: {task.contender} on {task.device} at batch {task.batch_size:,}"
        self.about[name] = str(why)
        say(f"{name}: {why}")
        if kind == "failed":
            prefix = f"compare-{task.contender}-"
            with tempfile.NamedTemporaryFile(prefix=prefix, suffix=".log", delete=False) as kept:
                kept.write(self.bench.log.read_bytes())
            say(f"its log: {kept.name}")
        for each in list(self.runs):
            if dataclasses.replace(each, cores=task.cores) == task:
                del self.runs[each]

    def suite(self) -> pyperf.BenchmarkSuite:
        """Returns the results so far; only the runs themselves say what is known of all."""
        found = [
            pyperf.Benchmark([report.with_metadata(run, self.about) for run in runs])
            for runs in self.runs.values()
            if runs
        ]
        return pyperf.BenchmarkSuite(found)


def say(line: str) -> None:
    """Prints a line at once."""
    print(line, flush=True)


def measured(config: Config, base: pyperf.BenchmarkSuite | None) -> Iterator[pyperf.BenchmarkSuite]:
    """Measures, and yields the results so far after each round."""
    contenders = chosen(config)
    lacks = {name: why for name, one in contenders.items() if (why := missing(one))}
    if (first := next(iter(contenders), "")) in lacks:
        raise InputError(f"--contenders={first}: {lacks[first]}")
    contenders = {name: one for name, one in contenders.items() if name not in lacks}
    cores = cores_of(config)
    names = system.check_devices(config.devices, config.device_index)
    facts = system.facts(config.keep_env) | {f"device {name}": names[name] for name in names}
    for name, one in contenders.items():
        if one.python != sys.executable:
            facts[one.package] = f"{system.versions(one.python)[one.package]} ({name})"
    with tempfile.TemporaryDirectory() as place:
        jobs, references = work.prepare(config, pathlib.Path(place))
        tasks = tasks_of(contenders, jobs, config, cores, names)
        if base:
            flag = f"--against={config.against}"
            asked = [task.name for task in tasks]
            for line in guard.check(base, asked, facts, flag, config.ratios):
                say(f"another machine or version: {line}")
        bench = Bench(pathlib.Path(place), contenders, references, config)
        about = facts | {f"left out: {name}": why for name, why in lacks.items()}
        about["date"] = datetime.datetime.now().isoformat(" ", "seconds")
        about["arguments"] = shlex.join(arguments(config))
        yield from Comparison(bench, {task: [] for task in tasks}, about).rounds(config.rounds)


def check_output(output: str | None) -> None:
    """Raises InputError unless --output and what is put beside it are new and can be written."""
    if output is None:
        return
    path = pathlib.Path(output)
    for file in (path, path.with_suffix(".md"), *charts.files(path.with_suffix(""))):
        if file.exists():
            raise InputError(
                f"--output={output}: {file} is there already and is never overwritten: choose "
                "another name"
            )
    writable_folder("output", path.parent)


def show(suite: pyperf.BenchmarkSuite, output: str | None) -> int:
    """Shows the tables; with --output writes the file, the charts, and the Markdown that shows
    both. Returns 1 if a contender failed or did other work."""
    report.show(suite, Console())
    if output:
        path = pathlib.Path(output)
        page = path.with_suffix(".md")
        report.save(suite, path)
        drawn: list[pathlib.Path] = []
        try:
            drawn = charts.draw(suite, path.with_suffix(""))
        except InputError as error:
            say(f"no charts: {error}")
        report.write(page, report.markdown(suite, chart=path.stem if drawn else ""))
        say(f"written: {', '.join(map(str, (path, page, *drawn)))}")
    keys = [key for benchmark in suite for key in benchmark.get_metadata()]
    return int(any(key.startswith("failed: ") for key in keys))


def run(config: Config) -> int:
    """Measures, shows, writes; returns 130 after Ctrl-C, 1 if one failed, 3 if one is slower."""
    base = report.load(pathlib.Path(config.against)) if config.against else None
    config = as_in_file(config, base) if base else config
    suite, stopped = None, False
    try:
        for suite in measured(config, base):
            if config.output:
                if suite.get_benchmarks()[0].get_nrun() == 1:
                    check_output(config.output)  # again: the file may have appeared since
                report.save(suite, pathlib.Path(config.output))
    except KeyboardInterrupt:
        stopped = True
    if suite is None:
        raise RunError("stopped before the first round had ended: there is nothing to keep")
    failed = show(suite, config.output)
    verdicts = guard.verdicts(base, suite, config.max_slowdown, config.ratios) if base else []
    for verdict in verdicts:
        say(verdict.line)
    slower = any(verdict.slower for verdict in verdicts)
    return 130 if stopped else failed or 3 * slower


def main() -> int:
    """Does what the flags ask for; returns the exit code."""
    config = commandline.parse(compare_flags(), sys.argv, __doc__)
    children.end_on_signals()
    if config.merge and config.against:
        raise InputError("--merge and --against: each asks for something else: give one of them")
    check_output(config.output)
    if not config.merge:
        return run(config)
    files = [pathlib.Path(file).expanduser() for file in config.merge]
    return show(report.merge(files), config.output)


if __name__ == "__main__":
    exit_with_one_line(main)
