"""Writes what the project prints and reaches into its pages, from records: python -m benchmarks.results

With --run it first makes the records anew: the main job, its pictures, a prediction, and 1 and 10 epochs of each seed.
"""

import dataclasses
import json
import pathlib
import shutil
import statistics
import tempfile
from typing import Any

import flags
from benchmarks import runs
from benchmarks.pages import rewrite_blocks
from common.errors import InputError
from common.files import PROJECT
from common.flagging import COUNT, SWITCH, TEXT, flag
from sweeps import report
from sweeps.kept import Row

MAIN_JOB = ("--batch_size=10", "--lr=0.01")
SEEDS, FIRST, LAST = "seeds.jsonl", 3, 4  # lines of the main job that are shown
AGAIN = "To repeat it: `python -m benchmarks.results --run --seeds={seeds}`"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(runs.Runs):
    """The flags of this script."""

    run: bool = flag(False, SWITCH, "Make the records and the pictures anew before writing the figures.")
    seeds: int = flag(10, COUNT, "With --run: seeds 0, 1, ... of 1 and of 10 epochs, this many.")
    records: str = flag(str(PROJECT / "benchmarks" / "records"), TEXT, "The folder of the records.")


def make_records(config: Config, folder: pathlib.Path) -> None:
    """Makes all records, and puts them in place of those in `folder` once all are there.

    Meanwhile no file of the project changes, so that each record names the commit without `-dirty`.
    """

    def said(*arguments: str) -> str:
        with tempfile.TemporaryFile("w+") as stdout:
            runs.run(config, *arguments, stdout=stdout)
            stdout.seek(0)
            return "".join(f"{line.rstrip()}\n" for line in stdout)

    with tempfile.TemporaryDirectory() as place:
        records, pictures, exported = (pathlib.Path(place, name) for name in ("records", "figures", "exported"))
        records.mkdir()
        (records / "main_job.txt").write_text(said("train.py", *MAIN_JOB, *config.where))
        said("train.py", *MAIN_JOB, *config.where, f"--figures={pictures}", f"--export_dir={exported}")
        (records / "predict.txt").write_text(said("predict.py", f"--model={exported}", "docs/digit.png"))
        values = f"--seed=0:{config.seeds}", "--epochs=1,10", f"--output={records / SEEDS}"
        print(said("sweep.py", *values, *config.where))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(records, folder, ignore=shutil.ignore_patterns(".*"))
        shutil.copytree(pictures, PROJECT / "docs" / "figures", dirs_exist_ok=True)


def read_seeds(folder: pathlib.Path) -> tuple[dict[str, Any], list[Row]]:
    """Returns the environment and the runs of the sweep over seeds; raises InputError if they are not there."""
    try:
        first, *rows = map(json.loads, (folder / SEEDS).read_text().splitlines())
        if not rows:
            raise ValueError("there is no run")
        return first["environment"], rows
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--records={folder}: {SEEDS}: {error}; make it with --run") from None


def conditions(environment: dict[str, Any], seeds: int) -> str:
    """Returns where and when the runs were made, and how to make them again."""
    return (
        f"{environment['date']} on {environment['device_name']}, {environment['cores']} cores; Python "
        f"{environment['python']}, TensorFlow {environment['tensorflow']}; commit "
        f"{(environment['git_commit'] or 'unknown')[:12]}. {AGAIN.format(seeds=seeds)}"
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
    return (
        f"Test accuracy, mean ± standard deviation over {len(next(iter(by_epochs.values())))} seeds: {', '.join(said)}."
    )


def seeds_table(rows: list[Row]) -> str:
    """Returns the table that sweep.py prints, as Markdown."""
    return report.markdown(report.grouped(rows), width=200)


def quoted(text: str, first: int = 0, last: int = 0) -> str:
    """Returns a text as a block of a page; of a long one, its first and last lines."""
    lines = text.splitlines()
    if first and len(lines) > first + last:
        lines = [*lines[:first], "...", *lines[-last:]]
    return "\n".join(["```text", *lines, "```"])


def flags_table() -> str:
    """Returns the table of train.py's flags: name, default and what it does."""
    rows = ["| flag | default | what it does |", "|---|---|---|"]
    for field in dataclasses.fields(flags.Config):
        name = f"`--[no]{field.name}`" if field.metadata["parser"] is SWITCH else f"`--{field.name}`"
        default = "" if field.default is None else f"`{str(field.default).lower()}`"
        choices = getattr(field.metadata["parser"], "enum_values", ())
        allowed = f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""
        rows.append(f"| {name} | {default} | {field.metadata['help'].replace('|', chr(92) + '|')}{allowed} |")
    return "\n".join(rows)


def measure(config: Config) -> None:
    """Makes the records if asked to, and writes the blocks that come from them."""
    folder = pathlib.Path(config.records)
    if config.run:
        make_records(config, folder)
    environment, rows = read_seeds(folder)
    where = conditions(environment, len({row["seed"] for row in rows}))
    readme = {
        "output": quoted((folder / "main_job.txt").read_text(), FIRST, LAST),
        "accuracy": accuracy(rows),
    }
    rewrite_blocks(PROJECT / "README.md", readme)
    rewrite_blocks(PROJECT / "docs" / "predict.md", {"predict": quoted((folder / "predict.txt").read_text())})
    rewrite_blocks(PROJECT / "docs" / "results.md", {"seeds": f"{seeds_table(rows)}\n\n{where}"})
    rewrite_blocks(PROJECT / "docs" / "training.md", {"flags": flags_table()})


if __name__ == "__main__":
    runs.main(Config, measure, __doc__)
