"""Every flag of train.py, once: name, default, help and what is allowed. TensorFlow is not imported here."""

import dataclasses
import math
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from absl import flags as absl_flags

from errors import InputError

ConfigT = TypeVar("ConfigT")


class Number(absl_flags.ArgumentParser):
    """Parses an int or a float and refuses what `accepts` refuses, and `nan` and `inf` always."""

    def __init__(self, kind: type, allowed: str, accepts: Callable[[Any], bool]):
        self.kind, self.syntactic_help, self.accepts = kind, allowed, accepts

    def parse(self, argument: Any) -> int | float:
        try:
            value = self.kind(argument)
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value) or not self.accepts(value):
            raise ValueError(f"must be {self.syntactic_help}")
        return value

    def flag_type(self) -> str:
        return self.kind.__name__


class Choice(absl_flags.ArgumentParser):
    """Accepts one of `values`."""

    def __init__(self, *values: str):
        self.values, self.syntactic_help = values, f"one of {', '.join(values)}"

    def parse(self, argument: str) -> str:
        if argument not in self.values:
            raise ValueError(f"must be {self.syntactic_help}")
        return argument


class Switch(absl_flags.BooleanParser):
    """Accepts true or false."""

    def parse(self, argument: str | int | bool) -> bool:
        try:
            return super().parse(argument)
        except (TypeError, ValueError):
            raise ValueError("must be true or false") from None


COUNT = Number(int, "a whole number of at least 1", lambda value: value >= 1)
COUNT_OR_0 = Number(int, "a whole number of at least 0", lambda value: value >= 0)
POSITIVE = Number(float, "a finite number above 0", lambda value: value > 0)
SHARE = Number(float, "a number above 0 and at most 1", lambda value: 0 < value <= 1)
TEXT = absl_flags.ArgumentParser()
SWITCH = Switch()


def flag(default: Any, parser: absl_flags.ArgumentParser, text: str) -> Any:
    """Returns a dataclass field that `parse` turns into a command-line flag."""
    return dataclasses.field(default=default, metadata={"parser": parser, "help": text})


def arguments(text: str) -> Any:
    """Returns a dataclass field that takes what stands on the command line without a flag, as a tuple of str."""
    return dataclasses.field(default=(), metadata={"parser": None, "help": text})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of one training run, frozen. A field is a flag; its default and help stand here only."""

    dataset: str = flag("mnist", TEXT, "An image-classification dataset of tfds.")
    batch_size: int = flag(10, COUNT, "Examples in the batch of one step.")
    lr: float = flag(0.01, POSITIVE, "Learning rate of plain SGD.")
    epochs: int = flag(1, COUNT, "Passes over the training examples.")
    max_steps: int = flag(0, COUNT_OR_0, "Stop after this many steps; 0: after all epochs.")
    seed: int = flag(0, COUNT_OR_0, "The order of an epoch is a pure function of (seed, epoch).")
    shuffle: bool = flag(True, SWITCH, "Shuffle each epoch; --noshuffle keeps the dataset's order.")
    loss_reduction: str = flag("sum", Choice("sum", "mean"), "The cross-entropy of a batch: sum or mean over it.")
    mode: str = flag(
        "xla", Choice("eager", "graph", "xla"), "A step as plain Python, as a tf.function, in an XLA loop."
    )
    device: str = flag("auto", Choice("auto", "cpu", "gpu"), "Where to train; auto takes a GPU if there is one.")
    tf32: bool = flag(False, SWITCH, "Allow TensorFloat-32 matmuls on GPUs that have them.")
    data_dir: str | None = flag(None, TEXT, "Prepared datasets; default: tfds's own, ~/tensorflow_datasets.")
    manual_dir: str | None = flag(None, TEXT, "The dataset's archives; default: archives/DATASET beside train.py.")
    input: str = flag(
        "auto",
        Choice("auto", "memory", "stream"),
        "Training data in memory, or streamed from disk; auto: in memory up to a quarter of the device's.",
    )
    strategy: str = flag("none", Choice("none", "mirrored", "multi_worker"), "How devices or machines train together.")
    replicas: int = flag(0, COUNT_OR_0, "Devices of --strategy=mirrored, a CPU split into as many; 0: every GPU.")
    timeout: int = flag(60, COUNT, "Seconds to wait for another worker of --strategy=multi_worker.")
    eval_first: int = flag(50, COUNT_OR_0, "Validate after each of the first steps, this many.")
    eval_every: int = flag(200, COUNT_OR_0, "Then validate every this many steps; 0: only at the end.")
    target_accuracy: float | None = flag(None, SHARE, "Stop at the first validation accuracy that reaches this.")
    checkpoint_dir: str | None = flag(
        None, TEXT, "Keep checkpoints here; the same command then goes on from the newest."
    )
    checkpoint_every: int = flag(
        100_000, COUNT, "Steps between checkpoints, at most; one more at the end and at Ctrl-C."
    )
    export_dir: str | None = flag(None, TEXT, "Write the trained model to this folder as a SavedModel.")
    overwrite: bool = flag(False, SWITCH, "Let --export_dir replace the SavedModel that is there.")
    logdir: str | None = flag(None, TEXT, "Write TensorBoard logs to this folder.")
    record: str | None = flag(None, TEXT, "Write the run to this file as one JSON object.")
    figures: str | None = flag(None, TEXT, "Draw what was learned, as four pictures in this folder.")


def parse(config_class: type[ConfigT], argv: list[str], summary: str) -> ConfigT:
    """Returns the flags of `argv` as a frozen `config_class`; raises InputError on one that is not allowed.

    `--help` prints `summary` and every flag, then exits with 0.
    """
    values = absl_flags.FlagValues()
    values.set_gnu_getopt()
    named = [field for field in dataclasses.fields(config_class) if field.metadata["parser"]]
    unnamed = [field.name for field in dataclasses.fields(config_class) if not field.metadata["parser"]]
    for field in named:
        name, parser, text = field.name, field.metadata["parser"], field.metadata["help"]
        if parser is SWITCH:
            absl_flags.DEFINE_boolean(name, field.default, text, values)
            values[name].parser = parser
        else:
            absl_flags.DEFINE(parser, name, field.default, text, values, absl_flags.ArgumentSerializer())
    absl_flags.DEFINE_boolean("help", False, "Show all flags and exit.", values, short_name="h")
    try:
        stray = values(argv)[1:]
    except absl_flags.Error as error:
        message = " ".join(str(error).split()).replace("flag --", "--")
        raise InputError(f"{message}; see --help") from None
    if stray and not unnamed:
        raise InputError(f"stray argument {stray[0]!r}: a flag is written --name=value; see --help")
    if values.help:
        print(f"{summary}\n{values.get_help()}")
        sys.exit(0)
    return config_class(
        **{field.name: values[field.name].value for field in named}, **dict.fromkeys(unnamed, tuple(stray))
    )
