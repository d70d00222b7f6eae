"""Runs of train.py for the fault campaign: started, killed, and judged by the weights they end with."""

import dataclasses
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

PROJECT = pathlib.Path(__file__).parent.parent
LEFTOVERS = ("*incomplete*", ".decoded.npz.*", "*_temp*", "*.tmp*", "*.new.*", "*.replaced", ".checkpoint.*")
FLAGS = ("--max_steps=1500", "--checkpoint_every=50")  # 27 checkpoints of 6 ms each: most of the training time


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One fault: what was done, whether all that was promised held, and the line or state that shows it."""

    fault: str
    held: bool | None  # None: skipped
    shown: str


class Place:
    """A folder with everything one run reads and writes; the command that runs there is always the same."""

    def __init__(self, folder: pathlib.Path, data_dir: pathlib.Path | None = None):
        self.folder = folder
        folder.mkdir()
        self.data_dir = data_dir or folder / "data"
        self.checkpoints, self.export, self.record = folder / "checkpoints", folder / "model", folder / "record.json"

    def command(self, *more: str) -> list[str]:
        return [
            sys.executable,
            str(PROJECT / "train.py"),
            *FLAGS,
            f"--data_dir={self.data_dir}",
            f"--checkpoint_dir={self.checkpoints}",
            f"--export_dir={self.export}",
            "--overwrite",
            f"--record={self.record}",
            *more,
        ]

    def run(self, *more: str) -> subprocess.CompletedProcess:
        """Runs the command to its end."""
        return subprocess.run(self.command(*more), capture_output=True, text=True)

    def killed_run(self, after: str | None, seconds: float, *more: str) -> bool:
        """Kills the command `seconds` after its line with `after`, or after its start; False if it ended before."""
        process = subprocess.Popen(self.command(*more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            if after and not any(after in line for line in process.stdout):
                return False
            reader = threading.Thread(target=process.stdout.read)  # so that a full pipe does not hold the run up
            reader.start()
            time.sleep(seconds)
        finally:
            process.kill()
        code = process.wait()
        reader.join()
        process.stdout.close()
        return code == -signal.SIGKILL

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

    def leftovers(self) -> list[str]:
        """Returns the names of half-written files and folders."""
        return sorted(
            str(path.relative_to(self.folder)) for pattern in LEFTOVERS for path in self.folder.rglob(pattern)
        )

    def whole_after(self, done: subprocess.CompletedProcess, expected: str) -> str:
        """Returns what is wrong after a run that should have ended like the reference; an empty string if nothing."""
        if done.returncode:
            return self.failure(done)
        if self.weights() != expected:
            return "other weights"
        if not (self.export / "saved_model.pb").exists():
            return "no exported model"
        return f"left {self.leftovers()}" if self.leftovers() else ""


def linked(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """Returns `target`, a copy of the folder `source`."""
    shutil.copytree(source, target)
    return target
