"""Flags as the fields of a frozen dataclass: name, default, help and what is allowed stand in one place."""

import dataclasses
import math
import os
import re
import sys
from collections.abc import Sequence
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
    """Items with commas between them, each accepted by `item`, none empty, none twice, as a tuple.

    Where they are integers, 1:4 stands for 1,2,3.
    """

    MOST = 1_000_000  # integers of a range

    def __init__(self, item: absl_flags.ArgumentParser, syntactic_help: str):
        self.item, self.has_ranges = item, isinstance(item, absl_flags.IntegerParser)
        ranges = "; 1:4 is 1,2,3" if self.has_ranges else ""
        self.syntactic_help = (
            f"{syntactic_help}, with commas between them, none empty, none twice{ranges}"
        )

    def parse(self, argument: str | tuple) -> tuple:
        given = argument.split(",") if isinstance(argument, str) else argument
        items = [each for item in given for each in self._each(item)]
        try:
            values = tuple(self.item.parse(str(item)) for item in items if item != "")
        except ValueError:
            values = ()
        if not values or len(set(values)) < len(items):
            raise ValueError(f"must be {self.syntactic_help}")
        return values

    def _each(self, item: Any) -> Sequence[Any]:
        """Returns what an item stands for, itself or the integers of a range."""
        ends = re.fullmatch(r"(\d{1,15}):(\d{1,15})", str(item)) if self.has_ranges else None
        span = range(int(ends[1]), int(ends[2])) if ends else [item]
        if not 0 < len(span) <= self.MOST:
            found = f"{item} has {len(span):,}"
            raise ValueError(
                f"must have 1 to {self.MOST:,} integers in a range, as 1:4 is 1,2,3; {found}"
            )
        return span


def integer(least: int, most: int | None = None) -> absl_flags.IntegerParser:
    """Returns the parser of integers from `least` to `most`."""
    parser = absl_flags.IntegerParser(lower_bound=least, upper_bound=most)
    parser.syntactic_help = f"an integer of at least {least}" + (
        "" if most is None else f" and at most {most}"
    )
    return parser


class Path(absl_flags.ArgumentParser):
    """A path; ~ is the user's home behind = too, where the shell leaves it."""

    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)


COUNT = integer(1)
COUNT_OR_0 = integer(0)
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
    place: dict[str, Any] = {"flag_values": values, "module_name": os.path.basename(argv[0])}
    for field in named:
        parser, text = field.metadata["parser"], field.metadata["help"]
        if parser is SWITCH:
            absl_flags.DEFINE_boolean(field.name, field.default, text, **place)  # type: ignore[arg-type]
        else:
            kind: Any = (
                absl_flags.ListSerializer(",")
                if isinstance(parser, List)
                else absl_flags.ArgumentSerializer()
            )
            absl_flags.DEFINE(parser, field.name, field.default, text, serializer=kind, **place)
    absl_flags.DEFINE_boolean("help", False, "Show all flags and exit.", short_name="h", **place)
    stray = _parsed(values, argv)
    if stray and not unnamed:
        raise InputError(f"stray argument {stray[0]!r}: a flag is written --name=value; see --help")
    if values.help:
        shown = re.sub(
            r"\(default: '(.*?)'\)", r"(default: \1)", values.get_help(), flags=re.DOTALL
        )
        print(f"{(summary or '').rstrip()}\n{shown}")
        sys.exit(0)
    given = {field.name: values[field.name].value for field in named}
    return config_class(**given, **dict.fromkeys(unnamed, tuple(stray)))


def _parsed(values: absl_flags.FlagValues, argv: list[str]) -> list[str]:
    """Gives `values` the flags of `argv`; returns what is no flag."""
    try:
        return values(argv)[1:]
    except absl_flags.IllegalFlagValueError as error:
        given, _, why = str(error).removeprefix("flag ").partition(": ")  # --name=value
        if not why.startswith("must "):
            why = f"must be {values[given[2:].partition('=')[0]].parser.syntactic_help or 'true or false'}"
        raise InputError(f"{given}: {why}; see --help") from None
    except absl_flags.UnrecognizedFlagError as error:
        alike = str(error).partition("Did you mean: ")[2].removesuffix(" ?")
        near = (
            alike.split(", ") if alike else _explained(values, re.sub("[-_]", " ", error.flagname))
        )
        nearest = f"; nearest: --{', --'.join(near)}" if near else ""
        raise InputError(
            f"--{error.flagname}: there is no such flag{nearest}; see --help"
        ) from None
    except absl_flags.Error as error:
        raise InputError(f"{' '.join(str(error).split())}; see --help") from None


def _explained(values: absl_flags.FlagValues, words: str) -> list[str]:
    """Returns the flags whose help has these words, as that of --lr has learning rate; none for one word alone."""
    if " " not in words:
        return []
    said = re.compile(rf"\b{re.escape(words)}\b", re.IGNORECASE)
    return [
        name
        for name in values
        if name not in ("h", "help") and said.search(values[name].help or "")
    ]
