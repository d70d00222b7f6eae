"""Flags as the fields of a frozen dataclass: name, default, help and what is allowed stand in one place."""

import dataclasses
import math
import os
import re
import sys
from typing import Any, TypeVar

from absl import flags as absl_flags

from common.errors import InputError

ConfigT = TypeVar("ConfigT")


class Finite(absl_flags.FloatParser):
    """A finite float above 0, at most `upper_bound`; absl's own parser lets nan, inf and 0 through."""

    def __init__(self, upper_bound: float | None = None):
        super().__init__(lower_bound=0.0, upper_bound=upper_bound)
        at_most = "" if upper_bound is None else f" and at most {upper_bound:g}"
        self.syntactic_help = f"a finite number above 0{at_most}"

    def is_outside_bounds(self, val: float) -> bool:
        return not math.isfinite(val) or val <= 0 or super().is_outside_bounds(val)


class List(absl_flags.ArgumentParser):
    """Items with commas between them, each accepted by `item`, none empty, none twice, as a tuple; 0:3 is 0,1,2."""

    MOST = 1_000_000  # items of a range

    def __init__(self, item: absl_flags.ArgumentParser, syntactic_help: str):
        self.item = item
        self.syntactic_help = f"{syntactic_help}, with commas between them, none empty, none twice"

    def parse(self, argument: str | tuple) -> tuple:
        items = argument.split(",") if isinstance(argument, str) else argument
        ranges = [re.fullmatch(r"(\d{1,15}):(\d{1,15})", str(item)) for item in items]
        spans = [range(*map(int, ends.groups())) if ends else (item,) for ends, item in zip(ranges, items, strict=True)]
        try:
            if not all(0 < len(span) <= self.MOST for span in spans):
                raise ValueError
            values = tuple(self.item.parse(str(item)) for span in spans for item in span if item != "")
        except ValueError:
            values = ()
        if not values or len(set(values)) < sum(map(len, spans)):
            raise ValueError(f"must be {self.syntactic_help}")
        return values


class Path(absl_flags.ArgumentParser):
    """A path; ~ is the user's home behind = too, where the shell leaves it."""

    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)


COUNT = absl_flags.IntegerParser(lower_bound=1)
COUNT_OR_0 = absl_flags.IntegerParser(lower_bound=0)
POSITIVE = Finite()
SHARE = Finite(upper_bound=1.0)
TEXT: absl_flags.ArgumentParser = absl_flags.ArgumentParser()
PATH = Path()
SWITCH = absl_flags.BooleanParser()


def choice(*values: str) -> absl_flags.EnumParser:
    """Returns the parser that accepts one of `values`."""
    parser = absl_flags.EnumParser(list(values))
    parser.syntactic_help = f"one of {', '.join(values)}"
    return parser


def flag(default: Any, parser: absl_flags.ArgumentParser, text: str) -> Any:
    """Returns a dataclass field that `parse` turns into a command-line flag."""
    return dataclasses.field(default=default, metadata={"parser": parser, "help": text})


def arguments(text: str) -> Any:
    """Returns a dataclass field that takes what stands on the command line without a flag, as a tuple of str."""
    return dataclasses.field(default=(), metadata={"parser": None, "help": text})


def parse(config_class: type[ConfigT], argv: list[str], summary: str | None) -> ConfigT:
    """Returns the flags of `argv` as a frozen `config_class`; raises InputError on one that is not allowed.

    `--help` prints `summary` and every flag, then exits with 0.
    """
    values = absl_flags.FlagValues()
    values.set_gnu_getopt()
    fields = dataclasses.fields(config_class)  # type: ignore[arg-type]
    named = [field for field in fields if field.metadata["parser"]]
    unnamed = [field.name for field in fields if not field.metadata["parser"]]
    for field in named:
        parser, text = field.metadata["parser"], field.metadata["help"]
        if parser is SWITCH:
            absl_flags.DEFINE_boolean(field.name, field.default, text, values)  # type: ignore[arg-type]
        else:
            absl_flags.DEFINE(parser, field.name, field.default, text, values, absl_flags.ArgumentSerializer())
    absl_flags.DEFINE_boolean("help", False, "Show all flags and exit.", values, short_name="h")
    stray = _parsed(values, argv)
    if stray and not unnamed:
        raise InputError(f"stray argument {stray[0]!r}: a flag is written --name=value; see --help")
    if values.help:
        print(f"{summary}\n{values.get_help()}")
        sys.exit(0)
    given = {field.name: values[field.name].value for field in named}
    return config_class(**given, **dict.fromkeys(unnamed, tuple(stray)))


def _parsed(values: absl_flags.FlagValues, argv: list[str]) -> list[str]:
    """Gives `values` the flags of `argv`; returns what is no flag."""
    try:
        return values(argv)[1:]
    except absl_flags.IllegalFlagValueError as error:
        given = str(error).removeprefix("flag ").partition(": ")[0]  # --name=value
        allowed = values[given[2:].partition("=")[0]].parser.syntactic_help or "true or false"
        raise InputError(f"{given}: must be {allowed}; see --help") from None
    except absl_flags.Error as error:
        raise InputError(f"{' '.join(str(error).split())}; see --help") from None
