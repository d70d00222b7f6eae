"""Runs of train.py for the fault campaign: started, killed, and judged by the weights they end with."""

import dataclasses
import json
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable

from common import children, files
from common.files import PROJECT

LEFTOVERS = (f"{files.OURS}*", "*incomplete*", "*_temp*", "*.tmp*", ".checkpoint.*")
# so that checkpoints are most of the training time
FLAGS = ("--max_steps=1500", "--checkpoint_every=50")
TIMEOUT = 600  # seconds of a run


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One fault: what was done, whether all that was promised held, and the line or state that shows it."""

    fault: str
    held: bool | None  # None: skipped
    shown: str


class Place:
    """A folder with everything one run reads and writes; the command that runs there is always the same."""

    def __init__(
        self,
        folder: pathlib.Path,
        data_dir: pathlib.Path | None = None,
        copy_of: "Place | None" = None,
    ):
        self.folder = folder
        folder.mkdir()
        self.data_dir = data_dir or folder / "data"
        self.checkpoints, self.export, self.record = (
            folder / "checkpoints",
            folder / "model",
            folder / "record.json",
        )
        if copy_of:
            for part in ("data", "checkpoints", "model"):
                shutil.copytree(copy_of.folder / part, folder / part)

    def command(self, *more: str) -> list[str]:
        train = [
            sys.executable,
            str(PROJECT / "train.py"),
            *FLAGS,
            "--overwrite",
            f"--data_dir={self.data_dir}",
        ]
        written = [
            f"--checkpoint_dir={self.checkpoints}",
            f"--export_dir={self.export}",
            f"--record={self.record}",
        ]
        return [*train, *written, *more]

    def run(self, *more: str) -> subprocess.CompletedProcess:
        """Runs the command to its end."""
        return children.run(self.command(*more), TIMEOUT)

    def broken_run(
        self, after: str, breaks: Callable[[], None], *more: str
    ) -> subprocess.CompletedProcess:
        """Runs the command to its end, and breaks something once it has printed a line with `after`."""

        def broken(process: subprocess.Popen) -> None:
            assert process.stdout
            if any(after in line for line in process.stdout):
                breaks()

        return children.run(self.command(*more), TIMEOUT, broken)

    def killed_run(self, after: str | None, seconds: float, *more: str) -> bool:
        """Kills the command `seconds` after its line with `after`, or after its start; False if it ended before."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with children.started(self.command(*more), TIMEOUT, **options) as process:
            stdout = process.stdout
            assert stdout
            if after and not any(after in line for line in stdout):
                return False
            reader = threading.Thread(target=stdout.read)  # a full pipe would hold the run up
            reader.start()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
            reader.join()
            return process.wait() == -signal.SIGKILL

    def weights(self) -> str:
        """Returns weights_sha256 of the record."""
        return json.loads(self.record.read_text())["weights_sha256"]

    def shortened(self, text: str) -> str:
        """Returns `text` without the names of this machine's folders."""
        for folder in (self.folder.parent, PROJECT, tempfile.gettempdir()):
            text = text.replace(str(folder), "")
        return re.sub(r"/faults\.\w+", "", text)

    def failure(self, done: subprocess.CompletedProcess) -> str:
        """Returns the code and the end of stderr of a run."""
        return f"exit {done.returncode}: {self.shortened(done.stderr.strip())[-300:]}"

    def whole_after(self, done: subprocess.CompletedProcess, expected: str) -> str:
        """Returns what is wrong after a run that should have ended like the reference; an empty string if nothing."""
        if done.returncode:
            return self.failure(done)
        if self.weights() != expected:
            return "other weights"
        if not (self.export / "saved_model.pb").exists():
            return "no exported model"
        left = sorted(
            str(path.relative_to(self.folder))
            for name in LEFTOVERS
            for path in self.folder.rglob(name)
        )
        return f"left {left}" if left else ""

    def same_weights(self, fault: str, done: subprocess.CompletedProcess, expected: str) -> Outcome:
        """Judges a run that must end like the reference."""
        wrong = self.whole_after(done, expected)
        return Outcome(fault, not wrong, wrong or "same weights")

    def refused(
        self, fault: str, done: subprocess.CompletedProcess, code: int, words: str
    ) -> Outcome:
        """Judges a run that must end with `code` and one line on stderr that has `words`, and no traceback."""
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        held = (
            done.returncode == code
            and len(lines) == 1
            and words in lines[0]
            and "Traceback" not in done.stderr
        )
        return Outcome(fault, held, self.shortened(lines[0]) if held else self.failure(done))


@dataclasses.dataclass(frozen=True)
class Phase:
    """When a run is killed: at most `window` seconds after its line with `after`, or after its start."""

    name: str
    share: int  # of 50 kills
    after: str | None
    window: float


PHASES = (
    Phase("import", 10, None, 3.0),
    Phase("first-run preparation", 5, "preparing", 18.0),
    Phase("decoding", 5, "decoding", 5.0),
    Phase("compile, training, checkpoint writes", 20, "training,", 2.5),
    Phase("export and exit", 10, "test accuracy", 0.5),
)


def moments(kills: int, seed: int) -> list[tuple[Phase, random.Random]]:
    """Returns the phase of each kill, in shuffled order, and where its random moments come from."""
    wheel = [phase for phase in PHASES for _ in range(phase.share)]
    random.Random(seed).shuffle(wheel)
    return [
        (wheel[number % len(wheel)], random.Random(seed * 1000 + number)) for number in range(kills)
    ]
