"""Writes what the project prints and reaches into its pages, from records: python -m benchmarks.results

With --run it first makes some of the records anew: the main job, its pictures, a prediction, and a sweep over the
learning rate. The others are kept by what measures them, with --write or --output.
"""

import ast
import dataclasses
import json
import pathlib
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import flags
from benchmarks import replicas, runs, speed
from benchmarks.pages import RECORDS, not_measured, rewrite_blocks
from common.errors import InputError
from common.files import PROJECT
from common.flagging import SWITCH, TEXT, flag, integer
from comparison import tables
from comparison.results import load
from sweeps import report
from sweeps.kept import Row

MAIN_JOB = ("--batch_size=10", "--lr=0.01")
FIRST, LAST = 2, 4  # lines of the main job that are shown
RATES = ("--lr=0.0003,0.001,0.003,0.01,0.03,0.1,0.3", "--epochs=1,10")
# columns of what docs/results.md shows of the sweep
SEEDS = ("epochs", "lr", "seeds", "validation", "test")
LESSON = ("epochs", "lr", "validation", "test", "beside the best")  # and docs/training.md
COMPARED = ("batch10", "sweep")  # runs of compare.py in docs/comparison
SHORT = ("time", "images", "ratio", "verdict", "cores", "off")  # columns of the README's
# functions of model.py
CORE = (
    "__init__",
    "__call__",
    "cross_entropy",
    "penalty",
    "loss_and_gradients",
    "update",
    "sgd_step",
)
SEVERAL = integer(2)  # one has no deviation
AGAIN = "To repeat it: `python -m benchmarks.results --run --seeds={seeds}`"
PAGES = {
    "README.md": ("output", "accuracy", "peers", "core"),
    "docs/comparison.md": ("batch10", "sweep"),
    "docs/predict.md": ("predict",),
    "docs/results.md": ("seeds", "stream", "replicas"),
    "docs/training.md": ("flags", "rates"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(runs.Runs):
    """The flags of this script."""

    run: bool = flag(
        False, SWITCH, "Make the records and the pictures anew before writing the figures."
    )
    seeds: int = flag(10, SEVERAL, "With --run: seeds 0, 1, ... of each learning rate, this many.")
    records: str = flag(str(RECORDS), TEXT, "The folder of the records.")


def make_records(config: Config, folder: pathlib.Path) -> None:
    """Makes the records of a run and of the sweep, and puts them into `folder` once all are there.

    Meanwhile no file of the project changes, so that each record names the commit without `-dirty`.
    """

    def said(*arguments: str) -> str:
        with tempfile.TemporaryFile("w+") as stdout:
            runs.run(config, *arguments, stdout=stdout)
            stdout.seek(0)
            return "".join(f"{line.rstrip()}\n" for line in stdout)

    with tempfile.TemporaryDirectory() as place:
        records, pictures, exported = (
            pathlib.Path(place, name) for name in ("records", "figures", "exported")
        )
        records.mkdir()
        (records / "main_job.txt").write_text(said("train.py", *MAIN_JOB, *config.where))
        said(
            "train.py",
            *MAIN_JOB,
            *config.where,
            f"--figures={pictures}",
            f"--export_dir={exported}",
        )
        (records / "predict.txt").write_text(
            said("predict.py", f"--model={exported}", "docs/digit.png")
        )
        sweep = "sweep.py", *RATES, f"--seed=0:{config.seeds}", *config.where
        print(said(*sweep, f"--output={records / 'rates.jsonl'}"))
        # by itself, since the evaluations between steps would fill the record
        said(*sweep, f"--figures={pictures}")
        shutil.copytree(records, folder, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
        shutil.copytree(pictures, PROJECT / "docs" / "figures", dirs_exist_ok=True)


def read_sweep(text: str) -> tuple[dict[str, Any], list[Row]]:
    """Returns the environment and the runs of the sweep over learning rates and seeds."""
    first, *rows = map(json.loads, text.splitlines())
    if not rows:
        raise ValueError("there is no run")
    return first["environment"], rows


def at_default(rows: list[Row]) -> list[Row]:
    """Returns the runs at the default learning rate."""
    return [row for row in rows if row["lr"] == flags.training_config().lr]


def conditions(environment: dict[str, Any], rows: list[Row]) -> str:
    """Returns where and when the runs were made, and how to make them again."""
    return (
        f"{environment['date']} on {environment['device_name']}, {environment['cores']} cores; Python "
        f"{environment['python']}, TensorFlow {environment['tensorflow']}; commit "
        f"{(environment['git_commit'] or 'unknown')[:12]}. {AGAIN.format(seeds=len({row['seed'] for row in rows}))}"
    )


def accuracy(rows: list[Row]) -> str:
    """Returns the test accuracy after each number of epochs, as a sentence."""
    by_epochs: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: row["epochs"]):
        by_epochs.setdefault(row["epochs"], []).append(row["test_accuracy"])
    said = [
        f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f} after {epochs} epoch{'s' * (epochs > 1)}"
        for epochs, values in by_epochs.items()
    ]
    seeds = len(next(iter(by_epochs.values())))
    return f"Test accuracy, mean ± standard deviation over {seeds} seeds: {', '.join(said)}."


def sweep_table(rows: list[Row], heads: Sequence[str]) -> str:
    """Returns these columns of the table that sweep.py prints, as Markdown."""
    columns = [
        column for column in report.table(report.grouped(rows)).columns if column.header in heads
    ]
    return tables.table(
        heads,
        [list(map(str, line)) for line in zip(*(each.cells for each in columns), strict=True)],
    )


def quoted(text: str, first: int = 0, last: int = 0) -> str:
    """Returns a text as a block of a page; of a long one, its first and last lines."""
    lines = text.splitlines()
    if first and len(lines) > first + last:
        lines = [*lines[:first], "...", *lines[-last:]]
    return "\n".join(["```text", *lines, "```"])


def core() -> str:
    """Returns the functions of model.py that a step is made of, as they stand there, without their docstrings."""
    source, found = (PROJECT / "model.py").read_text(), []
    lines = source.splitlines()

    def bare(node: Any) -> str:
        first = node.body[0].lineno - 1
        after = node.body[0].end_lineno if ast.get_docstring(node) else first
        return "\n".join([*lines[node.lineno - 1 : first], *lines[after : node.end_lineno]])

    for node in ast.parse(source).body:
        methods = [
            bare(each) for each in getattr(node, "body", ()) if getattr(each, "name", "") in CORE
        ]
        if methods:
            found.append(f"{lines[node.lineno - 1]}\n" + "\n\n".join(methods))
        elif getattr(node, "name", "") in CORE:
            found.append(bare(node))
    return "\n".join(["```py", "\n\n\n".join(found), "```"])


def flags_table() -> str:
    """Returns the table of train.py's flags: name, default and what it does."""
    rows = ["| flag | default | what it does |", "|---|---|---|"]
    values = flags.train_flags()
    for name in values:
        flag = values[name]
        default = "" if flag.default is None else f"`{str(flag.default).lower()}`"
        choices = getattr(flag.parser, "enum_values", ())
        allowed = f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""
        text = flag.help.partition(">: ")[2] if choices else flag.help
        rows.append(f"| `--{'[no]' * flag.boolean}{name}` | {default} | {text}{allowed} |")
    return "\n".join(rows)


def from_sweep(make: Callable[[list[Row]], str], told: bool = False) -> Callable[[str], str]:
    """Returns what makes a block of the sweep's record; `told` adds where and when it was measured."""

    def made(text: str) -> str:
        environment, rows = read_sweep(text)
        return f"{make(rows)}\n\n{conditions(environment, rows)}" if told else make(rows)

    return made


def from_samples(table: Callable[[Any], list[str]]) -> Callable[[str], str]:
    """Returns what makes a block of a record that `runs.publish` kept."""

    def made(text: str) -> str:
        record = json.loads(text)
        return runs.block(table(record["samples"]), record["conditions"])

    return made


RUN = "python -m benchmarks.results --run"
# The record of each block, what makes the block of its text, and the command that makes the record.
SOURCES: dict[str, tuple[str, Callable[[str], str], str]] = {
    "output": ("main_job.txt", lambda text: quoted(text, FIRST, LAST), RUN),
    "predict": ("predict.txt", quoted, RUN),
    "accuracy": ("rates.jsonl", from_sweep(lambda rows: accuracy(at_default(rows))), RUN),
    "seeds": (
        "rates.jsonl",
        from_sweep(lambda rows: sweep_table(at_default(rows), SEEDS), told=True),
        RUN,
    ),
    "rates": ("rates.jsonl", from_sweep(lambda rows: sweep_table(rows, LESSON), told=True), RUN),
    "replicas": (
        "replicas.json",
        from_samples(replicas.table),
        "python -m benchmarks.replicas --write",
    ),
    "stream": (
        "stream.json",
        from_samples(speed.table),
        "python -m benchmarks.speed --only=stream --write",
    ),
}


def block(folder: pathlib.Path, name: str) -> str:
    """Returns a block as its record in `folder` says; raises InputError if the record is damaged."""
    file, make, command = SOURCES[name]
    try:
        return make((folder / file).read_text())
    except FileNotFoundError:
        return not_measured(command)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise InputError(
            f"--records={folder}: {file} is damaged: {error}; make it anew: {command}"
        ) from None


def compared() -> dict[str, str]:
    """Returns the blocks that show runs of compare.py, as it writes them itself."""
    batch10, sweep = (load(PROJECT / "docs" / "comparison" / f"{name}.json") for name in COMPARED)
    title, header, body = tables.tables_of(batch10, SHORT)[0]
    below = f"{title}; {'; '.join(tables.machine_lines(batch10))}."
    return {
        "peers": f"{tables.table(header, body)}\n\n{below}",
        "batch10": tables.markdown(batch10, ["comparison/batch10-bars.png"]),
        "sweep": tables.markdown(sweep, ["comparison/sweep-sweep.png"], chosen=()),
    }


def blocks(folder: pathlib.Path) -> dict[str, dict[str, str]]:
    """Returns all blocks by page and name: of the records in `folder`, of docs/comparison, and of the source."""
    found = {name: block(folder, name) for name in SOURCES} | compared()
    found |= {"core": core(), "flags": flags_table()}
    return {page: {name: found[name] for name in names} for page, names in PAGES.items()}


def measure(config: Config) -> None:
    """Makes the records if asked to, and writes the blocks that come from them."""
    folder = pathlib.Path(config.records)
    if config.run:
        make_records(config, folder)
    for page, of_page in blocks(folder).items():
        rewrite_blocks(PROJECT / page, of_page)


if __name__ == "__main__":
    runs.main(Config, measure, __doc__)
