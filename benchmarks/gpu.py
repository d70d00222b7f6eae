"""Proves on a GPU all that a CPU could not: python -m benchmarks.gpu --output=DIR

It leaves DIR/gpu.json and DIR/gpu.md and, on a GPU, its table in docs/gpu.md. What fails is said, and the next part
goes on; the command then exits with 1. With --device=cpu it runs what a CPU has, in less of it.
"""

import dataclasses
import datetime
import json
import pathlib
import tempfile
import time
from typing import Any

from benchmarks import gpu_checks, pages, runs
from benchmarks.gpu_checks import Bench, Row
from common.errors import InputError, reason
from common.files import writable_folder, write_atomically
from common.flagging import TEXT, choice, flag

PAGE = pages.PROJECT / "docs" / "gpu.md"
VERDICTS = {True: "held", False: "**failed**", None: ""}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(runs.Runs):
    """The flags of this benchmark."""

    output: str | None = flag(None, TEXT, "The folder for gpu.json and gpu.md.")
    device: str = flag("gpu", choice("gpu", "cpu"), "What to look at.")


def looked_at(name: str, bench: Bench) -> dict[str, Any]:
    """Returns a part's rows and its seconds; one that raises is a row that failed."""
    part, began = gpu_checks.PARTS[name], time.perf_counter()
    try:
        rows = part(bench)
    except SystemExit as error:  # the survey has said why
        if error.code not in (1, 2):
            raise
        rows = [Row("the survey", f"left with {error.code}", False)]
    except Exception as error:
        rows = [Row(part.__name__, f"{type(error).__name__}: {reason(error)}", False)]
    title = (part.__doc__ or name).partition("\n")[0]
    return {
        "title": title,
        "seconds": time.perf_counter() - began,
        "rows": [row._asdict() for row in rows],
    }


def table(found: dict[str, Any]) -> list[str]:
    """Returns the rows of all parts as Markdown, and below them when and how they were made."""
    lines = ["| | what | seen | verdict |", "|---|---|---|---|"]
    for part in found["parts"].values():
        lines.append(
            f"| **{part['title'][:3]}** | **{part['title'][4:]}** | {part['seconds']:.0f} s | |"
        )
        for row in part["rows"]:
            what, shown = (row[key].replace("|", r"\|") for key in ("what", "shown"))
            lines.append(f"| | {what} | {shown} | {VERDICTS[row['held']]} |")
    return [*lines, "", f"{failures(found)} failed · {found['date']} · `{found['command']}`"]


def failures(found: dict[str, Any]) -> int:
    """Returns how many checks failed."""
    return sum(row["held"] is False for part in found["parts"].values() for row in part["rows"])


def write(found: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes what has been found so far."""
    title = (
        "# This program on a GPU" if found["device"] == "gpu" else "# The checks of a GPU, on a CPU"
    )
    texts = {
        "gpu.json": json.dumps(found, indent=1),
        "gpu.md": "\n".join([title, "", *table(found)]),
    }
    for name, text in texts.items():
        content = f"{text}\n".encode()
        write_atomically(folder / name, lambda file, content=content: file.write(content))  # type: ignore[misc]


def measure(config: Config) -> int:
    """Looks at each part, shows and writes it; returns 1 if a check failed."""
    if not config.output:
        raise InputError("--output: must be a folder, such as --output=gpu")
    folder = writable_folder("output", config.output)
    folder.mkdir(parents=True, exist_ok=True)
    command = f"python -m benchmarks.gpu --output=DIR --device={config.device}"
    found: dict[str, Any] = {
        "device": config.device,
        "date": f"{datetime.date.today()}",
        "command": command,
        "parts": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(config, config.device, pathlib.Path(scratch))
        for name in gpu_checks.PARTS:
            part = found["parts"][name] = looked_at(name, bench)
            print(f"{part['title']} {part['seconds']:.0f} s", flush=True)
            for row in part["rows"]:
                print(
                    f"  {VERDICTS[row['held']].strip('*'):6}  {row['what']}: {row['shown']}",
                    flush=True,
                )
            write(found, folder)
    if config.device == "gpu":
        pages.rewrite_blocks(PAGE, {"gpu": "\n".join(table(found))})
    print(f"{failures(found)} failed; written: {folder / 'gpu.json'}, {folder / 'gpu.md'}")
    return int(failures(found) > 0)


if __name__ == "__main__":
    runs.main(Config, measure, __doc__)
