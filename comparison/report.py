"""What a results file says: its rows, as tables on a terminal and in Markdown, and the notes below.

The file is pyperf's, written and read by pyperf itself; docs/comparison.md describes what is in it.
"""

import dataclasses
import functools
import math
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

import pyperf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.errors import InputError, RunError, reason
from common.files import write_atomically
from comparison import stats, system
from comparison.measure import Task
from comparison.work import Job

JOB = tuple(field.name for field in dataclasses.fields(Job))
MACHINE = ("cpu_model_name", "cpu_count", "platform", "python_version", *system.PACKAGES)
# Beside the time of a step: the head of a column, what it shows of the runs' metadata, its scale.
OUTSIDE = (
    ("W, b off by", "relative_error", 1),
    ("start s", "start", 1),
    ("compile s", "compile", 1),
    ("peak MiB", "peak_mib", 1),
    ("mJ/step", "joules_per_step", 1e3),
    ("GPU MiB", "gpu_peak_mib", 1),
)


def save(suite: pyperf.BenchmarkSuite, path: pathlib.Path) -> None:
    """Writes the results to `path`, whole or not at all; raises RunError if it cannot be
    written."""

    def write(file: Any) -> None:
        with open(file.fileno(), "w", closefd=False) as text:
            suite.dump(text, compact=False)

    try:
        write_atomically(path, write)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {reason(error)}") from None


def load(path: pathlib.Path) -> pyperf.BenchmarkSuite:
    """Returns the results in `path`; raises InputError unless it is a results file of this
    compare.py."""
    must = "must be a results file of compare.py; one of an earlier version must be measured again"
    try:
        suite = pyperf.BenchmarkSuite.load(str(path))
        wanted = {*JOB, *(field.name for field in dataclasses.fields(Task)), "round"}
        for benchmark in suite:
            for run in benchmark.get_runs():
                if missing := wanted - run.get_metadata().keys():
                    raise ValueError(f"no {', '.join(sorted(missing))}")
        return suite
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: {reason(error)}; {must}") from None


def merge(paths: Sequence[pathlib.Path]) -> pyperf.BenchmarkSuite:
    """Returns the benchmarks of several files as one suite, each named by its machine too.

    Raises InputError naming what differs if their jobs do.
    """
    suites = [load(path) for path in paths]
    stems = [path.stem for path in paths]
    merged = []
    for path, suite in zip(paths, suites, strict=True):
        if differing := job_differences(jobs_of(suites[0]), jobs_of(suite)):
            raise InputError(f"--merge: {path} did another job than {paths[0]}: {differing}")
        name = path.stem if stems.count(path.stem) == 1 else str(path)
        for benchmark in suite:
            metadata = benchmark.get_metadata()
            machine = "/".join(filter(None, [name, metadata.get("machine")]))
            named = {"machine": machine, "name": f"{metadata['name']}, {machine}"}
            merged.append([with_metadata(run, named) for run in benchmark.get_runs()])
    return pyperf.BenchmarkSuite([pyperf.Benchmark(runs) for runs in merged])


def with_metadata(run: pyperf.Run, more: dict[str, Any]) -> pyperf.Run:
    """Returns the run with more metadata."""
    metadata = {
        name: value for name, value in (run.get_metadata() | more).items() if value != ""
    }  # pyperf takes no empty value
    return pyperf.Run(run.values, metadata=metadata, collect_metadata=False)


def jobs_of(suite: pyperf.BenchmarkSuite) -> list[Job]:
    """Returns the job at each batch size; a slow contender's shorter one does not count."""
    found: dict[int, Job] = {}
    for row in rows_of(suite):
        job = Job(**{name: row.metadata[name] for name in JOB})
        before = found.setdefault(job.batch_size, job)
        found[job.batch_size] = max(before, job, key=lambda one: one.steps)
    return [found[size] for size in sorted(found)]


def job_differences(jobs: Sequence[Job], others: Sequence[Job]) -> str:
    """Returns in words what differs between the jobs of two files; "" if nothing does."""
    found = []
    for name in JOB:
        values = [list(dict.fromkeys(getattr(job, name) for job in of)) for of in (jobs, others)]
        if values[0] != values[1]:
            shown = (", ".join(map(str, each)) for each in values)
            found.append(f"{name} {' and '.join(shown)}")
    return "; ".join(found)


@dataclasses.dataclass(frozen=True)
class Row:
    """A benchmark of the file: a contender on a device, cores and precision, at a batch size."""

    benchmark: pyperf.Benchmark

    @functools.cached_property
    def metadata(self) -> dict[str, Any]:
        """Returns what is the same in all runs."""
        return self.benchmark.get_metadata()

    @functools.cached_property
    def task(self) -> Task:
        """Returns what was measured."""
        names = [field.name for field in dataclasses.fields(Task)]
        known = {name: self.metadata[name] for name in names}
        return Task(**known | {"again": bool(known["again"])})

    @property
    def batch_size(self) -> int:
        """Returns the examples in the batch of a step."""
        return self.task.batch_size

    @property
    def machine(self) -> str:
        """Returns the name of the machine in a merged file; "" elsewhere."""
        return self.metadata.get("machine", "")

    @functools.cached_property
    def by_round(self) -> dict[int, float]:
        """Returns seconds a step by round."""
        return {run.get_metadata()["round"]: run.values[0] for run in self.benchmark.get_runs()}

    @functools.cached_property
    def time(self) -> stats.Estimate:
        """Returns seconds a step."""
        return stats.estimate(list(self.by_round.values()))

    def values_of(self, key: str) -> list[float]:
        """Returns what the runs say under a key of their metadata, those that say anything."""
        found = (run.get_metadata().get(key) for run in self.benchmark.get_runs())
        return [value for value in found if value is not None]

    def middle(self, key: str) -> float:
        """Returns the median of what the runs say; nan if none says anything."""
        return statistics.median(self.values_of(key) or [math.nan])

    def ratio_to(self, other: "Row") -> stats.Estimate:
        """Returns how many times as long a step takes: paired by round, unpaired between
        machines."""
        if self.machine != other.machine:
            pair = list(self.by_round.values()), list(other.by_round.values())
            return stats.unpaired_ratio(*pair)
        rounds = sorted(self.by_round.keys() & other.by_round.keys())
        return stats.paired_ratio(
            [self.by_round[n] for n in rounds], [other.by_round[n] for n in rounds]
        )


def rows_of(suite: pyperf.BenchmarkSuite) -> list[Row]:
    """Returns every row of a file."""
    return [Row(benchmark) for benchmark in suite]


def batch_sizes(suite: pyperf.BenchmarkSuite) -> list[int]:
    """Returns the batch sizes in the file, in ascending order."""
    return sorted({row.batch_size for row in rows_of(suite)})


def baseline(suite: pyperf.BenchmarkSuite, batch_size: int) -> Row | None:
    """Returns the row that the ratios are to: the one of the first machine that was measured
    twice."""
    rows = [row for row in rows_of(suite) if row.batch_size == batch_size]
    for twin in rows:
        if twin.task.again:
            once = dataclasses.replace(twin.task, again=False)
            return next((r for r in rows if r.task == once and r.machine == twin.machine), None)
    return None


def shown_rows(suite: pyperf.BenchmarkSuite, batch_size: int) -> list[Row]:
    """Returns the rows of a table, fastest first.

    Of a contender on several numbers of cores it has the smallest, and another one only where it is
    surely faster than that: where the whole interval of their paired ratio lies below 1.
    """
    rows = [row for row in rows_of(suite) if row.batch_size == batch_size]
    found = []
    for row in rows:
        alike = [
            other
            for other in rows
            if other.machine == row.machine
            and dataclasses.replace(other.task, cores=row.task.cores) == row.task
        ]
        fewest = min(alike, key=lambda other: other.task.cores)
        if row == fewest or row.ratio_to(fewest).high < 1:
            found.append(row)
    return sorted(found, key=lambda row: row.time.median)


def label(task: Task, machine: str, suite: pyperf.BenchmarkSuite) -> str:
    """Returns a row's name, with what is not the same in all rows."""
    parts = [f"{task.contender} again" if task.again else task.contender]
    if len({other.task.device for other in rows_of(suite)}) > 1:
        parts.append(task.device)
    if task.device == "cpu" and task.cores > 1:
        parts.append(f"{task.cores} cores")
    if task.precision != "float32":
        parts.append(task.precision)
    return " ".join([*parts, *([f"({machine})"] if machine else [])])


def note(row: Row, base: Row | None) -> str:
    """Returns what stands behind a row: baseline, no sure difference, noise, a shorter job."""
    said = []
    if row == base:
        said.append("baseline")
    elif base and not stats.differs(row.ratio_to(base)):
        said.append("no sure difference")
    if row.time.spread > stats.NOISY:
        said.append(f"noisy: {row.time.spread:.1f}")
    if base and row.metadata["steps"] < base.metadata["steps"]:
        said.append(f"{row.metadata['steps']:,} steps")
    return ", ".join(said)


def number(value: float) -> str:
    """Returns a number with three significant digits, thousands apart; "" for nan."""
    if math.isnan(value):
        return ""
    if abs(value) < 1e-3 or math.isinf(value):
        return f"{value:.1e}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def with_interval(estimate: stats.Estimate, scale: float = 1.0) -> str:
    """Returns a median and, of more than one sample, its interval."""
    ends = f" [{number(scale * estimate.low)}, {number(scale * estimate.high)}]"
    return number(scale * estimate.median) + (ends if estimate.n > 1 else "")


Body = list[list[str]]


def speed_table(suite: pyperf.BenchmarkSuite, batch_size: int) -> tuple[list[str], Body]:
    """Returns header and body: name, microseconds a step, ratio to the baseline, a note."""
    base, body = baseline(suite, batch_size), []
    for row in shown_rows(suite, batch_size):
        ratio = with_interval(row.ratio_to(base)) if base else ""
        name = label(row.task, row.machine, suite)
        body.append([name, with_interval(row.time, 1e6), ratio, note(row, base)])
    return ["contender", "µs/step", "× baseline", ""], body


def outside_table(suite: pyperf.BenchmarkSuite, batch_size: int) -> tuple[list[str], Body]:
    """Returns header and body of what is known beside the time of a step."""
    rows = [row for row in shown_rows(suite, batch_size) if not row.task.again]
    columns = [
        (head, key, scale)
        for head, key, scale in OUTSIDE
        if any(row.values_of(key) for row in rows)
    ]
    body = [
        [
            label(row.task, row.machine, suite),
            number(row.batch_size / row.time.median),
            *(number(scale * row.middle(key)) for _, key, scale in columns),
        ]
        for row in rows
    ]
    return ["contender", "images/s", *(head for head, _, _ in columns)], body


def curves(suite: pyperf.BenchmarkSuite) -> dict[str, dict[int, Row]]:
    """Returns the shown row at each batch size of every contender, device and precision by its
    name.

    The fastest at the largest size comes first; of several numbers of cores the fastest counts.
    """
    found: dict[str, dict[int, Row]] = {}
    for size in batch_sizes(suite):
        for row in shown_rows(suite, size):
            if not row.task.again:
                on_one = dataclasses.replace(row.task, cores=1)
                name = label(on_one, row.machine, suite)
                found.setdefault(name, {}).setdefault(size, row)
    largest = batch_sizes(suite)[-1]

    def last(name: str) -> float:
        return found[name][largest].time.median if largest in found[name] else math.inf

    return {name: found[name] for name in sorted(found, key=last)}


def sizes_table(suite: pyperf.BenchmarkSuite) -> tuple[list[str], Body]:
    """Returns header and body of images a second over the batch size."""
    sizes = batch_sizes(suite)
    body = []
    for name, by_size in curves(suite).items():
        cells = (by_size.get(size) for size in sizes)
        rates = [number(row.batch_size / row.time.median) if row else "" for row in cells]
        body.append([name, *rates])
    return ["images/s", *(f"batch {size:,}" for size in sizes)], body


def tables_of(suite: pyperf.BenchmarkSuite) -> list[tuple[str, list[str], Body]]:
    """Returns title, header and body of the tables, one a batch size, and that of all sizes."""
    found = [(job_line(suite, size), *speed_table(suite, size)) for size in batch_sizes(suite)]
    if len(found) > 1:
        found.append(("The batch sweep", *sizes_table(suite)))
    return found


def job_line(suite: pyperf.BenchmarkSuite, batch_size: int) -> str:
    """Returns the job of a batch size in a line."""
    row = baseline(suite, batch_size) or shown_rows(suite, batch_size)[0]
    job = row.metadata
    return (
        f"{job['dataset']}, batch {batch_size:,}, {job['steps']:,} steps of SGD, "
        f"lr {job['lr']:g}, seed {job['seed']}"
    )


def show(suite: pyperf.BenchmarkSuite, console: Console) -> None:
    """Prints the tables and the notes."""
    for title, header, lines in tables_of(suite):
        shown = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        for column, name in enumerate(header):
            shown.add_column(escape(name), justify="right" if column and name else "left")
        for line in lines:
            style = "bold green" if line[-1].startswith("baseline") else None
            shown.add_row(*map(escape, line), style=style)
        console.print(f"[bold]{escape(title)}[/bold]", shown, "", sep="\n", highlight=False)
    for sentence in notes(suite):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def markdown_table(header: Sequence[str], body: Body) -> str:
    """Returns a table as Markdown, its numbers to the right."""
    rule = [":--" if not column or not name else "--:" for column, name in enumerate(header)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *body])


def _titled(title: str, header: Sequence[str], body: Body) -> str:
    return f"**{title}**\n\n{markdown_table(header, body)}"


def markdown(suite: pyperf.BenchmarkSuite, charts: Sequence[str]) -> str:
    """Returns tables, charts (pairs of paths for a light and a dark page) and notes as Markdown."""
    parts = [_titled(*table) for table in tables_of(suite)]
    for place, size in enumerate(batch_sizes(suite)):
        title = f"Outside the time of a step, batch {size:,}"
        parts.insert(2 * place + 1, _titled(title, *outside_table(suite, size)))
    parts += [picture(chart) for chart in charts]
    parts.append("\n".join(f"- {line}" for line in notes(suite)))
    return "\n\n".join(parts) + "\n"


def picture(light: str) -> str:
    """Returns a chart that follows the reader's colour scheme; its dark twin is beside it."""
    dark = light.replace("-light.", "-dark.")
    name = light.partition("-light.")[0]
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{name}" src="{light}"></picture>'
    )


def notes(suite: pyperf.BenchmarkSuite) -> list[str]:
    """Returns the sentences below the tables: intervals, the baseline beside itself, who is not
    there."""
    said = [interval_line(suite)]
    rows = rows_of(suite)
    for row in rows:
        base = baseline(suite, row.batch_size)
        if base and row.task.again and row.machine == base.machine:
            ratio = with_interval(row.ratio_to(base))
            name = label(base.task, base.machine, suite)
            said.append(f"At batch {row.batch_size:,} {name} took {ratio} times as long as itself.")
    metadata = {key: value for row in rows for key, value in row.metadata.items()}
    for kind in ("failed", "left out"):
        who = [key for key in metadata if key.startswith(f"{kind}: ")]
        said += [f"{key.capitalize()}: {metadata[key]}." for key in who]
    said += [
        line
        for machine in dict.fromkeys(row.machine for row in rows)
        for line in about(suite, machine)
    ]
    return said


def interval_line(suite: pyperf.BenchmarkSuite) -> str:
    """Returns what the brackets are, and what is paired."""
    time = rows_of(suite)[0].time
    if time.n < 2:
        return "One round: there are no intervals."
    said = f"In brackets: {time.kind}, over {time.n} rounds; ratios are paired within a round."
    if any(row.machine != rows_of(suite)[0].machine for row in rows_of(suite)):
        sure = max(0.0, 2 * time.coverage - 1)
        said += (
            " Those of another machine than the first are ratios of medians, unpaired: "
            f"{math.floor(100 * sure):.0f} % at least."
        )
    if time.coverage < stats.SURE:
        said += " Too few rounds to be sure of any difference: 95 % need six."
    return said


def about(suite: pyperf.BenchmarkSuite, machine: str) -> list[str]:
    """Returns what is known of a machine: devices, versions, what was kept, whether it was
    quiet."""
    rows = [row for row in rows_of(suite) if row.machine == machine]
    known = {key: value for row in rows for key, value in row.metadata.items()}
    versions = [f"{name} {known[name]}" for name in system.PACKAGES if name in known]
    devices = dict.fromkeys(str(row.metadata["device_name"]) for row in rows)
    where = [
        f"{'; '.join(devices)}, {known['cpu_count']} cores",
        f"Python {known['python_version']}",
    ]
    where += [", ".join(versions), str(known["date"]), f"commit {known.get('commit', 'none')}"]
    where += [f"{name} {known[name]}" for name in ("quota", "governor") if name in known]
    said = ["; ".join(where) + "."]
    if "kept" in known:
        said.append(f"Kept of the environment: {known['kept']}.")
    busy = [value for row in rows for value in row.values_of("other_cores") if value > system.BUSY]
    stolen = [value for row in rows for value in row.values_of("stolen") if value > system.STOLEN]
    count = sum(len(row.by_round) for row in rows)
    if busy:
        said.append(
            f"Busy machine: in {len(busy)} of {count} measurements others kept up to "
            f"{max(busy):.1f} cores busy. Repeat on a quiet one."
        )
    if stolen:
        said.append(
            f"Throttled machine: in {len(stolen)} of {count} measurements the host or a quota took "
            f"up to {max(stolen):.0%} of the time."
        )
    disturbed = sorted({str(value) for row in rows for value in row.values_of("disturbed")})
    said += [f"Disturbed GPU: {', '.join(disturbed)}."] if disturbed else []
    return [f"{machine}: {line}" for line in said] if machine else said
