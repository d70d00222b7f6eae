"""The command line: absl's flags, read once into an immutable config, or refused with one line."""

import os
import re
import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import flags

from common.errors import InputError


class Config(types.SimpleNamespace):
    """The values of a command's flags, such as `config.batch_size`. It cannot be changed.

    `vars(config)` has them by name, in the order of definition.
    """

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{name}: a config is not changed; config.replace makes another one")

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(vars(self).items()))

    def replace(self, **changes: object) -> "Config":
        """Returns a config with other values; raises TypeError if this one has no such flag."""
        if unknown := changes.keys() - vars(self).keys():
            raise TypeError(f"no such flag: {unknown}")
        return Config(**vars(self) | changes)


class PathParser(flags.ArgumentParser):
    """A path on this machine, with ~ for a home folder, the same to TensorFlow and Python."""

    syntactic_help = "a path on this machine, in UTF-8"

    def parse(self, argument: str) -> str:
        """Returns the path; raises ValueError if nothing could be written there later."""
        path = os.path.expanduser(argument)
        # empty, of an unknown user, a URL, or with a character that no path has
        if os.fsencode(path).decode() != path or re.search(r"^$|^~|^[^/]*://|\0", path):
            raise ValueError("must be a path on this machine, in UTF-8: no URL, no unknown ~user")
        return path


def group(title: str, values: flags.FlagValues) -> dict[str, Any]:
    """Returns the arguments that put a flag into `values`, and under a title of --help."""
    return {"flag_values": values, "module_name": title}


def defined(*groups: Callable[[flags.FlagValues], None]) -> flags.FlagValues:
    """Returns the flags that these functions define, not yet read."""
    values = flags.FlagValues()
    for define in groups:
        define(values)
    return values


def define_path(name: str, text: str, **group: Any) -> None:
    """Defines a flag for a path, with the default None, as absl's DEFINE_integer does for ints."""
    flags.DEFINE(PathParser(), name, None, text, **group)


def parse(
    values: flags.FlagValues, argv: Sequence[str], summary: str | None, arguments: str | None = None
) -> Config:
    """Returns the flags in `argv`; with `arguments` also the other words, as a tuple of that name.

    Raises InputError if something is not allowed. `--help` prints `summary` and all flags, grouped
    by the title of `group`, and exits with 0.
    """
    names = [*values]
    own = group("Help", values)
    flags.DEFINE_boolean("help", False, "Show this and exit.", short_name="h", **own)
    define_path("flagfile", "A file with a flag in each line.", **own)
    if "lr" in values:
        flags.DEFINE_alias("learning_rate", "lr", **own)
    values.set_gnu_getopt()
    stray = _read(values, argv)
    if values.help:
        print(summary or "", *map(values.module_help, values.flags_by_module_dict()), sep="\n")
        raise SystemExit
    given = {name: values[name].value for name in names}
    for name, value in given.items():
        if value != value:  # nan, which absl's bounds allow
            raise InputError(f"--{name}={value}: must be a finite number; see --help")
    if arguments:
        given[arguments] = tuple(stray)
    elif stray:
        raise InputError(f"stray argument {stray[0]!r}: a flag is written --name=value; see --help")
    return Config(**given)


def _read(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Sets `values` from the flags in `argv`; returns the other words.

    Raises InputError with absl's message, which says what is allowed.
    """
    try:
        return values(argv)[1:]
    except UnicodeError as error:
        raise InputError(f"--flagfile: must be a file in UTF-8: {error}; see --help") from None
    except (flags.Error, ValueError) as error:
        message = re.sub("^(flag|ERROR::) ", "", str(error))
        if unexplained := re.match(r"(?s)--(\w+)=(?!.*: (must|value should) be ).*?: ", message):
            allowed = values[unexplained[1]].parser.syntactic_help or "true or false"
            message = f"{unexplained[0]}must be {allowed}"
        raise InputError(f"{message}; see --help") from None
