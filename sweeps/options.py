"""The flags of sweep.py, those of train.py and its own, and the runs that they ask for."""

import dataclasses
import itertools
import math
from typing import Any

import flags
from common import files, flagging, plots
from common.errors import InputError
from common.flagging import COUNT_OR_0, SWITCH, TEXT, flag
from runtime import cluster

SWEPT = ("batch_size", "loss_reduction", "epochs", "lr", "seed")
OF_ONE_RUN = (
    "checkpoint_dir",
    "checkpoint_every",
    "export_dir",
    "overwrite",
    "logdir",
    "profile",
    "record",
    "figures",
)
OF_SEVERAL_DEVICES = ("strategy", "replicas", "timeout")  # a sweep has each run on one
MOST_RUNS = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own:
    """The flags that train.py has not, or not so."""

    jobs: int = flag(
        0, COUNT_OR_0, "Runs at the same time, where one core serves a run best; 0: one a core."
    )
    output: str | None = flag(
        None, TEXT, "Keep each finished run in this FILE.jsonl; the same command does the rest."
    )
    figures: str | None = flag(
        None, TEXT, "Draw accuracy over learning rate and over steps, in this folder."
    )
    yes: bool = flag(False, SWITCH, f"Allow more than {MOST_RUNS:,} runs.")
    eval_every: int | None = flag(
        None,
        COUNT_OR_0,
        "As in train.py; default: as there with --figures or --target_accuracy, else 0, at the end.",
    )


def parse(argv: list[str], summary: str | None) -> tuple[list[flags.Config], Own]:
    """Returns the runs that `argv` asks for, and the flags of none; raises InputError on what is not allowed."""
    own_names = [field.name for field in dataclasses.fields(Own)]
    left_out = {*own_names, *OF_ONE_RUN, *OF_SEVERAL_DEVICES}
    of_train = [field for field in dataclasses.fields(flags.Config) if field.name not in left_out]
    fields = [(field.name, Any, _flag(field)) for field in of_train]
    all_flags = dataclasses.make_dataclass("Flags", fields, bases=(Own,), frozen=True, kw_only=True)
    given = dataclasses.asdict(flagging.parse(all_flags, argv, summary))
    own = Own(**{name: given.pop(name) for name in own_names})
    every = flags.Config.eval_every if own.figures or given["target_accuracy"] else 0
    given["eval_every"] = every if own.eval_every is None else own.eval_every
    values = [given.pop(name) for name in SWEPT]
    if (count := math.prod(map(len, values))) > MOST_RUNS and not own.yes:
        raise InputError(f"{count:,} runs: at most {MOST_RUNS:,} without --yes")
    files.check_writable("output", own.output, replace=True)
    if own.figures:
        files.writable_folder("figures", own.figures)
        with plots.look("--figures"):  # says now that matplotlib is missing
            pass
    each = (
        dict(zip(SWEPT, combination, strict=True)) for combination in itertools.product(*values)
    )
    return [cluster.settled(flags.Config(**given, **one)) for one in each], own


def _flag(field: dataclasses.Field) -> Any:
    """Returns a flag of train.py as a field of this command: several values where they are swept."""
    default, parser, text = field.default, field.metadata["parser"], field.metadata["help"]
    if field.name not in SWEPT:
        return flag(default, parser, text)
    return flag(str(default), flagging.List(parser, f"{parser.syntactic_help}, or several"), text)
