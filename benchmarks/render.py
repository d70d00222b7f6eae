"""What the records say, as the blocks of the pages: between <!-- name --> and <!-- /name -->."""

import functools
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.common import load, median_range, python
from common.files import PROJECT

QUIET = 0.2  # cores that other processes may keep busy
ABOUT = (
    "{date} on {device_name}, {cores} cores; Python {python}, TensorFlow {tensorflow}; "
    "commit {git_commit:.12}.{others} To repeat it: `{command}`"
)
Line = Sequence[object]


def table(heads: Line, rows: Iterable[Line]) -> str:
    """Returns a Markdown table, all but its first column to the right."""
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def conditions(about: dict[str, Any]) -> str:
    """Returns when and where a record was made, and how to make it again."""
    others = f" **The machine was not quiet**: others kept {about['other_cores']} cores busy."
    return ABOUT.format_map({**about, "others": others * (about["other_cores"] > QUIET)})


def samples(name: str) -> str:
    """Returns the table of what was measured in rounds."""
    about, found = load(name)
    rows = [(what, median_range(values)) for what, values in found.items()]
    heads = ("what", f"median (min-max) of {len(next(iter(found.values())))} rounds")
    return f"{table(heads, rows)}\n\n{conditions(about)}"


def quoted(text: str) -> str:
    """Returns a text as a block of a page."""
    return f"```text\n{text.rstrip()}\n```"


def output() -> str:
    """The first and the last lines that the main job prints."""
    lines = load("main_job")[1]["train"].splitlines()
    return quoted("\n".join([*lines[:3], "...", *lines[-5:]]))


def predict() -> str:
    """What predict.py prints."""
    return quoted(load("main_job")[1]["predict"])


def flags() -> str:
    """What `python train.py --help` prints."""
    return quoted(python("train.py", "--help").output)


def accuracy() -> str:
    """The test accuracy at the learning rate of the main job."""
    said = [
        f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f} with `--epochs={epochs}`"
        for epochs, values in load("rates")[1]["test accuracies"].items()
    ]
    return f"Test accuracy, mean ± standard deviation over ten seeds: {', '.join(said)}."


def rates() -> str:
    """The table that sweep.py prints over the learning rate, and what it says below."""
    about, found = load("rates")
    return f"{found['printed'].rstrip()}\n\n{conditions(about)}"


def compared(name: str) -> str:
    """What compare.py has written of a comparison: its tables, charts and notes."""
    text = (PROJECT / "docs" / "comparison" / f"{name}.md").read_text()
    return re.sub(r"(\]\(|src(?:set)?=\")(?=\w)", r"\1comparison/", text).rstrip()


def peers() -> str:
    """The first table of the comparison at batch 10, and the machine."""
    title, body, *_, notes = compared("batch10").split("\n\n")
    return f"{body}\n\n{title.strip('*')}; {notes.rpartition('- ')[2]}"


def batch_sizes() -> str:
    """The last table of the comparison over the batch size, with what is below it."""
    return compared("sweep").rpartition("**Images a second**\n\n")[2]


def noise() -> str:
    """How often the comparison and its guard are wrong."""
    about, found = load("noise")
    rows = [(what, f"{share:.1f}") for what, share in found.items()]
    return f"{table(('of 100 runs of 7 rounds', 'found'), rows)}\n\n{conditions(about)}"


def history() -> str:
    """A line a release."""
    lines = load("history")[1]
    return table(list(lines[-1]), [list(line.values()) for line in lines])


def faults(part: str, heads: Line) -> str:
    """How often one part of the fault campaign held."""
    about, found = load("faults")
    rows = [(fault, *counts) for fault, counts in found[part].items()]
    return f"{table(heads, rows)}\n\n{conditions(about)}"


SAMPLES = ("start", "modes", "variants", "batches", "large", "replicas")
BLOCKS: dict[str, Callable[[], str]] = {
    **{name: functools.partial(samples, name) for name in SAMPLES},
    "output": output,
    "predict": predict,
    "flags": flags,
    "accuracy": accuracy,
    "rates": rates,
    "peers": peers,
    "batch10": functools.partial(compared, "batch10"),
    "sweep": batch_sizes,
    "noise": noise,
    "history": history,
    "kills": functools.partial(faults, "kills", ("killed in", "kills", "restarts that held")),
    "faults": functools.partial(faults, "faults", ("fault", "tried", "held")),
}
PAGES = (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))


def rendered(page: str) -> str:
    """Returns the text of a page with all blocks that are in it as the records have them."""

    def block(found: re.Match) -> str:
        start, name, end = found.groups()
        return f"{start}{BLOCKS[name]()}\n{end}" if name in BLOCKS else found[0]

    return re.sub(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", block, page, flags=re.S)


def write() -> None:
    """Writes the pages."""
    for path in PAGES:
        path.write_text(rendered(path.read_text()))
