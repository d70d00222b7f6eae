"""The flags of sweep.py: those of train.py, several values of its numbers and choices, and its
own."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from absl import flags as absl_flags

import flags
from common import commandline, files, plots
from common.errors import InputError
from runtime import cluster

MAX_RUNS = 10_000
MAX_RANGE = 1_000_000
OWN = ("jobs", "output", "figures", "yes")
NUMBERS_AND_CHOICES = absl_flags.IntegerParser, absl_flags.FloatParser, absl_flags.EnumParser


class Several(absl_flags.ArgumentParser):
    """Values with commas between them, each as train.py's flag takes it; 1:4 is 1,2,3."""

    def __init__(self, single: absl_flags.FlagValues, name: str) -> None:
        self.single, self.flag = single, single[name]
        self.has_ranges = isinstance(self.flag.parser, absl_flags.IntegerParser)
        choices = getattr(self.flag.parser, "enum_values", ())
        one = f"one of {', '.join(choices)}" if choices else self.flag.parser.syntactic_help
        ranges = "; 1:4 is 1,2,3" if self.has_ranges else ""
        self.syntactic_help = f"{one}, or several with commas between them, none twice{ranges}"

    def parse(self, argument: str) -> tuple:
        """Returns the values; raises flags.Error or ValueError where one is not allowed."""
        values = [value for item in argument.split(",") for value in self._values(item)]
        if len(set(values)) < len(values):
            raise ValueError("has a value twice")
        return tuple(values)

    def _values(self, item: str) -> Sequence[Any]:
        """Returns what stands between two commas: a value, or the integers of a range."""
        start, colon, stop = item.partition(":")
        if not colon or not self.has_ranges:
            return [self._value(item)]
        span = range(self._value(start), int(stop))
        if not span or span[-1] - span[0] >= MAX_RANGE:
            raise ValueError(f"must be a range of 1 to {MAX_RANGE:,} integers")
        self._value(str(span[-1]))
        return span

    def _value(self, item: str) -> Any:
        """Returns one value, by the parser and the validators of train.py's flag."""
        self.flag.parse(item)
        self.single.validate_all_flags()
        return self.flag.value


def swept_flags() -> tuple[str, ...]:
    """Returns the names of the flags that take several values; lr and seed are the last."""
    training = absl_flags.FlagValues()
    flags.define_training_flags(training)
    names = [name for name in training if isinstance(training[name].parser, NUMBERS_AND_CHOICES)]
    return tuple(sorted(names, key=("lr", "seed").__contains__))


SWEPT = swept_flags()


def sweep_flags() -> absl_flags.FlagValues:
    """Returns the flags of sweep.py, not yet read."""
    values, single = absl_flags.FlagValues(), flags.train_flags()
    flags.define_data_flags(values)
    flags.define_training_flags(values)
    flags.define_device_flags(values)
    flags.define_evaluation_flags(values)
    for name in SWEPT:
        values[name].parser = Several(single, name)
        values[name].serializer = absl_flags.ListSerializer(",")
        values[name].validators.clear()
        values.set_default(name, str(single[name].default))
    values.set_default("eval_every", None)
    values[
        "eval_every"
    ].help = (
        "As in train.py; default: as there with --figures or --target_accuracy, else 0, at the end."
    )
    define_own_flags(values)
    return values


def define_own_flags(values: absl_flags.FlagValues) -> None:
    """Defines what train.py has not, or not so."""
    group: dict[str, Any] = {"flag_values": values, "module_name": "Sweep"}
    absl_flags.DEFINE_integer(
        "jobs",
        0,
        "Runs at the same time, where one core serves a run best; 0: one a core.",
        lower_bound=0,
        **group,
    )
    commandline.define_path(
        "output",
        "Keep each finished run in this FILE.jsonl; the same command does the rest.",
        **group,
    )
    commandline.define_path(
        "figures", "Draw accuracy over learning rate and over steps, in this folder.", **group
    )
    absl_flags.DEFINE_boolean("yes", False, f"Allow more than {MAX_RUNS:,} runs.", **group)


def parse(
    argv: list[str], summary: str | None
) -> tuple[list[commandline.Config], commandline.Config]:
    """Returns the configs of all runs that `argv` asks for, and that of the sweep.

    Raises InputError on what is not allowed, or cannot be written.
    """
    sweep = commandline.parse(sweep_flags(), argv, summary)
    if sweep.eval_every is None:
        evaluates = sweep.figures or sweep.target_accuracy
        sweep = sweep.replace(eval_every=flags.training_config().eval_every if evaluates else 0)
    lists = [getattr(sweep, name) for name in SWEPT]
    if (count := math.prod(map(len, lists))) > MAX_RUNS and not sweep.yes:
        raise InputError(f"{count:,} runs: at most {MAX_RUNS:,} without --yes")
    files.check_writable("output", sweep.output, replace=True)
    if sweep.figures:
        files.writable_folder("figures", sweep.figures)
        with plots.look("--figures"):  # says now that matplotlib is missing
            pass
    shared = {name: value for name, value in sweep.as_dict().items() if name not in (*OWN, *SWEPT)}
    run = flags.training_config(**shared)
    combinations = (dict(zip(SWEPT, values, strict=True)) for values in itertools.product(*lists))
    return [cluster.checked(run.replace(**combination)) for combination in combinations], sweep
