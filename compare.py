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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from absl import flags
from rich.console import Console

from common import children, commandline
from common.commandline import Config, define_path
from common.errors import InputError, RunError, exit_with_one_line
from common.files import try_writing, write_atomically
from comparison import peers, system, work
from comparison.peers import CONTENDERS, Contender
from runtime import devices

try:
    import pyperf
except ModuleNotFoundError:
    sys.exit("error: pyperf is not installed: python -m pip install -r requirements/compare.txt")

from comparison import charts, guard, report
from comparison.measure import Bench, Failed, LeftOut, Task

INSTALL = "python -m pip install -r requirements/compare.txt"
SECONDS_EACH = 2.5  # of a measurement, before any was made
WHAT = (  # the flags that decide what is measured, which --against takes from its file
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
    some = "must be some of"
    _each(values, "contenders", "|".join([*CONTENDERS, "all"]), f"{some} {', '.join(CONTENDERS)}")
    _each(values, "devices", "cpu|gpu", f"{some} cpu, gpu")
    _each(values, "precision", "float32|tf32", f"{some} float32, tf32")
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
    return f"{contender.package} is not installed: {INSTALL}"


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
    """Returns the measurements of a round; the baseline is there twice at each batch size."""
    tasks = []
    numbers = {"cpu": cores, "gpu": [devices.cores()]}
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
        tasks += [*found[:1], *(dataclasses.replace(each, again=True) for each in found[:1])]
        tasks += found[1:]
    if not tasks:
        raise InputError(
            f"--contenders={','.join(contenders)}: none runs on --devices={','.join(device_names)} "
            f"with --precision={','.join(config.precision)}"
        )
    return tasks


@dataclasses.dataclass
class Comparison:
    """The rounds of a comparison.

    runs: by task what was measured, without who has failed or was left out: `about`, which becomes
    metadata of every run, says who. device_names: cpu, gpu, and what they are.
    """

    bench: Bench
    runs: dict[Task, list[pyperf.Run]]
    about: dict[str, Any]
    device_names: Mapping[str, str]

    def rounds(self, count: int) -> Iterator[pyperf.BenchmarkSuite]:
        """Yields the results so far after each round; the order in each is drawn."""
        seconds = SECONDS_EACH
        for number in range(1, count + 1):
            tasks = random.sample(list(self.runs), len(self.runs))
            left = (count - number + 1) * len(tasks) * seconds / 60
            say(f"round {number} of {count} · {len(tasks)} measurements · {left:.1f} min left")
            began = time.perf_counter()
            for task in tasks:
                if task in self.runs:  # it may have failed on other cores
                    self.measure(task, number)
            seconds = (time.perf_counter() - began) / len(tasks)
            yield self.suite()

    def measure(self, task: Task, number: int) -> None:
        """Adds a run; who fails is left out from here on. Raises RunError if the baseline fails."""
        baseline = next(iter(self.runs))
        try:
            run = self.bench.measure(task)
            if run.get_metadata().get("disturbed"):
                run = self.bench.measure(task)  # once more: the GPU may be left alone by now
        except Failed as why:
            if (task.contender, task.device) == (baseline.contender, baseline.device):
                raise RunError(f"the baseline, {task}, failed: {why}") from None
            self.leave_out(task, why)
            return
        more = {"round": number, "device_name": self.device_names[task.device]}
        self.runs[task].append(report.with_metadata(run, more))

    def leave_out(self, task: Task, why: Failed) -> None:
        """Drops the contender's rows on this device at this batch size, with a line."""
        kind = "left out" if isinstance(why, LeftOut) else "failed"
        several = len({each.batch_size for each in self.runs}) > 1
        at = f" at batch {task.batch_size:,}" if several else ""
        name = f"{kind}: {task.contender} on {task.device}{at}"
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
        """Returns the results so far, each run with what is known of all: it stands nowhere
        else."""
        found = [
            [report.with_metadata(run, self.about) for run in runs]
            for runs in self.runs.values()
            if runs
        ]
        return pyperf.BenchmarkSuite(list(map(pyperf.Benchmark, found)))


def say(line: object) -> None:
    """Prints a line at once."""
    print(line, flush=True)


def arguments(config: Config) -> list[str]:
    """Returns the flags that decide what is measured and are not at their defaults, as given."""
    found = []
    for name in WHAT:
        flag = compare_flags()[name]
        flag.value, default = getattr(config, name), flag.value
        if flag.value != default:
            found.append(flag.serialize())
    return found


def as_in_file(config: Config, base: pyperf.BenchmarkSuite) -> Config:
    """Returns the config with the flags that measured the file of --against; raises InputError if
    one was given too."""
    flag = f"--against={config.against}"
    for given in arguments(config):
        name = given.partition("=")[0]
        raise InputError(f"{name}: {flag} measures what that file measured: leave the flag out")
    argv = [*sys.argv, *guard.arguments_of(base, flag, config.ratios)]
    return commandline.parse(compare_flags(), argv, None)


def present(config: Config, about: dict[str, Any]) -> dict[str, Contender]:
    """Returns who can take part; `about` gets who cannot, and the versions of other Pythons.

    Raises InputError if the baseline cannot.
    """
    contenders = chosen(config)
    for name, one in list(contenders.items()):
        if why := missing(one):
            if name == config.contenders[0]:
                raise InputError(f"--contenders={name}: {why}")
            about[f"left out: {name}"] = why
            del contenders[name]
        elif one.python != sys.executable:
            about[one.package] = f"{system.versions(one.python)[one.package]} ({name})"
    return contenders


def measured(config: Config, base: pyperf.BenchmarkSuite | None) -> Iterator[pyperf.BenchmarkSuite]:
    """Measures, and yields the results so far after each round."""
    about: dict[str, Any] = system.facts(config.keep_env)
    contenders = present(config, about)
    names = system.check_devices(config.devices, config.device_index)
    cores = cores_of(config)
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        jobs, references = work.prepare(config, folder)
        tasks = tasks_of(contenders, jobs, config, cores, list(names))
        if base:
            flag = f"--against={config.against}"
            longest = {task.batch_size: task for task in sorted(tasks, key=lambda t: t.steps)}
            for line in guard.check(base, [*longest.values()], about, flag, config.ratios):
                say(line)
        about["date"] = datetime.datetime.now().isoformat(" ", "seconds")
        about["arguments"] = shlex.join(arguments(config))
        by_size = {(job.batch_size, job.steps): found for job, found in references.items()}
        bench = Bench(folder, contenders, by_size, config)
        yield from Comparison(bench, {t: [] for t in tasks}, about, names).rounds(config.rounds)


def check_output(config: Config) -> None:
    """Raises InputError unless --output, and what is put beside it, can be written and is not
    there."""
    if config.output is None:
        return
    path, flag = pathlib.Path(config.output), f"--output={config.output}"
    if path.suffix != ".json":
        raise InputError(f"{flag}: must end in .json")
    for file in (path, path.with_suffix(".md"), *charts.files(path.with_suffix(""))):
        if file.exists():
            raise InputError(
                f"{flag}: {file} is there already and is never overwritten: choose another name"
            )
    try:
        try_writing(path.parent)
    except OSError as error:
        raise InputError(f"{flag}: cannot write to {path.parent}: {error.strerror}") from None


def show(suite: pyperf.BenchmarkSuite, output: str | None) -> None:
    """Shows the tables; with --output writes the file, the charts, and the Markdown that shows
    both."""
    report.show(suite, Console())
    if not output:
        return
    path = pathlib.Path(output)
    page = path.with_suffix(".md")
    report.save(suite, path)
    drawn: list[pathlib.Path] = []
    try:
        drawn = charts.draw(suite, path.with_suffix(""))
    except InputError as error:
        say(f"no charts: {error}")
    text = report.markdown(suite, [chart.name for chart in drawn if "-light." in chart.name])
    try:
        write_atomically(page, lambda file: file.write(text.encode()))
    except OSError as error:
        raise RunError(f"{page}: {error.strerror}") from None
    say(f"written: {', '.join(map(str, (path, page, *drawn)))}")


def run(config: Config) -> int:
    """Measures, shows, writes; returns 130 after Ctrl-C, 1 if one failed, 3 if one is slower."""
    base = report.load(pathlib.Path(config.against)) if config.against else None
    config = as_in_file(config, base) if base else config
    suite, stopped = None, False
    try:
        for suite in measured(config, base):
            if config.output:
                if suite.get_benchmarks()[0].get_nrun() == 1:
                    check_output(config)  # again: the file may have appeared since
                report.save(suite, pathlib.Path(config.output))
    except KeyboardInterrupt:
        stopped = True
    if suite is None:
        raise RunError("stopped before the first round had ended: there is nothing to keep")
    show(suite, config.output)
    verdicts = guard.verdicts(base, suite, config.max_slowdown, config.ratios) if base else []
    for verdict in verdicts:
        say(verdict)
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
    if not config.merge:
        return run(config)
    suite = report.merge(list(dict.fromkeys(map(pathlib.Path, config.merge))))
    show(suite, config.output)
    return failed(suite)


if __name__ == "__main__":
    exit_with_one_line(main)
