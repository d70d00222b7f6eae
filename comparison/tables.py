"""The results as tables: on a terminal, and as Markdown."""

import math
import pathlib
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from comparison import stats, summary, sweep
from comparison.results import Results, same_machine
from comparison.work import Job


def number(value: float) -> str:
    """Returns a number with three significant digits, thousands apart."""
    if math.isnan(value):
        return ""
    if value == 0 or not math.isfinite(value):
        return str(value)
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def with_interval(estimate: stats.Estimate) -> str:
    """Returns the median and, of more than one sample, its interval."""
    interval = f" [{number(estimate.low)}, {number(estimate.high)}]" if estimate.n > 1 else ""
    return number(estimate.median) + interval


def _seconds(part: str) -> Callable[[summary.Row], str]:
    return lambda row: f"{row.seconds[part]:.2f}" if part in row.seconds else ""


# The columns behind the contender's name: their head and their cell; {} is the kind of the interval.
SPEED: dict[str, tuple[str, Callable[[summary.Row], str]]] = {
    "time": ("µs/step [{}]", lambda row: with_interval(row.time) if row.time else ""),
    "images": ("images/s", lambda row: f"{row.images_per_second:,.0f}" if row.time else ""),
    "ratio": ("× baseline [{}]", lambda row: with_interval(row.ratio) if row.ratio else ""),
    "verdict": ("", lambda row: row.words),
    "cores": ("cores", lambda row: str(row.cores or "")),
    "off": (
        "W, b off by",
        lambda row: "" if math.isnan(row.difference) else f"{row.difference:.0e}",
    ),
}
OUTSIDE: dict[str, tuple[str, Callable[[summary.Row], str]]] = {
    "start": ("start s", _seconds("start")),
    "compile": ("compile s", _seconds("compile")),
    "evaluate": ("evaluate s", _seconds("evaluate")),
    "first": ("s to first result", lambda row: number(row.first_result)),
    "memory": ("peak MiB", lambda row: f"{row.peak_mib:,.0f}" if row.peak_mib else ""),
    "right": (
        "test images right",
        lambda row: "" if row.num_correct is None else f"{row.num_correct:,}",
    ),
}
COLUMNS = (*SPEED, *OUTSIDE)


def columns_of(
    rows: list[summary.Row], kinds: dict, chosen: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Returns header and body of the chosen ones among the columns `kinds`; no body if none is."""
    wanted = [kinds[name] for name in kinds if name in chosen]
    intervals = " or ".join(dict.fromkeys(row.time.kind for row in rows if row.time))
    header = ["contender", *(head.format(intervals) for head, _ in wanted)]
    return header, [
        [row.label, *(cell(row) for _, cell in wanted)] for row in rows
    ] if wanted else []


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
        packages = ("tensorflow", "numpy", "keras", "scikit-learn", "torch", "jax")
        versions = ", ".join(f"{name} {found[name]}" for name in packages if name in found)
        where = "; ".join(f"{device}: {name}" for device, name in run.devices.items())
        name = f"{run.name}: " if run.name else ""
        twin = next(
            (other.name for other in results.runs[:index] if same_machine(run, other)), None
        )
        again = f"; it seems to be the machine of {twin} once more" if twin else ""
        lines.append(
            f"{name}{where}; {found['cores']} cores; Python {found['python']}, {versions}; {run.date}; commit "
            f"{(found['git_commit'] or 'none')[:10]}; rounds: {run.rounds}, each measurement in a fresh process{again}"
        )
    return lines


def sweep_columns(results: Results) -> tuple[list[str], list[list[str]]]:
    """Returns header and rows of the sweep: images/s by batch size."""
    header = ["images/s", *(f"batch {job.batch_size:,}" for job in results.jobs)]
    body = []
    for (index, contender, device), curve in sweep.curves(results).items():
        body.append(
            [
                results.label(index, contender, device),
                *(f"{size / us * 1e6:,.0f}" for size, us in curve.items()),
            ]
        )
    return header, body


def tables_of(
    results: Results, chosen: Sequence[str]
) -> list[tuple[str, list[str], list[list[str]]]]:
    """Returns title, header and rows of every table, with the chosen columns."""
    found = []
    for job in results.jobs:
        rows = summary.rows(results, job)
        found.append((job_line(job), *columns_of(rows, SPEED, chosen)))
        found.append(("Outside the time of a step", *columns_of(rows, OUTSIDE, chosen)))
    if len(results.jobs) > 1:
        found.append(("The batch sweep", *sweep_columns(results)))
    return [table for table in found if table[2]]


def show(results: Results, console: Console) -> None:
    """Prints the tables and the sentences."""
    for title, header, body in tables_of(results, COLUMNS):
        show_table(console, title, header, body)
    for line in sentences(results):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_table(console: Console, title: str, header: Sequence[str], body: list[list[str]]) -> None:
    """Prints a table, the baseline's row in bold."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for column, name in enumerate(header):
        shown.add_column(escape(name), justify="right" if column and name else "left")
    for line in body:
        is_baseline = any(cell.startswith("baseline") for cell in line)
        shown.add_row(*map(escape, line), style="bold green" if is_baseline else None)
    console.print(f"[bold]{title}[/bold]", shown, "", sep="\n", highlight=False)


def sentences(results: Results) -> list[str]:
    """Returns what stands below the tables: notes, machines."""
    return [*summary.notes(results), *machine_lines(results)]


def table(header: Sequence[str], body: list[list[str]]) -> str:
    """Returns a table as Markdown, its numbers to the right."""
    rule = [":--" if not column or not name else "--:" for column, name in enumerate(header)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *body])


def markdown(results: Results, charts: list[str], chosen: Sequence[str] = COLUMNS) -> str:
    """Returns tables, charts (their paths) and sentences as Markdown."""
    parts = [
        f"**{title}**\n\n{table(header, body)}"
        for title, header, body in tables_of(results, chosen)
    ]
    parts += [f"![{pathlib.Path(chart).stem}]({chart})" for chart in charts]
    parts.append("\n".join(f"- {line}" for line in sentences(results)))
    return "\n\n".join(parts) + "\n"
