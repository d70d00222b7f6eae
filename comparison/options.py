"""Every flag of compare.py, once: name, default, help and what is allowed."""

import dataclasses
import math
import re
import shlex

from absl import flags as absl_flags

from common.flagging import (
    COUNT,
    COUNT_OR_0,
    PATH,
    POSITIVE,
    SWITCH,
    TEXT,
    Finite,
    List,
    choice,
    flag,
    integer,
)
from comparison import work
from comparison.contenders import CONTENDERS, DEVICE_NAMES


@dataclasses.dataclass(frozen=True)
class Program:
    """Somebody's program as a contender."""

    name: str
    command: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}:{shlex.join(self.command)}"


class ProgramParser(absl_flags.ArgumentParser):
    """NAME:COMMAND, the command as a shell would split it."""

    syntactic_help = "NAME:COMMAND, the name of letters, digits and _"

    def parse(self, argument: str | Program) -> Program:
        name, _, command = str(argument).partition(":")
        if not re.fullmatch(r"\w+", name) or not shlex.split(command):
            raise ValueError(f"must be {self.syntactic_help}")
        return Program(name, tuple(shlex.split(command)))


class Factor(Finite):
    """A finite factor of at least 1."""

    def __init__(self) -> None:
        super().__init__()
        self.syntactic_help = "a finite number of at least 1"

    def is_outside_bounds(self, val: float) -> bool:
        return not math.isfinite(val) or val < 1


NAMES = List(choice(*CONTENDERS), f"some of {', '.join(CONTENDERS)}")
DEVICES = List(choice(*DEVICE_NAMES), f"some of {', '.join(DEVICE_NAMES)}")
PROGRAMS = List(ProgramParser(), ProgramParser.syntactic_help)
SIZES = List(COUNT, "whole numbers above 0")
ROUNDS = integer(2)
SECONDS = integer(1, 1_000_000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of a comparison, frozen. A field is a flag; its default and help stand here only."""

    contenders: tuple[str, ...] | None = flag(
        None, NAMES, "Who takes part; the first is the baseline. Default: all."
    )
    program: tuple[Program, ...] | None = flag(
        None,
        PROGRAMS,
        "Programs that take part too, NAME:COMMAND with commas between them: docs/comparison.md.",
    )
    devices: tuple[str, ...] | None = flag(
        None, DEVICES, "Where to measure. Default: all that are there."
    )
    cores: int | None = flag(
        None, COUNT, "Hold each contender to so many cores. Default: to all that are there."
    )
    rounds: int = flag(7, ROUNDS, "How often each is measured.")
    batch_sizes: tuple[int, ...] = flag(
        "10", SIZES, "Examples in the batch of a step; several make a sweep."
    )
    # As many as the slowest takes in 8 s; who is faster does them again and again.
    max_steps: int = flag(
        2000, COUNT, f"Steps of a measurement, of {work.MAX_IMAGES:,} images at most."
    )
    lr: float = flag(
        0.01, POSITIVE, "Learning rate of batches up to 10; larger ones take lr * 10 / batch."
    )
    seed: int = flag(
        0,
        COUNT_OR_0,
        "Decides the order of the examples in every epoch: the same seed, the same order.",
    )
    dataset: str = flag("mnist", TEXT, "An image-classification dataset of tfds.")
    data_dir: str | None = flag(
        None, PATH, "Prepared datasets; default: tfds's own, ~/tensorflow_datasets."
    )
    manual_dir: str | None = flag(
        None, PATH, "The dataset's archives; default: archives/DATASET beside train.py."
    )
    timeout: int = flag(
        600, SECONDS, "Seconds after which a measurement is ended; its contender has failed then."
    )
    output: str | None = flag(
        None, PATH, "A new FILE.json; FILE.md and the charts are put beside it."
    )
    merge: tuple[str, ...] | None = flag(
        None, List(PATH, "files"), "Show these result files as one; measure nothing."
    )
    against: str | None = flag(
        None,
        PATH,
        "Measure what this result file measured; exit with 3 if a contender has become slower.",
    )
    max_slowdown: float = flag(1.05, Factor(), "The factor that --against lets pass.")
    ratios: bool = flag(
        False, SWITCH, "With --against: compare the ratios to the baseline, not the times."
    )


def joined_merge(argv: list[str]) -> list[str]:
    """Returns `... --merge a.json b.json ...` as `... --merge=a.json,b.json ...`."""
    if "--merge" not in argv:
        return argv
    start = argv.index("--merge") + 1
    stop = next((i for i in range(start, len(argv)) if argv[i].startswith("-")), len(argv))
    return [*argv[: start - 1], f"--merge={','.join(argv[start:stop])}", *argv[stop:]]
