"""The flags of compare.py, and those that --against takes from its file."""

import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pyperf
from absl import flags

from common import commandline
from common.commandline import Config, define_path
from common.errors import InputError
from comparison import guard, peers, work
from comparison.peers import CONTENDERS

WHAT = (  # the flags that decide what is measured, which --against takes from its file
    *("contenders", "program", "python", "devices", "cores", "precision", "batch_sizes"),
    *("max_steps", "lr", "seed", "dataset", "rounds"),
)


def compare_flags() -> flags.FlagValues:
    """Returns the flags of compare.py, not yet read."""
    values = flags.FlagValues()
    define_who(values)
    define_job(values)
    define_results(values)
    return values


def define_who(values: flags.FlagValues) -> None:
    """Defines who is measured, and on what."""
    group: dict[str, Any] = {"flag_values": values, "module_name": "Who and where"}
    text = f"Who takes part; the first is the baseline. {','.join(CONTENDERS)}, or all."
    flags.DEFINE_list("contenders", list(peers.DEFAULT), text, **group)
    flags.DEFINE_list(
        "program", [], "Programs that take part too, NAME:COMMAND: docs/comparison.md.", **group
    )
    flags.DEFINE_list("python", [], "Another Python for a contender, NAME=PATH.", **group)
    flags.DEFINE_list("devices", [], "cpu, gpu. Default: what is there.", **group)
    flags.DEFINE_integer("device_index", 0, "Which GPU.", lower_bound=0, **group)
    flags.DEFINE_list("cores", ["1", "all"], "Cores of a CPU, a row for each number.", **group)
    flags.DEFINE_list("precision", ["float32"], "float32, and on a GPU tf32.", **group)
    flags.DEFINE_list("keep_env", [], "Variables that contenders see; all others go.", **group)
    some = "must be some of"
    _each(values, "contenders", "|".join([*CONTENDERS, "all"]), f"{some} {', '.join(CONTENDERS)}")
    _each(values, "devices", "cpu|gpu", f"{some} cpu, gpu")
    _each(values, "precision", "float32|tf32", f"{some} float32, tf32")
    _each(values, "cores", r"[1-9]\d*|all", "must be whole numbers above 0, or all")
    _each(values, "program", r"\w+:.+", "must be NAME:COMMAND, the name of letters, digits and _")
    _each(values, "python", r"\w+=.+", "must be NAME=PATH, the path of a Python")
    _each(values, "keep_env", r"\w+", "must be names of variables")


def define_job(values: flags.FlagValues) -> None:
    """Defines what everybody does."""
    group: dict[str, Any] = {"flag_values": values, "module_name": "Job"}
    flags.DEFINE_integer("rounds", 9, "How often each is measured.", lower_bound=2, **group)
    flags.DEFINE_list("batch_sizes", ["10"], "Examples in the batch of a step.", **group)
    text = f"Steps at most; 0: whole epochs, of {work.MIN_STEPS} steps at least."
    flags.DEFINE_integer("max_steps", 0, text, lower_bound=0, **group)
    flags.DEFINE_float(
        "lr", 0.01, "Learning rate of batches up to 10; larger ones take lr * 10 / batch.", **group
    )
    flags.DEFINE_integer("seed", 0, "Decides the order of the examples.", lower_bound=0, **group)
    flags.DEFINE_string("dataset", "mnist", "An image-classification dataset of tfds.", **group)
    define_path("data_dir", "Prepared datasets; default: tfds's own.", **group)
    define_path("manual_dir", "The dataset's archives; default: archives/DATASET.", **group)
    flags.DEFINE_integer(
        "timeout", 120, "Seconds after which a measurement has failed.", lower_bound=1, **group
    )
    _each(values, "batch_sizes", r"[1-9]\d*", "must be whole numbers above 0")
    _holds(values, "lr", lambda lr: 0 < lr < math.inf, "must be a finite number above 0")


def define_results(values: flags.FlagValues) -> None:
    """Defines what becomes of the results."""
    group: dict[str, Any] = {"flag_values": values, "module_name": "Results"}
    define_path("output", "A new FILE.json; FILE.md and charts are put beside it.", **group)
    flags.DEFINE_list("merge", [], "Show these results files as one; measure nothing.", **group)
    define_path(
        "against", "Measure what this file measured; exit with 3 if one is slower.", **group
    )
    flags.DEFINE_float("max_slowdown", 1.05, "The factor that --against lets pass.", **group)
    flags.DEFINE_boolean(
        "ratios", False, "With --against: compare ratios to the baseline, not times.", **group
    )
    allowed = "must be a finite number of at least 1"
    _holds(values, "max_slowdown", lambda factor: 1 <= factor < math.inf, allowed)
    _holds(
        values,
        "output",
        lambda path: not path or path.endswith(".json"),
        "must be a path that ends in .json",
    )


def _holds(values: flags.FlagValues, name: str, test: Callable[[Any], bool], text: str) -> None:
    flags.register_validator(name, test, text, flag_values=values)


def _each(values: flags.FlagValues, name: str, pattern: str, text: str) -> None:
    def is_right(items: Sequence[str]) -> bool:
        return len(set(items)) == len(items) and all(re.fullmatch(pattern, item) for item in items)

    _holds(values, name, is_right, f"{text}, none twice")


def arguments(config: Config) -> list[str]:
    """Returns the flags that decide what is measured and are not at their defaults, as given."""
    found = []
    for name in WHAT:
        flag = compare_flags()[name]
        flag.value, default = getattr(config, name), flag.value
        if flag.value != default:
            found.append(flag.serialize())
    return found


def as_in_file(config: Config, base: pyperf.BenchmarkSuite) -> Config:
    """Returns the config with the flags that measured the file of --against; raises InputError if
    one was given too."""
    flag = f"--against={config.against}"
    for given in arguments(config):
        name = given.partition("=")[0]
        raise InputError(f"{name}: {flag} measures what that file measured: leave the flag out")
    argv = [*sys.argv, *guard.arguments_of(base, flag)]
    return commandline.parse(compare_flags(), argv, None)
