"""Every flag of compare.py, once: name, default, help and what is allowed."""

import dataclasses

from absl import flags as absl_flags

from common.flagging import COUNT, COUNT_OR_0, POSITIVE, TEXT, List, choice, flag
from comparison import work
from comparison.contenders import CONTENDERS, DEVICE_NAMES

NAMES = List(choice(*CONTENDERS), f"some of {', '.join(CONTENDERS)}")
DEVICES = List(choice(*DEVICE_NAMES), f"some of {', '.join(DEVICE_NAMES)}")
SIZES = List(COUNT, "whole numbers above 0")
ROUNDS = absl_flags.IntegerParser(lower_bound=2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of a comparison, frozen. A field is a flag; its default and help stand here only."""

    contenders: tuple[str, ...] | None = flag(None, NAMES, "Who takes part; the first is the baseline. Default: all.")
    devices: tuple[str, ...] | None = flag(None, DEVICES, "Where to measure. Default: all that are there.")
    rounds: int = flag(5, ROUNDS, "How often each is measured.")
    batch_sizes: tuple[int, ...] = flag("10", SIZES, "Examples in the batch of a step; several make a sweep.")
    # 2,000 steps take the fastest 25 ms and the slowest, which has to take as many, 8 s.
    max_steps: int = flag(2000, COUNT, f"Steps of a measurement, of {work.MAX_IMAGES:,} images at most.")
    lr: float = flag(0.01, POSITIVE, "Learning rate of batches up to 10; larger ones take lr * 10 / batch.")
    seed: int = flag(0, COUNT_OR_0, "The order of an epoch is a pure function of (seed, epoch).")
    dataset: str = flag("mnist", TEXT, "An image-classification dataset of tfds.")
    data_dir: str | None = flag(None, TEXT, "Prepared datasets; default: tfds's own, ~/tensorflow_datasets.")
    manual_dir: str | None = flag(None, TEXT, "The dataset's archives; default: archives/DATASET beside train.py.")
    output: str | None = flag(None, TEXT, "A new FILE.json; FILE.md and the charts are put beside it.")
    merge: tuple[str, ...] | None = flag(None, List(TEXT, "files"), "Show these result files as one; measure nothing.")


def joined_merge(argv: list[str]) -> list[str]:
    """Returns `... --merge a.json b.json ...` as `... --merge=a.json,b.json ...`."""
    if "--merge" not in argv:
        return argv
    start = argv.index("--merge") + 1
    stop = next((i for i in range(start, len(argv)) if argv[i].startswith("-")), len(argv))
    return [*argv[: start - 1], f"--merge={','.join(argv[start:stop])}", *argv[stop:]]
