"""Compares the speed of training: this project's modes on each device, and other frameworks, all doing the same work.

python compare.py --rounds=5 --output=results.json
python compare.py --merge a.json b.json --output=merged.json
"""

import dataclasses
import pathlib
import sys
import tempfile

from absl import flags as absl_flags
from rich.console import Console

import flags
from comparison import campaign, charts, tables, work
from comparison.contenders import CONTENDERS
from comparison.results import Results, merge, save
from errors import InputError, exit_with_one_line
from files import write_atomically
from flags import COUNT, COUNT_OR_0, POSITIVE, TEXT, Choice, Number, flag


class List(absl_flags.ArgumentParser):
    """Parses items with commas between them, each accepted by `item`, none twice, into a tuple."""

    def __init__(self, item: absl_flags.ArgumentParser, syntactic_help: str):
        self.item, self.syntactic_help = item, syntactic_help

    def parse(self, argument: str | tuple) -> tuple:
        items = argument.split(",") if isinstance(argument, str) else argument
        try:
            values = tuple(self.item.parse(item) for item in items if item != "")
        except ValueError:
            values = ()
        if not values or len(set(values)) < len(items):
            raise ValueError(f"must be {self.syntactic_help}, with commas between them, none empty, none twice")
        return values


NAMES = List(Choice(*CONTENDERS), f"some of {', '.join(CONTENDERS)}")
DEVICES = List(Choice(*campaign.DEVICES), f"some of {', '.join(campaign.DEVICES)}")
SIZES = List(COUNT, "whole numbers above 0")
ROUNDS = Number(int, "a whole number of at least 2", lambda value: value >= 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of a comparison, frozen. A field is a flag; its default and help stand here only."""

    contenders: tuple[str, ...] | None = flag(None, NAMES, "Who takes part; the first is the baseline. Default: all.")
    devices: tuple[str, ...] | None = flag(None, DEVICES, "Where to measure. Default: all that are there.")
    rounds: int = flag(5, ROUNDS, "How often each is measured.")
    batch_sizes: tuple[int, ...] = flag("10", SIZES, "Examples in the batch of a step; several make a sweep.")
    # 2,000 steps take the fastest 25 ms and the slowest, which has to take as many, 8 s.
    max_steps: int = flag(2000, COUNT, f"Steps of a measurement, of {work.MAX_IMAGES:,} images at most.")
    lr: float = flag(0.01, POSITIVE, "Learning rate of batches up to 10; larger ones take lr * 10 / batch.")
    seed: int = flag(0, COUNT_OR_0, "The order of an epoch is a pure function of (seed, epoch).")
    dataset: str = flag("mnist", TEXT, "An image-classification dataset of tfds.")
    data_dir: str | None = flag(None, TEXT, "Prepared datasets; default: tfds's own, ~/tensorflow_datasets.")
    manual_dir: str | None = flag(None, TEXT, "The dataset's archives; default: archives/DATASET beside train.py.")
    output: str | None = flag(None, TEXT, "A new FILE.json; FILE.md and the charts are put beside it.")
    merge: tuple[str, ...] | None = flag(None, List(TEXT, "files"), "Show these result files as one; measure nothing.")


def joined_merge(argv: list[str]) -> list[str]:
    """Returns `... --merge a.json b.json ...` as `... --merge=a.json,b.json ...`."""
    if "--merge" not in argv:
        return argv
    start = argv.index("--merge") + 1
    stop = next((i for i in range(start, len(argv)) if argv[i].startswith("-")), len(argv))
    return [*argv[: start - 1], f"--merge={','.join(argv[start:stop])}", *argv[stop:]]


def check_output(config: Config) -> None:
    """Raises InputError unless --output, and what is put beside it, can be written and is not there yet."""
    if config.output is None:
        return
    path, flag_text = pathlib.Path(config.output), f"--output={config.output}"
    if path.suffix != ".json":
        raise InputError(f"{flag_text}: must end in .json")
    for file in (path, path.with_suffix(".md"), *charts.files(path.with_suffix(""))):
        if file.exists():
            raise InputError(f"{flag_text}: {file} is there already and is never overwritten: choose another name")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(f"{flag_text}: cannot write to {path.parent}: {error.strerror}") from None


def write(results: Results, path: pathlib.Path, console: Console) -> None:
    """Writes the JSON file, the charts if matplotlib is there, and the Markdown file that shows both."""
    save(results, path)
    drawn, missing = [], charts.missing()
    if missing:
        console.print(f"no charts: {missing}", highlight=False, soft_wrap=True)
    else:
        drawn = charts.draw(results, path.with_suffix(""))
    text = tables.markdown(results, [chart.name for chart in drawn])
    write_atomically(path.with_suffix(".md"), lambda file: file.write(text.encode()))
    console.print(f"written: {', '.join(map(str, (path, path.with_suffix('.md'), *drawn)))}", soft_wrap=True)


def main() -> int:
    """Measures or merges, shows, writes; returns 1 if a contender failed or did other work, 130 after Ctrl-C."""
    config = flags.parse(Config, joined_merge(sys.argv), __doc__)
    check_output(config)
    console = Console(width=None if sys.stdout.isatty() else 120)
    path = pathlib.Path(config.output) if config.output else None
    if config.merge:
        results = merge([pathlib.Path(file) for file in config.merge])
    else:
        results = campaign.run(config, console, keep=lambda so_far: save(so_far, path) if path else None)
    tables.show(results, console)
    if path:
        write(results, path, console)
    if not config.merge and results.runs[0].rounds < config.rounds:
        return 130
    return int(any(sample.us_per_step is None for run in results.runs for sample in run.samples))


if __name__ == "__main__":
    exit_with_one_line(main)
