"""The flags of sweep.py: its own, and those of train.py, some of which take several values."""

import itertools
import math
import re

from absl import flags as absl_flags

import flags
from common import commandline, files, plots
from common.commandline import Config
from common.errors import InputError
from runtime import cluster

MAX_RUNS = 10_000
DEFAULTS = vars(flags.training_config())
SWEPT = [  # the flags that take several values
    flag.name for flag in flags.train_flags().flags_by_module_dict()["Training"] if not flag.boolean
]


def sweep_flags() -> absl_flags.FlagValues:
    """Returns the flags of one run of a sweep, not yet read."""
    return commandline.defined(
        flags.define_data_flags,
        flags.define_training_flags,
        flags.define_device_flags,
        flags.define_evaluation_flags,
        define_sweep,
    )


def define_sweep(values: absl_flags.FlagValues) -> None:
    """Defines how the runs of a sweep are trained, kept and shown."""
    group = commandline.group("Sweep", values)
    absl_flags.DEFINE_integer(
        "jobs",
        0,
        "Runs at the same time; 0: one per core, or one if a run uses the whole device.",
        lower_bound=0,
        **group,
    )
    commandline.define_path(
        "output",
        "Keep each finished run in this FILE.jsonl; the same command trains the missing runs.",
        **group,
    )
    commandline.define_path(
        "figures", "Draw accuracy over learning rate and over steps, in this folder.", **group
    )
    absl_flags.DEFINE_boolean("yes", False, "Allow any number of runs.", **group)


def parse(argv: list[str], summary: str | None) -> list[Config]:
    """Returns the config of each run that `argv` defines: the flags of train.py and sweep.py.

    The largest batch comes first, so that one that exceeds the data is refused before other runs.

    Raises InputError if a value is not allowed, or an output cannot be written.
    """
    alternatives = [values_of(argument) for argument in argv]
    count = math.prod(map(len, alternatives))
    first = commandline.parse(sweep_flags(), [values[0] for values in alternatives], summary)
    if count > MAX_RUNS and not first.yes:
        raise InputError(f"{count:,} runs: at most {MAX_RUNS:,} without --yes")
    given = [
        commandline.parse(sweep_flags(), arguments, summary)
        for arguments in itertools.product(*alternatives)
    ]
    configs = [cluster.checked(Config(**DEFAULTS | vars(each))) for each in given]
    if first.output:
        files.check_writable("output", first.output, replace=True)
    if first.figures:
        with plots.look():  # raises now if matplotlib is missing
            files.writable_folder("figures", first.figures)
    return sorted(dict.fromkeys(configs), key=lambda config: -config.batch_size)


def values_of(argument: str) -> list[str]:
    """Returns an argument for each value: --seed=4, --seed=0 and --seed=1 for --seed=4,0:2."""
    name, equals, text = argument.partition("=")
    if name.strip("-") not in SWEPT:
        return [argument]
    values: list[object] = []
    for item in text.split(","):
        is_range = re.fullmatch(r"\d{1,6}:\d{1,6}", item)
        integers = range(*map(int, item.split(":"))) if is_range else ()
        values += integers or [item]  # other items are checked later
    return [f"{name}{equals}{value}" for value in values]
