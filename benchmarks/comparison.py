"""Puts the runs in docs/comparison into the README and docs/comparison.md: python -m benchmarks.comparison"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from benchmarks.pages import not_measured, rewrite_blocks
from common.errors import exit_with_one_line
from common.files import PROJECT
from comparison import machine, options, stats, summary, sweep, tables
from comparison.results import Results, load

FOLDER = PROJECT / "docs" / "comparison"
PAGES = {
    PROJECT / "README.md": ("peers",),
    PROJECT / "docs" / "comparison.md": ("batch10", "sweep"),
}
SHORT = ("time", "images", "ratio", "verdict", "cores", "limit", "off")


def blocks(folder: pathlib.Path) -> dict[str, str]:
    """Returns what the runs in `folder` say, by block; raises InputError if a file is not a result."""
    found: dict[str, str] = {}
    for name, (of_file, names, flags) in FILES.items():
        there = (path := folder / f"{name}.json").exists()
        missing = not_measured(f"python compare.py {flags} --output=docs/comparison/{name}.json")
        found |= of_file(load(path)) if there else dict.fromkeys(names, missing)
    return found


def of_one(one: Results) -> dict[str, str]:
    """Returns the tables of one batch size."""
    rows = summary.rows(one, one.jobs[0])
    whole = [
        tables.table(*tables.columns_of(rows, kinds, tables.COLUMNS))
        for kinds in (tables.SPEED, tables.OUTSIDE)
    ]
    return {
        "peers": f"{tables.table(*tables.columns_of(rows, tables.SPEED, SHORT))}\n\n{note(one)}",
        "batch10": "\n\n".join(
            [*whole, "![Microseconds a step, as bars](comparison/batch10-bars.png)", note(one)]
        ),
    }


def of_several(several: Results) -> dict[str, str]:
    """Returns the table over the batch sizes, and what it says."""
    parts = [
        tables.table(*tables.sweep_columns(several)),
        "![Images a second over the batch size](comparison/sweep-sweep.png)",
        "\n".join(f"- {verdict}" for verdict in sweep.verdicts(several)),
        note(several),
    ]
    return {"sweep": "\n\n".join(parts)}


SEVERAL = "--contenders=xla,jax_best,numpy_best,c --batch_sizes=1,10,100,1000,10000"
# Each file's tables, the blocks that they fill, and the flags of compare.py that measure it.
FILES: dict[str, tuple[Callable[[Results], dict[str, str]], tuple[str, ...], str]] = {
    "batch10": (of_one, ("peers", "batch10"), "--rounds=7"),
    "sweep": (of_several, ("sweep",), SEVERAL),
}


def note(results: Results) -> str:
    """Returns when, where and how the first machine's run was measured, and how to repeat it."""
    run, job = results.runs[0], results.jobs[0]
    itself = summary.against_itself(run, job.batch_size) if len(results.jobs) == 1 else None
    noise = (
        f" Ratios up to {stats.noise_floor(itself):.2f} either way are noise."
        if itself and itself.n > 1
        else ""
    )
    busy = machine.warnings([sample.quiet for sample in run.samples])
    return (
        f"{tables.job_line(job) if itself else f'{job.dataset}, lr {job.lr:g}, seed {job.seed}'}; {run.rounds} rounds; "
        f"{run.date} on {'; '.join(run.devices.values())}, {run.environment['cores']} cores, TensorFlow "
        f"{run.environment['tensorflow']}, commit {(run.environment['git_commit'] or 'unknown')[:12]}.{noise}"
        f"{' **The machine was not quiet.** ' + ' '.join(busy) if busy else ''}  \nTo repeat it: `{command(run.flags)}`"
    )


def command(flags: dict[str, Any]) -> str:
    """Returns the command that measures with these flags; those at their defaults are left out, all but --rounds."""
    said = []
    for field in dataclasses.fields(options.Config):
        value = flags.get(field.name)
        shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        if value not in (None, []) and (field.name == "rounds" or shown != str(field.default)):
            said.append(f"--{field.name}={shown}")
    return " ".join(["python compare.py", *said, "--output=results.json"])


def main() -> None:
    """Fills the blocks."""
    found = blocks(FOLDER)
    for path, names in PAGES.items():
        rewrite_blocks(path, {name: found[name] for name in names})


if __name__ == "__main__":
    exit_with_one_line(main)
