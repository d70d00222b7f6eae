"""The results as tables: on a terminal, and as Markdown."""

import math
import pathlib
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from comparison import stats, summary, sweep
from comparison.results import Results
from comparison.work import Job

SPEED = ("contender", "µs/step [95 %]", "images/s", "× baseline [95 %]", "", "W, b off by")
OUTSIDE = ("contender", "start s", "compile s", "evaluate s", "test images right")


def number(value: float) -> str:
    """Returns a number with three significant digits, thousands apart."""
    if math.isnan(value):
        return ""
    if value == 0 or not math.isfinite(value):
        return str(value)
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def speed_cells(row: summary.Row) -> list[str]:
    """Returns the text of a row, one for each of SPEED; the words stand where a time is missing."""
    off = "" if math.isnan(row.difference) else f"{row.difference:.0e}"
    if not row.time:
        return [row.label, "", "", "", row.words, off]
    ratio = with_interval(row.ratio) if row.ratio else ""
    return [row.label, with_interval(row.time), f"{row.images_per_second:,.0f}", ratio, row.words, off]


def outside_cells(row: summary.Row) -> list[str]:
    """Returns the text of a row, one for each of OUTSIDE: what is not in the time of a step."""
    seconds = [f"{row.seconds[part]:.2f}" if row.seconds else "" for part in ("start", "compile", "evaluate")]
    return [row.label, *seconds, "" if row.num_correct is None else f"{row.num_correct:,}"]


def with_interval(estimate: stats.Estimate) -> str:
    """Returns the median and, of more than one sample, its interval."""
    interval = f" [{number(estimate.low)}, {number(estimate.high)}]" if estimate.n > 1 else ""
    return number(estimate.median) + interval


def job_line(job: Job) -> str:
    """Returns the job in a line."""
    return (
        f"{job.dataset}, batch {job.batch_size:,}, {job.steps:,} steps of SGD, lr {job.lr:g}, {job.loss} loss, "
        f"{job.dtype}, tf32 {'on' if job.tf32 else 'off'}, {job.order}, seed {job.seed}"
    )


def machine_lines(results: Results) -> list[str]:
    """Returns a line for each machine: devices, versions, date, commit, rounds."""
    lines = []
    for index, run in enumerate(results.runs):
        found = run.environment
        packages = ("tensorflow", "numpy", "keras", "torch", "jax")
        versions = ", ".join(f"{name} {found[name]}" for name in packages if name in found)
        where = "; ".join(f"{device}: {name}" for device, name in run.devices.items())
        name = f"Machine {results.machine(index)}: " if results.machine(index) else ""
        lines.append(
            f"{name}{where}; {found['cores']} cores; Python {found['python']}, {versions}; {run.date}; commit "
            f"{(found['git_commit'] or 'none')[:10]}; rounds: {run.rounds}, each measurement in a fresh process"
        )
    return lines


def sweep_columns(results: Results) -> tuple[list[str], list[list[str]]]:
    """Returns header and rows of the sweep: images/s by batch size, and the limit of each device."""
    header = ["images/s", *(f"batch {job.batch_size:,}" for job in results.jobs)]
    body = []
    for (index, contender, device), curve in sweep.curves(results).items():
        body.append(
            [results.label(index, contender, device), *(f"{size / us * 1e6:,.0f}" for size, us in curve.items())]
        )
    for index, run in enumerate(results.runs):
        for device in run.limits:
            limits = [(job.batch_size, sweep.limit_us(run, device, job)) for job in results.jobs]
            body.append([results.label(index, "limit", device), *(f"{size / us * 1e6:,.0f}" for size, us in limits)])
    return header, body


def tables_of(results: Results) -> list[tuple[str, list[str], list[list[str]]]]:
    """Returns title, header and rows of every table."""
    found = []
    for job in results.jobs:
        rows = summary.rows(results, job.batch_size)
        found.append((job_line(job), list(SPEED), [speed_cells(row) for row in rows]))
        found.append(("Outside the time of a step", list(OUTSIDE), [outside_cells(row) for row in rows]))
    if len(results.jobs) > 1:
        found.append(("The batch sweep", *sweep_columns(results)))
    return found


def show(results: Results, console: Console) -> None:
    """Prints the tables and the sentences."""
    for title, header, body in tables_of(results):
        shown = Table(box=None, header_style="bold", pad_edge=False)
        for column, name in enumerate(header):
            shown.add_column(name, justify="right" if column and name else "left")
        for line in body:
            shown.add_row(*line, style="bold green" if "baseline" in line else None)
        console.print(f"[bold]{title}[/bold]", shown, "", sep="\n", highlight=False)
    for line in sentences(results):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def sentences(results: Results) -> list[str]:
    """Returns what stands below the tables: verdicts, notes, machines."""
    verdicts = sweep.verdicts(results) if len(results.jobs) > 1 else []
    return [*verdicts, *summary.notes(results), *machine_lines(results)]


def table(header: Sequence[str], body: list[list[str]]) -> str:
    """Returns a table as Markdown, its numbers to the right."""
    rule = [":--" if not column or not name else "--:" for column, name in enumerate(header)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *body])


def markdown(results: Results, charts: list[str]) -> str:
    """Returns tables, charts (their paths) and sentences as Markdown."""
    parts = [f"**{title}**\n\n{table(header, body)}" for title, header, body in tables_of(results)]
    parts += [f"![{pathlib.Path(chart).stem}]({chart})" for chart in charts]
    parts.append("\n".join(f"- {line}" for line in sentences(results)))
    return "\n\n".join(parts) + "\n"
