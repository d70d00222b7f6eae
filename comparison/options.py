"""The flags of compare.py, and those that --against takes from its file."""

import re

from absl import flags

import flags as train_flags
from common import commandline
from common.commandline import Config, define_path
from comparison import work
from comparison.peers import CONTENDERS

LISTS = {  # by flag: its help, default, and the pattern of an item
    "contenders": (
        f"Some of {', '.join(CONTENDERS)}, or all; the first is the baseline.",
        "xla,c,jax_best,torch_best,numpy_best,graph,keras_best",
        "|".join([*CONTENDERS, "all"]),
    ),
    "program": (
        "Other programs, NAME:COMMAND, a name of letters, digits and _; see docs/comparison.md.",
        "",
        r"\w+:.+",
    ),
    "python": ("Another Python for a contender, NAME=PATH.", "", r"\w+=.+"),
    "devices": ("Some of cpu, gpu; default: all that exist.", "", "cpu|gpu"),
    "cores": ("Numbers of CPU cores, or all, which is the maximum.", "1,all", r"[1-9]\d*|all"),
    "batch_sizes": ("Numbers of examples in the batch of a step.", "10", r"[1-9]\d*"),
    "precision": ("float32, and on a GPU tf32.", "float32", "float32|tf32"),
    "keep_env": (
        "More environment variables that contenders get, but none that chooses the device.",
        "",
        r"(?!CUDA_VISIBLE_DEVICES$|CUDA_DEVICE_ORDER$|JAX_PLATFORMS$)\w+",
    ),
}
# the flags that decide what is measured, which --against takes from its file
WHAT = (*LISTS, "max_steps", "lr", "seed", "dataset", "rounds")


def compare_flags() -> flags.FlagValues:
    """Returns the flags of compare.py, not yet read."""
    return commandline.defined(
        define_contenders, train_flags.define_data_flags, define_job, define_results
    )


def define_contenders(values: flags.FlagValues) -> None:
    """Defines the contenders, their devices and batches: all of which there may be several."""
    group = commandline.group("Contenders, devices and batch sizes", values)
    for name, (text, default, pattern) in LISTS.items():
        flags.DEFINE_list(name, default, text, **group)
        flags.register_validator(
            name,
            lambda items, pattern=pattern: all(re.fullmatch(pattern, item) for item in items),
            f"must be as its help says ({text})",
            flag_values=values,
        )
    flags.DEFINE_string(
        "device_index",
        None,
        "Number of the GPU in nvidia-smi; default: the first in CUDA_VISIBLE_DEVICES, or 0.",
        **group,
    )


def define_job(values: flags.FlagValues) -> None:
    """Defines the job of all contenders."""
    group = commandline.group("Job", values)
    flags.DEFINE_integer(
        "rounds", 9, "Measurements of each contender.", lower_bound=2, upper_bound=1_000, **group
    )
    flags.DEFINE_integer(
        "max_steps",
        0,
        f"Maximum number of steps; 0: whole epochs, at least {work.MIN_STEPS} steps.",
        lower_bound=0,
        **group,
    )
    flags.DEFINE_float(  # lr * 10 / batch stays in the range of float32
        "lr",
        0.01,
        "Learning rate of batches up to 10; larger ones use lr * 10 / batch.",
        lower_bound=1e-30,
        upper_bound=1e30,
        **group,
    )
    flags.DEFINE_integer("seed", 0, "Determines the order of examples.", lower_bound=0, **group)
    flags.DEFINE_integer(
        "timeout",
        120,
        "Seconds after which a measurement has failed.",
        lower_bound=1,
        upper_bound=1_000_000,  # a timer has a limit
        **group,
    )


def define_results(values: flags.FlagValues) -> None:
    """Defines the output, and comparisons with results files."""
    group = commandline.group("Results", values)
    define_path("output", "A new FILE.json; FILE.md and charts are written beside it.", **group)
    flags.DEFINE_list("merge", "", "Show these results files as one; measure nothing.", **group)
    define_path(
        "against", "Repeat the measurements of this file; exit with 3 after a slowdown.", **group
    )
    flags.DEFINE_float(
        "max_slowdown", 1.05, "The factor that --against tolerates.", lower_bound=1, **group
    )
    flags.DEFINE_boolean(
        "ratios", False, "With --against: compare ratios to the baseline, not times.", **group
    )


def arguments(config: Config) -> list[str]:
    """Returns the flags that decide what is measured, as they would be given."""
    values = compare_flags()
    for name in WHAT:
        values[name].value = getattr(config, name)
    return [values[name].serialize() for name in WHAT]
