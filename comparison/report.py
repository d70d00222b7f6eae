"""The rows of a results file, as tables on a terminal and in Markdown, and the notes below them.

pyperf writes and reads the file; docs/comparison.md describes its content.
"""

import dataclasses
import io
import pathlib
import statistics
from collections.abc import Collection, Iterable, Sequence

import pyperf

from common import stats
from common.errors import InputError, reason
from common.files import write_atomically
from common.stats import number
from comparison import system
from comparison.worker import LIBRARIES, Task

# The columns besides name, time, ratio, note and rate: keys of the metadata, and heads.
MORE = {
    "relative_error": "W, b off by",
    "start": "start s",
    "compile": "compile s",
    "peak_mib": "peak MiB",
    "joules_per_step": "J/step",
    "gpu_peak_mib": "GPU MiB",
}
ON_A_TERMINAL = 4  # columns of a table, which fit into 80 characters
FACTS = (
    "machine",
    "cpu_model_name",
    "device gpu",
    "cpu_count",
    "quota",
    "governor",
    "python_version",
    *LIBRARIES,
    "date",
    "commit",
    "kept",
)
PICTURE = (  # follows the reader's colour scheme
    '<picture><source media="(prefers-color-scheme: dark)" srcset="{0}-dark.png">'
    '<img alt="The speeds of the tables" src="{0}-light.png"></picture>'
)
NOISY = 1.5  # a row is noisy if its max time is more than this times its min


def save(rows: Iterable["Row"], path: pathlib.Path) -> None:
    """Writes the results to `path`, whole or not at all."""
    text = io.StringIO()
    pyperf.BenchmarkSuite([row.benchmark for row in rows]).dump(text, compact=False)
    write_atomically(path, text.getvalue().encode())


def load(path: pathlib.Path) -> list["Row"]:
    """Returns the results in `path`; raises InputError unless it is a results file of this
    compare.py."""
    try:
        return rows_of(pyperf.BenchmarkSuite.load(str(path)))
    except Exception as error:  # a file of another kind can make pyperf raise anything
        raise InputError(
            f"{path}: {reason(error)}; must be a results file of compare.py; one of an earlier "
            "version must be measured again"
        ) from None


def merge(paths: Iterable[pathlib.Path]) -> list["Row"]:
    """Returns the results of several files as those of one, with the machine in each name.

    The name of a file is that of its machine. Raises InputError if two machines have one name, or
    if their baselines did different jobs.
    """
    jobs: dict[int, str] = {}
    merged: list[pyperf.Benchmark] = []
    for path in paths:
        before = {benchmark.get_metadata()["machine"] for benchmark in merged}
        for row in load(path):
            machine = row.machine or path.stem  # it may have been merged before
            if machine in before:
                raise InputError(f"--merge: machine {machine} is in two files: rename one")
            size, job = row.task.batch_size, row.base.task.job
            if job != jobs.setdefault(size, job):
                raise InputError(f"--merge: {path} did another job: {job}, not {jobs[size]}")
            row.benchmark.update_metadata(
                {"machine": machine, "name": f"{row.task.name}, {machine}"}
            )
            merged.append(row.benchmark)
    return rows_of(merged)


class Row:
    """A benchmark of the file: a contender on a device, cores and precision, at a batch size.

    metadata: common to all runs. times: microseconds per step, round by round. base: the baseline,
    which is the first row of its machine and batch size. rate: images/s.
    """

    def __init__(self, benchmark: pyperf.Benchmark, bases: dict[tuple[str, int], "Row"]) -> None:
        self.benchmark = benchmark
        self.runs = [run.get_metadata() for run in benchmark.get_runs()]
        self.metadata = benchmark.get_metadata()
        self.task = Task(
            **{field.name: self.metadata[field.name] for field in dataclasses.fields(Task)}
        )
        self.machine: str = self.metadata.get("machine", "")
        self.times = [1e6 * value for value in benchmark.get_values()]
        self.time = stats.estimate(self.times)
        self.rate = 1e6 * self.task.batch_size / self.time.median
        self.base = bases.setdefault((self.machine, self.task.batch_size), self)
        self.ratio = stats.estimate(self.ratios_to(self.base))

    @property
    def name(self) -> str:
        """Returns the name of the task, with the machine of merged files."""
        return f"{self.task}, on {self.machine}" if self.machine else str(self.task)

    @property
    def note(self) -> str:
        """Returns the notes of a row: baseline or unsure, cores, steps, noisy, disturbed, busy."""
        task = self.task
        notes = {
            "baseline" if self is self.base else "unsure": not stats.differs(self.ratio),
            f"{task.cores} cores": task.cores > 1 and task.device == "cpu",
            f"{task.steps:,} steps": task.steps != self.base.task.steps,
            "noisy": max(self.times) > NOISY * min(self.times),
            "disturbed": any("disturbed" in run for run in self.runs),
            "busy": self.middle("other_cores") > system.BUSY,
        }
        return ", ".join(note for note, holds in notes.items() if holds)

    def middle(self, key: str) -> float:
        """Returns the median of a figure over the runs; a run without it counts as 0."""
        return statistics.median(run.get(key, 0) for run in self.runs)

    def ratios_to(self, other: "Row") -> list[float]:
        """Returns the ratio of the times in each round, so that a slow round cancels out."""
        return [time / base for time, base in zip(self.times, other.times, strict=True)]


def rows_of(benchmarks: Iterable[pyperf.Benchmark]) -> list[Row]:
    """Returns the row of each benchmark; raises KeyError if metadata is missing."""
    bases: dict[tuple[str, int], Row] = {}
    return [Row(benchmark, bases) for benchmark in benchmarks]


def shown_rows(rows: Iterable[Row]) -> dict[int, list[Row]]:
    """Returns the rows of the table of each batch size, fastest first.

    A contender on several numbers of cores always has the row with the fewest cores. It has another
    row only if the whole interval of the ratio to that row, round by round, is below 1.
    """
    fewest: dict[tuple[str, int], Row] = {}
    shown: dict[int, list[Row]] = {}
    for row in rows:  # a file has the fewest cores first, whose ratio to themselves is 1
        size = row.task.batch_size
        first = fewest.setdefault((row.name, size), row)
        if stats.estimate(row.ratios_to(first)).high <= 1:
            shown.setdefault(size, []).append(row)
    return {size: sorted(shown[size], key=lambda row: row.time.median) for size in sorted(shown)}


def table(rows: Collection[Row]) -> list[Sequence[str]]:
    """Returns the head and a line for each row, without empty columns.

    The head has the coverage of the intervals.
    """
    time = f"µs/step [{min(row.time.coverage for row in rows):.0%}]"
    lines = [["", time, "× baseline", "", "images/s", *MORE.values()]]
    for row in rows:
        figures = row.rate, *map(row.middle, MORE)
        lines.append([row.name, str(row.time), str(row.ratio), row.note, *map(number, figures)])
    columns = [column for column in zip(*lines, strict=True) if any(column[1:])]
    return list(zip(*columns, strict=True))


def curves(shown: dict[int, list[Row]]) -> dict[str, dict[int, float]]:
    """Returns the images/s of each name by batch size, from its fastest row.

    The fastest at the largest size comes first.
    """
    found: dict[str, dict[int, float]] = {}
    for size in reversed(shown):
        for row in shown[size]:
            if not row.task.again:
                found.setdefault(row.name, {}).setdefault(size, row.rate)
    return found


def sizes_table(shown: dict[int, list[Row]]) -> list[Sequence[str]]:
    """Returns the head and a line for each curve: images/s by batch size."""
    lines: list[Sequence[str]] = [["", *(f"batch {size:,}" for size in shown)]]
    for name, rates in curves(shown).items():
        lines.append([name, *(number(rates.get(size, 0)) for size in shown)])
    return lines


def in_markdown(lines: Sequence[Sequence[object]]) -> str:
    """Returns a table as Markdown. Columns after the first that have a head are aligned to the
    right."""
    head, *rows = lines
    rule = [":--", *("--:" if word else ":--" for word in head[1:])]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in [head, rule, *rows])


def markdown(rows: Sequence[Row], chart: str = "", columns: int | None = None) -> str:
    """Returns tables, chart and notes as Markdown.

    chart: the stem of its files. columns: the number of columns in the tables; None for all.
    """
    shown, parts = shown_rows(rows), []
    for at_size in shown.values():
        lines = [line[:columns] for line in table(at_size)]
        parts += [f"**{at_size[0].base.task.job}**", in_markdown(lines)]
    if len(shown) > 1:
        parts += ["**Images a second**", in_markdown(sizes_table(shown))]
    if chart:
        parts.append(PICTURE.format(chart))
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in notes(rows))]) + "\n"


def notes(rows: Iterable[Row]) -> list[str]:
    """Returns the lines below the tables: the contenders without a row, and the machines."""
    lines = []
    for row in rows:
        lines += [
            f"{row.machine} {key}: `{why}`".strip()
            for key, why in row.metadata.items()
            if key.startswith(("failed: ", "left out: "))
        ]
        facts = [f"{key}: {row.metadata[key]}" for key in FACTS if key in row.metadata]
        lines.append("; ".join(facts))
    return list(dict.fromkeys(lines))
