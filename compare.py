"""Compares the speed of training: this project's modes and other programs, all at the same work.

python compare.py --output=results.json
python compare.py --merge=a.json,b.json --output=merged.json
python compare.py --against=results.json
"""

import dataclasses
import datetime
import math
import os
import pathlib
import random
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import flags
from rich.console import Console

from common import children, commandline
from common.commandline import Config, define_path
from common.errors import InputError, RunError, exit_with_one_line
from common.files import try_writing
from comparison import peers, system, work
from comparison.peers import CONTENDERS, Contender
from runtime import devices

try:
    import pyperf
except ModuleNotFoundError:
    sys.exit("error: pyperf is not installed: python -m pip install -r requirements/compare.txt")

from comparison import charts, guard, report
from comparison.measure import Bench, Failed, LeftOut, Task

SECONDS_EACH = 2.5  # of a measurement, before any was made
SETTINGS = (  # what --against takes from the file
    *("contenders", "program", "python", "devices", "cores", "precision", "batch_sizes"),
    *("max_steps", "lr", "seed", "dataset", "rounds"),
)


def compare_flags() -> flags.FlagValues:
    """Returns the flags of compare.py, not yet read."""
    values = flags.FlagValues()
    define_who(values)
    define_job(values)
    define_results(values)
    return values


def define_who(values: flags.FlagValues) -> None:
    """Defines who is measured, and on what."""
    group: dict[str, Any] = {"flag_values": values, "module_name": "Who and where"}
    text = f"Who takes part; the first is the baseline. {','.join(CONTENDERS)}, or all."
    flags.DEFINE_list("contenders", list(peers.DEFAULT), text, **group)
    flags.DEFINE_list(
        "program", [], "Programs that take part too, NAME:COMMAND: docs/comparison.md.", **group
    )
    flags.DEFINE_list("python", [], "Another Python for a contender, NAME=PATH.", **group)
    flags.DEFINE_list("devices", [], "cpu, gpu. Default: what is there.", **group)
    flags.DEFINE_integer("device_index", 0, "Which GPU.", lower_bound=0, **group)
    flags.DEFINE_list("cores", ["1", "all"], "Cores of a CPU, a row for each number.", **group)
    flags.DEFINE_list("precision", ["float32"], "float32, and on a GPU tf32.", **group)
    flags.DEFINE_list("keep_env", [], "Variables that contenders see; all others go.", **group)
    _each_is(values, "devices", ("cpu", "gpu"))
    _each_is(values, "precision", ("float32", "tf32"))
    _each_is(values, "contenders", (*CONTENDERS, "all"))
    _each(values, "cores", r"[1-9]\d*|all", "must be whole numbers above 0, or all")
    _each(values, "program", r"\w+:.+", "must be NAME:COMMAND, the name of letters, digits and _")
    _each(values, "python", r"\w+=.+", "must be NAME=PATH, the path of a Python")
    _each(values, "keep_env", r"\w+", "must be names of variables")


def define_job(values: flags.FlagValues) -> None:
    """Defines what everybody does."""
    group: dict[str, Any] = {"flag_values": values, "module_name": "Job"}
    flags.DEFINE_integer("rounds", 9, "How often each is measured.", lower_bound=2, **group)
    flags.DEFINE_list("batch_sizes", ["10"], "Examples in the batch of a step.", **group)
    text = f"Steps at most; 0: whole epochs, of {work.MIN_STEPS} steps at least."
    flags.DEFINE_integer("max_steps", 0, text, lower_bound=0, **group)
    flags.DEFINE_float(
        "lr", 0.01, "Learning rate of batches up to 10; larger ones take lr * 10 / batch.", **group
    )
    flags.DEFINE_integer("seed", 0, "Decides the order of the examples.", lower_bound=0, **group)
    flags.DEFINE_string("dataset", "mnist", "An image-classification dataset of tfds.", **group)
    define_path("data_dir", "Prepared datasets; default: tfds's own.", **group)
    define_path("manual_dir", "The dataset's archives; default: archives/DATASET.", **group)
    flags.DEFINE_integer(
        "timeout", 120, "Seconds after which a measurement has failed.", lower_bound=1, **group
    )
    _each(values, "batch_sizes", r"[1-9]\d*", "must be whole numbers above 0")
    _holds(values, "lr", lambda lr: 0 < lr < math.inf, "must be a finite number above 0")


def define_results(values: flags.FlagValues) -> None:
    """Defines what becomes of the results."""
    group: dict[str, Any] = {"flag_values": values, "module_name": "Results"}
    define_path("output", "A new FILE.json; FILE.md and charts are put beside it.", **group)
    flags.DEFINE_list("merge", [], "Show these results files as one; measure nothing.", **group)
    define_path(
        "against", "Measure what this file measured; exit with 3 if one is slower.", **group
    )
    flags.DEFINE_float("max_slowdown", 1.05, "The factor that --against lets pass.", **group)
    flags.DEFINE_boolean(
        "ratios", False, "With --against: compare ratios to the baseline, not times.", **group
    )
    allowed = "must be a finite number of at least 1"
    _holds(values, "max_slowdown", lambda factor: 1 <= factor < math.inf, allowed)


def _holds(values: flags.FlagValues, name: str, test: Callable[[Any], bool], text: str) -> None:
    flags.register_validator(name, test, text, flag_values=values)


def _each(values: flags.FlagValues, name: str, pattern: str, text: str) -> None:
    def is_right(items: Sequence[str]) -> bool:
        return len(set(items)) == len(items) and all(re.fullmatch(pattern, item) for item in items)

    _holds(values, name, is_right, f"{text}, none twice")


def _each_is(values: flags.FlagValues, name: str, allowed: Sequence[str]) -> None:
    _each(values, name, "|".join(allowed), f"must be some of {', '.join(allowed)}")


def chosen(config: Config) -> dict[str, Contender]:
    """Returns who is asked for, the baseline first; raises InputError if two have one name."""
    names = config.contenders
    if "all" in names:
        first = [name for name in names if name != "all"]
        names = [*first, *(name for name in ("xla", *CONTENDERS) if name not in first)]
    found = {name: CONTENDERS[name] for name in dict.fromkeys(names)}
    for program in config.program:
        name, _, command = program.partition(":")
        if name in CONTENDERS:
            raise InputError(f"--program={program}: a contender has that name: choose another")
        words = tuple(shlex.split(command))
        found[name] = Contender(words=name, command=words, place=pathlib.Path.cwd())
    for item in config.python:
        name, _, path = item.partition("=")
        if name not in found or not shutil.which(path):
            raise InputError(f"--python={item}: must be a contender that takes part and a Python")
        absolute = os.path.abspath(shutil.which(path) or path)
        found[name] = dataclasses.replace(found[name], python=absolute)
    return found


def present(contenders: dict[str, Contender], absent: dict[str, str]) -> dict[str, Contender]:
    """Returns the contenders whose package and tool are there; adds the others to `absent`.

    Raises InputError if the baseline is not there.
    """
    install = "python -m pip install -r requirements/compare.txt"
    for name, one in contenders.items():
        if one.lacks_tool():
            absent[f"left out: {name}"] = f"{one.tool} is not found: install it, or set CC"
        elif not one.command and not system.version(one.python, one.package):
            absent[f"left out: {name}"] = f"{one.package} is not installed: {install}"
    found = {name: c for name, c in contenders.items() if f"left out: {name}" not in absent}
    first = next(iter(contenders))
    if first not in found:
        raise InputError(f"--contenders={first}: {absent[f'left out: {first}']}")
    return found


def cores_of(config: Config) -> list[int]:
    """Returns the numbers of cores, none twice; raises InputError if there are not so many."""
    there = devices.cores()
    asked = list(dict.fromkeys(there if c == "all" else int(c) for c in config.cores))
    if max(asked) > there:
        raise InputError(
            f"--cores={max(asked)}: must be at most the {there} cores that this process may use"
        )
    return asked if system.can_pin() else [there]


def tasks_of(
    contenders: dict[str, Contender], config: Config, device_names: Sequence[str]
) -> list[Task]:
    """Returns the measurements of a round; the baseline is there twice at each batch size."""
    tasks = []
    cores, everything = cores_of(config), devices.cores()
    for size in map(int, config.batch_sizes):
        found = [
            Task(name, device, size, number, precision)
            for device in device_names
            for name, one in contenders.items()
            if device in one.devices
            for precision in config.precision
            if device == "gpu" or precision == "float32"
            for number in (cores if device == "cpu" else [everything])
            if one.many_threads or number == cores[0] or device == "gpu"
        ]
        if found:
            tasks += [found[0], dataclasses.replace(found[0], again=True), *found[1:]]
    if not tasks:
        raise InputError(
            f"--contenders={','.join(contenders)}: none runs on --devices={','.join(device_names)} "
            f"with --precision={','.join(config.precision)}"
        )
    return tasks


class Comparison:
    """The rounds of a comparison: what was measured, who failed or was left out."""

    def __init__(
        self,
        bench: Bench,
        tasks: Sequence[Task],
        common: dict[str, Any],
        absent: dict[str, str],
        say: Callable[[str], None],
    ) -> None:
        self.bench, self.tasks, self.common, self.absent = bench, list(tasks), common, absent
        self.runs: dict[Task, list[pyperf.Run]] = {task: [] for task in tasks}
        self.say, self.seconds = say, SECONDS_EACH

    def rounds(self, count: int) -> Iterator[pyperf.BenchmarkSuite]:
        """Yields the results so far after each round; the order in each is drawn."""
        for number in range(1, count + 1):
            left = (count - number + 1) * len(self.tasks) * self.seconds
            self.say(
                f"round {number} of {count} · {len(self.tasks)} measurements · "
                f"{duration(left)} left"
            )
            began, planned = time.perf_counter(), len(self.tasks)
            for task in random.sample(self.tasks, planned):
                if task in self.tasks:  # it may have failed on other cores
                    self.measure(task, number)
            self.seconds = (time.perf_counter() - began) / planned
            yield self.suite()

    def measure(self, task: Task, number: int) -> None:
        """Adds a run; who fails is left out from here on. Raises RunError if the baseline fails."""
        try:
            run = self.bench.measure(task)
            if run.get_metadata().get("disturbed"):
                run = self.bench.measure(task)  # once more: the GPU may be left alone by now
        except Failed as why:
            if task.contender == self.tasks[0].contender and task.device == self.tasks[0].device:
                raise RunError(f"the baseline, {task}, failed: {why}") from None
            self.leave_out(task, why)
            return
        device = {"round": number, "device_name": self.common[f"device {task.device}"]}
        self.runs[task].append(report.with_metadata(run, self.common | device))

    def leave_out(self, task: Task, why: Failed) -> None:
        """Drops the contender's rows on this device at this batch size, with a line."""
        kind = "left out" if isinstance(why, LeftOut) else "failed"
        at = f" at batch {task.batch_size:,}" if len(self.bench.jobs) > 1 else ""
        name = f"{task.contender} on {task.device}{at}"
        self.absent[f"{kind}: {name}"] = str(why)
        self.say(f"{kind}: {name}: {why}")
        if kind == "failed":
            self.say(f"its log: {self.keep_log(task)}")
        self.tasks = [t for t in self.tasks if not _alike(t, task)]
        self.runs = {t: runs for t, runs in self.runs.items() if not _alike(t, task)}

    def keep_log(self, task: Task) -> str:
        """Returns the path of a copy of what a failed contender wrote to stderr."""
        descriptor, path = tempfile.mkstemp(prefix=f"compare-{task.contender}-", suffix=".log")
        os.close(descriptor)
        shutil.copyfile(self.bench.log, path)
        return path

    def suite(self) -> pyperf.BenchmarkSuite:
        """Returns the results so far, each run with who is absent: that stands nowhere else."""
        told = (
            [report.with_metadata(run, self.absent) for run in runs]
            for runs in self.runs.values()
            if runs
        )
        return pyperf.BenchmarkSuite([pyperf.Benchmark(runs) for runs in told])


def _alike(task: Task, other: Task) -> bool:
    ours, theirs = (
        (each.contender, each.device, each.batch_size, each.precision) for each in (task, other)
    )
    return ours == theirs


def duration(seconds: float) -> str:
    """Returns a time to wait as people say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def changed(config: Config) -> dict[str, Any]:
    """Returns the flags that decide what is measured and are not at their defaults."""
    defaults = vars(commandline.parse(compare_flags(), ["compare.py"], None))
    values = {name: getattr(config, name) for name in SETTINGS}
    return {name: value for name, value in values.items() if value != defaults[name]}


def arguments(config: Config) -> str:
    """Returns these flags as a shell has them."""
    return shlex.join(
        f"--{name}={','.join(value) if isinstance(value, list) else value}"
        for name, value in changed(config).items()
    )


def with_settings_of(config: Config, base: pyperf.BenchmarkSuite) -> Config:
    """Returns the config with the settings of the file of --against; raises InputError at
    others."""
    flag = f"--against={config.against}"
    for name in changed(config):
        raise InputError(f"--{name}: {flag} measures what that file measured: leave the flag out")
    argv = ["compare.py", *guard.arguments_of(base, flag)]
    found = commandline.parse(compare_flags(), argv, None)
    return config.replace(**{name: getattr(found, name) for name in SETTINGS})


def absolute(path: str | None) -> str | None:
    """Returns a path of the user's as one that holds in every folder."""
    return str(pathlib.Path(path).expanduser().absolute()) if path else None


def measured(
    config: Config, console: Console, base: pyperf.BenchmarkSuite | None
) -> Iterator[pyperf.BenchmarkSuite]:
    """Measures, and yields the results so far after each round."""

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    absent: dict[str, str] = {}
    contenders = present(chosen(config), absent)
    names = system.check_devices(config.devices, config.device_index)
    tasks = tasks_of(contenders, config, list(names))
    facts = system.facts(config.keep_env)
    for name, one in contenders.items():  # the version of one with a Python of its own
        if one.python != sys.executable:
            facts[one.package] = f"{system.version(one.python, one.package)} ({name})"
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        request = work.Request(
            dataset=config.dataset,
            data_dir=absolute(config.data_dir or os.environ.get("TFDS_DATA_DIR")),
            manual_dir=absolute(config.manual_dir),
            batch_sizes=[int(size) for size in config.batch_sizes],
            max_steps=config.max_steps,
            lr=config.lr,
            seed=config.seed,
            precisions=list(config.precision),
        )
        say(
            f"{len(tasks)} measurements in each of {config.rounds} rounds: some "
            f"{duration(len(tasks) * config.rounds * SECONDS_EACH)}"
        )
        jobs = work.prepare(request, folder, system.environment("cpu", 0, folder, config.keep_env))
        bench = Bench(
            folder,
            contenders,
            jobs,
            config.timeout,
            device_index=config.device_index,
            keep=config.keep_env,
        )
        if base:
            flag, asked = f"--against={config.against}", [bench.name(task) for task in tasks]
            for line in guard.check(base, asked, facts, flag, config.ratios):
                say(f"another machine or version: {line}")
        common = facts | {
            "date": datetime.datetime.now().isoformat(" ", "seconds"),
            "arguments": arguments(config),
            **{f"device {name}": model for name, model in names.items()},
        }
        yield from Comparison(bench, tasks, common, absent, say).rounds(config.rounds)


def check_output(config: Config) -> None:
    """Raises InputError unless --output, and what is put beside it, can be written and is not
    there."""
    if config.output is None:
        return
    path, flag_text = pathlib.Path(config.output), f"--output={config.output}"
    if path.suffix != ".json":
        raise InputError(f"{flag_text}: must end in .json")
    for file in (path, path.with_suffix(".md"), *charts.files(path.with_suffix(""))):
        if file.exists():
            raise InputError(
                f"{flag_text}: {file} is there already and is never overwritten: choose another "
                "name"
            )
    try:
        try_writing(path.parent)
    except OSError as error:
        raise InputError(f"{flag_text}: cannot write to {path.parent}: {error.strerror}") from None


def show(suite: pyperf.BenchmarkSuite, config: Config, console: Console) -> None:
    """Shows the tables; with --output writes the file, the charts, and the Markdown that shows
    both."""
    report.show(suite, console)
    if not config.output:
        return
    path = pathlib.Path(config.output)
    report.save(suite, path)
    drawn: list[pathlib.Path] = []
    try:
        drawn = charts.draw(suite, path.with_suffix(""))
    except InputError as error:
        console.print(f"no charts: {error}", highlight=False, soft_wrap=True)
    text = report.markdown(suite, chart=path.stem if drawn else "")
    report.write(path.with_suffix(".md"), text)
    written = ", ".join(map(str, (path, path.with_suffix(".md"), *drawn)))
    console.print(f"written: {written}", highlight=False, soft_wrap=True)


def run(config: Config, console: Console) -> int:
    """Measures, shows, writes; returns 130 after Ctrl-C, 1 if one failed, 3 if one is slower."""
    base = report.load(pathlib.Path(config.against)) if config.against else None
    config = with_settings_of(config, base) if base else config
    suite, stopped = None, False
    try:
        for suite in measured(config, console, base):
            if config.output:
                if suite.get_benchmarks()[0].get_nrun() == 1:
                    check_output(config)  # again: the file may have appeared since
                report.save(suite, pathlib.Path(config.output))
    except KeyboardInterrupt:
        stopped = True
    if suite is None:
        raise RunError("stopped before the first round had ended: there is nothing to keep")
    show(suite, config, console)
    verdicts = guard.verdicts(base, suite, config.max_slowdown, config.ratios) if base else []
    for verdict in verdicts:
        console.print(verdict.line, highlight=False, markup=False, soft_wrap=True)
    if stopped:
        return 130
    return failed(suite) or (3 if any(verdict.slower for verdict in verdicts) else 0)


def failed(suite: pyperf.BenchmarkSuite) -> int:
    """Returns 1 if a contender failed or did other work."""
    keys = [key for row in report.rows_of(suite) for key in row.metadata]
    return int(any(key.startswith("failed: ") for key in keys))


def main() -> int:
    """Does what the flags ask for; returns the exit code."""
    config = commandline.parse(compare_flags(), sys.argv, __doc__)
    children.end_on_signals()
    if config.merge and config.against:
        raise InputError("--merge and --against: each asks for something else: give one of them")
    check_output(config)
    console = Console(width=None if sys.stdout.isatty() else 80)
    if not config.merge:
        return run(config, console)
    suite = report.merge([pathlib.Path(file).expanduser() for file in config.merge])
    show(suite, config, console)
    return failed(suite)


if __name__ == "__main__":
    exit_with_one_line(main)
