"""Compares the speed of training: this project's modes on each device, and other programs, all doing the same work.

python compare.py --output=results.json
python compare.py --merge a.json b.json --output=merged.json
python compare.py --against=results.json
"""

import pathlib
import sys

from rich.console import Console

from common import children, flagging
from common.errors import InputError, exit_with_one_line
from common.files import try_writing, write_atomically
from comparison import campaign, charts, guard, tables
from comparison.options import Config, joined_merge
from comparison.results import Results, merge, save


def check_task(config: Config) -> None:
    """Raises InputError if more than one of the flags that say what to do is given."""
    given = [f"--{name}" for name in ("merge", "against") if getattr(config, name)]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)}: each asks for something else: give one of them")


def check_output(config: Config) -> None:
    """Raises InputError unless --output, and what is put beside it, can be written and is not there yet."""
    if config.output is None:
        return
    path, flag_text = pathlib.Path(config.output), f"--output={config.output}"
    if path.suffix != ".json":
        raise InputError(f"{flag_text}: must end in .json")
    for file in (path, path.with_suffix(".md"), *charts.files(path.with_suffix(""))):
        if file.exists():
            raise InputError(
                f"{flag_text}: {file} is there already and is never overwritten: choose another name"
            )
    try:
        try_writing(path.parent)
    except OSError as error:
        raise InputError(f"{flag_text}: cannot write to {path.parent}: {error.strerror}") from None


def write(results: Results, path: pathlib.Path, console: Console) -> None:
    """Writes the JSON file, the charts if matplotlib is there, and the Markdown file that shows both."""
    save(results, path)
    drawn = []
    try:
        drawn = charts.draw(results, path.with_suffix(""))
    except InputError as error:
        console.print(f"no charts: {error}", highlight=False, soft_wrap=True)
    text = tables.markdown(results, [chart.name for chart in drawn if chart.suffix == ".png"])
    write_atomically(path.with_suffix(".md"), lambda file: file.write(text.encode()))
    console.print(
        f"written: {', '.join(map(str, (path, path.with_suffix('.md'), *drawn)))}", soft_wrap=True
    )


def keep(results: Results, config: Config) -> None:
    """Writes the rounds so far to --output, so that a run that is killed leaves them."""
    if config.output:
        if results.runs[0].rounds == 1:
            check_output(config)  # again: the file may have appeared since
        save(results, pathlib.Path(config.output))


def show(results: Results, config: Config, console: Console) -> None:
    """Shows the tables, and writes them if there is an --output."""
    tables.show(results, console)
    if config.output:
        write(results, pathlib.Path(config.output), console)


def measured(config: Config, console: Console) -> int:
    """Measures, shows, writes; returns 130 after Ctrl-C, 1 if one failed or did other work, 3 if one is slower."""
    base = guard.load(config) if config.against else None
    config = guard.config_of(config, base) if base else config
    results = campaign.run(config, console, lambda so_far: keep(so_far, config), base)
    show(results, config, console)
    verdicts = (
        guard.verdicts(base.runs[0], results.runs[0], config.max_slowdown, config.ratios)
        if base
        else []
    )
    for verdict in verdicts:
        console.print(f"{verdict}", highlight=False, soft_wrap=True)
    if results.runs[0].rounds < config.rounds:
        return 130
    return one_did_not(results) or (3 if any(verdict.slower for verdict in verdicts) else 0)


def one_did_not(results: Results) -> int:
    """Returns 1 if a contender failed or did other work."""
    return int(any(sample.us_per_step is None for run in results.runs for sample in run.samples))


def main() -> int:
    """Does what the flags ask for; returns the exit code."""
    config = flagging.parse(Config, joined_merge(sys.argv), __doc__)
    children.end_on_signals()
    check_task(config)
    check_output(config)
    console = Console(width=None if sys.stdout.isatty() else 160)
    if not config.merge:
        return measured(config, console)
    results = merge([pathlib.Path(file) for file in config.merge])
    show(results, config, console)
    return one_did_not(results)


if __name__ == "__main__":
    exit_with_one_line(main)
