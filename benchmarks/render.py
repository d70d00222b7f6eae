"""Renders the records as the blocks of the pages, between <!-- name --> and <!-- /name -->."""

import functools
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.common import load, python
from common.files import PROJECT
from common.stats import estimate, number
from comparison import charts, report

COMPARISONS = PROJECT / "docs/comparison"
RUNGS = {  # rows of the record of the modes, and what calls or compiles `sgd_step` there
    "mode eager, µs/step": "`loss = sgd_step(net, images, labels, config)`",
    "tf.function a batch, µs/step": "`step = tf.function(sgd_step)`",
    "mode graph, µs/step": "`@tf.function`",
    "mode xla, µs/step": "`@tf.function(jit_compile=True)`",
}
ABOUT = (
    "{date} on {device_name}, {cores} cores, of which other processes used {other_cores:.1f}; "
    "Python {python}, TensorFlow {tensorflow}; commit {git_commit:.12}. To repeat it: `{command}`"
)
# in both READMEs, so without words of a language
CHART = "{fastest}. {cpu_model_name}, {date:.10}, commit {commit:.10}"
UNCHANGED = ("c", "numpy_best")  # whose two series show the machine's drift, not that of our code
MODES = "{device_name}, {date}, commit {git_commit:.10}: `{command}`"


def block(heads: Sequence[object], rows: Iterable[Sequence[object]], about: dict[str, Any]) -> str:
    """Returns a table, and when and where its record was made, and what repeats it."""
    return f"{report.in_markdown([heads, *rows])}\n\n{ABOUT.format_map(about)}"


def samples(name: str) -> str:
    """Returns the table of a record that was measured in rounds."""
    about, found = load(name)
    rows = [(what, estimate(values)) for what, values in found.items()]
    rounds = len(next(iter(found.values())))
    heads = ("what", f"median [{rows[0][1].coverage:.0%}] of {rounds} rounds")
    return block(heads, rows, about)


def rungs() -> str:
    """Returns the ways to call the same step, the slowest first, and the speedup of each."""
    about, found = load("modes")
    times = {code: statistics.median(found[name]) for name, code in RUNGS.items()}
    slowest = max(times.values())
    rows = [(code, number(time), f"{slowest / time:,.0f}") for code, time in times.items()]
    table = report.in_markdown([("", "µs/step", "×"), *rows])
    return f"{table}\n\n{MODES.format_map(about)}"


def quoted(text: str) -> str:
    """Returns a text as a block of a page."""
    return f"```text\n{text.rstrip()}\n```"


def printed(command: str) -> str:
    """Returns what a command of the main job printed."""
    return quoted(load("main_job")[1][command])


def flags() -> str:
    """Returns the output of `python train.py --help`."""
    return quoted(python("train.py", "--help").output)


def rates() -> str:
    """Returns the table that sweep.py prints over the learning rate, and the notes below it."""
    about, found = load("rates")
    return f"{found['printed'].rstrip()}\n\n{ABOUT.format_map(about)}"


def compared(name: str) -> str:
    """Returns the page that compare.py wrote of a comparison: its tables, charts and notes."""
    text = (COMPARISONS / f"{name}.md").read_text()
    return re.sub(r"(\]\(|src(?:set)?=\")(?=\w)", r"\1comparison/", text).rstrip()


def fastest(name: str = "batch10") -> list[report.Row]:
    """Returns the contenders of a comparison at batch 10, the fastest first."""
    shown = report.shown_rows(report.load(COMPARISONS / f"{name}.json"))[10]
    return [row for row in shown if not row.task.again]


def chart() -> str:
    """Returns the chart of the comparison at batch 10, with the names of the three fastest."""
    rows = fastest()[:3]
    named = [f"{charts.in_words(row.name)} ({number(row.time.median)} µs)" for row in rows]
    sentence = CHART.format(fastest="; ".join(named), **rows[0].metadata)
    return f"{report.PICTURE.format('docs/comparison/batch10')}\n\n{sentence}"


def drift() -> str:
    """Returns how much two series of the comparison at batch 10, made hours apart, differ."""
    before, now = fastest("batch10_before"), fastest()
    old = {row.name: row.time.median for row in before}
    most = max(abs(row.time.median / old[row.name] - 1) for row in now if row.name in UNCHANGED)
    return (
        f"Two series, started on {before[0].metadata['date']:.16} and on "
        f"{now[0].metadata['date']:.16}, differ by up to {most:.0%} in the medians of "
        f"{' and '.join(UNCHANGED)}, whose code is the same in both."
    )


def batch_sizes() -> str:
    """Returns the last table of the comparison over the batch size, with the text below it."""
    return compared("sweep").rpartition("**Images a second**\n\n")[2]


def noise() -> str:
    """Returns how often the comparison and its guard are wrong."""
    about, found = load("noise")
    rows = [(what, f"{share:.1f}") for what, share in found.items()]
    return block(("of 100 runs of 9 rounds", "found"), rows, about)


def history() -> str:
    """Returns one line for each release."""
    lines = load("history")[1]
    return report.in_markdown([list(lines[-1]), *(list(line.values()) for line in lines)])


def faults(part: str, heads: Sequence[object]) -> str:
    """Returns how often the runs of one part of the fault campaign held."""
    about, found = load("faults")
    rows = [(fault, *counts) for fault, counts in found[part].items()]
    return block(heads, rows, about)


# A block without a line here is the table of the record that has its name.
BLOCKS: dict[str, Callable[[], str]] = {
    "rungs": rungs,
    "output": functools.partial(printed, "train"),
    "predict": functools.partial(printed, "predict"),
    "flags": flags,
    "rates": rates,
    "chart": chart,
    "batch10": functools.partial(compared, "batch10"),
    "drift": drift,
    "sweep": batch_sizes,
    "noise": noise,
    "history": history,
    "kills": functools.partial(faults, "kills", ("killed in", "kills", "restarts that held")),
    "faults": functools.partial(faults, "faults", ("fault", "tried", "held")),
}
PAGES = sorted([*PROJECT.glob("README*.md"), *PROJECT.glob("docs/*.md")])


def rendered(page: str) -> str:
    """Returns the text of a page with its blocks rendered from the records."""

    def renewed(found: re.Match) -> str:
        name = found[1]
        block = BLOCKS.get(name, functools.partial(samples, name))
        return f"{name} -->\n{block()}\n"

    return re.sub(r"(?<=<!-- )(\w+) -->\n.*?(?=<!-- /\1 -->)", renewed, page, flags=re.S)


def write() -> None:
    """Writes the pages."""
    for path in PAGES:
        path.write_text(rendered(path.read_text()))
