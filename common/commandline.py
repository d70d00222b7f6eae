"""The command line: absl's flags, read once into an immutable config, or refused in one line."""

import contextlib
import difflib
import math
import os
import re
import sys
import types
from typing import Any, NoReturn

from absl import flags

from common.errors import InputError

STRAY = "stray argument {!r}: a flag is written --name=value; see --help"
URL = re.compile(r"\w[\w+.-]*://")


class Config(types.SimpleNamespace):
    """The flags of a command as they were given: `config.batch_size`. It cannot be changed."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{name}: a config is not changed; config.replace makes another one")

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(vars(self).items()))

    def replace(self, **changes: object) -> "Config":
        """Returns a config with other values; raises TypeError where one is no flag of this one."""
        if unknown := changes.keys() - vars(self).keys():
            raise TypeError(f"no such flag: {', '.join(sorted(unknown))}")
        return Config(**vars(self) | changes)

    def as_dict(self) -> dict[str, Any]:
        """Returns the value of each flag by its name, in the order of their definition."""
        return dict(vars(self))


class PathParser(flags.ArgumentParser):
    """A path on this machine, with ~ as the user's home, which TensorFlow and Python name alike."""

    syntactic_help = "a path on this machine"

    def parse(self, argument: str) -> str:
        """Returns the path; raises ValueError on one at which nothing could be written later."""
        path = os.path.expanduser(argument)
        if not path or "\0" in path or URL.match(path):
            raise ValueError("must be a path on this machine, and no URL")
        if path.startswith("~"):
            raise ValueError("must be a path in a home folder that is known; write it out")
        with contextlib.suppress(UnicodeEncodeError):
            if os.fsencode(path) == path.encode():
                return path
        raise ValueError("must be a path in UTF-8, as TensorFlow reads it; rename it")


def define_path(name: str, text: str, flag_values: flags.FlagValues, module_name: str) -> None:
    """Defines a flag for a path, by default None, beside absl's DEFINE_integer and the others."""
    serializer: flags.ArgumentSerializer = flags.ArgumentSerializer()
    flags.DEFINE(PathParser(), name, None, text, flag_values, serializer, module_name)


def parse(
    values: flags.FlagValues, argv: list[str], summary: str | None, arguments: str | None = None
) -> Config:
    """Returns the flags in `argv`, and with `arguments` what is no flag, as a tuple of that name.

    Raises InputError on what is not allowed. `--help` prints `summary` and all flags, by the
    `module_name` that each was defined with, and exits with 0.
    """
    group: dict[str, Any] = {"flag_values": values, "module_name": "Help"}
    flags.DEFINE_boolean("help", False, "Show this and exit.", short_name="h", **group)
    define_path("flagfile", "A file with a flag in each line.", **group)
    values.set_gnu_getopt()
    stray = _read(values, argv)
    if values.help:
        groups = "\n".join(map(values.module_help, values.flags_by_module_dict()))
        shown = re.sub(r"\(default: '(.*?)'\)", r"(default: \1)", groups, flags=re.S)
        print(f"{(summary or '').rstrip()}\n{shown}", flush=True)
        sys.exit(0)
    if stray and arguments is None:
        raise InputError(STRAY.format(stray[0]))
    given = values.flag_values_dict()
    for name in ("help", "h", "flagfile"):
        del given[name]
    return Config(**given, **{arguments: tuple(stray)} if arguments else {})


def require_finite(values: flags.FlagValues) -> None:
    """Has all floats of `values` refuse nan and inf, which pass a bound of absl's."""
    for name in values:
        if isinstance(values[name].parser, flags.FloatParser):
            flags.register_validator(
                name,
                lambda value: value is None or math.isfinite(value),
                "must be a finite number",
                flag_values=values,
            )


def _read(values: flags.FlagValues, argv: list[str]) -> list[str]:
    """Gives `values` the flags in `argv`; returns what is no flag."""
    require_finite(values)
    try:
        return values(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        nearest = ", ".join(f"--{name}" for name in _nearest(values, error.flagname))
        found = f"--{error.flagname}: there is no such flag"
        raise InputError(f"{found}{nearest and '; nearest: '}{nearest}; see --help") from None
    except (flags.Error, ValueError) as error:
        where = "--flagfile: " if isinstance(error, UnicodeError) else ""
        raise InputError(f"{where}{_explained(values, str(error))}; see --help") from None


def _explained(values: flags.FlagValues, message: str) -> str:
    """Returns absl's message in one line that says what is allowed."""
    message = re.sub("^(flag|ERROR::) ", "", " ".join(message.split()))
    given, _, why = message.partition(": ")
    name = given.lstrip("-").partition("=")[0]
    if name not in values or why.startswith("must be "):
        return message
    allowed = "true or false" if values[name].boolean else values[name].parser.syntactic_help
    return f"{given}: must be {allowed}" if allowed else message


def _nearest(values: flags.FlagValues, name: str) -> list[str]:
    """Returns the flags that are written alike, or else whose help has these two words."""
    alike = difflib.get_close_matches(name, values, cutoff=0.75)
    words = name.replace("_", " ").lower()
    described = [other for other in values if words in (values[other].help or "").lower()]
    return alike or described * (" " in words)
