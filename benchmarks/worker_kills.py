"""Kills of a worker at random moments of a two-worker run: python -m benchmarks.worker_kills --kills=20"""

import dataclasses
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import runs
from benchmarks.places import Outcome
from common import flagging
from common.errors import RunError

JOB = ("--batch_size=100", "--lr=0.001", "--epochs=4", "--checkpoint_every=100", "--timeout=20")
WORKERS, ATTEMPTS = 2, 10
TOLERANCE = 1e-5  # of a weight, against a run on one device


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(runs.Runs):
    """The flags of the campaign."""

    kills: int = flagging.flag(20, flagging.COUNT, "Workers to kill at a random moment, and runs to start again.")
    seed: int = flagging.flag(0, flagging.COUNT_OR_0, "Seed of the moments.")


class TwoWorkers:
    """Two-worker runs below a folder, each killed once and started again, against the weights of one device."""

    def __init__(self, folder: pathlib.Path, *arguments: str):
        self.folder, self.command = folder, [sys.executable, str(runs.PROJECT / "train.py"), *JOB, *arguments]
        began = time.monotonic()
        self._finished([self._start(folder / "one", {})])
        self.expected = weights(folder / "one")
        # About as long as two workers take; who is killed too late is not counted.
        self.window = 3 * (time.monotonic() - began)

    def kill(self, number: int, seed: int = 0) -> Outcome:
        """Kills a worker at a moment that `seed` and `number` choose, starts both again, and compares the weights."""
        rng = random.Random(seed * 1000 + number)
        for attempt in range(ATTEMPTS):
            kept = self.folder / f"{number}_{attempt}"
            victim, seconds = rng.randrange(WORKERS), rng.uniform(0, self.window)
            if (wrong := self._killed(kept, victim, seconds)) is not None:
                break
        else:
            wrong = "never caught running"
        try:
            if not wrong:
                self._finished(self._both(kept))
                wrong = differs(weights(kept), self.expected)
        except RunError as error:
            wrong = str(error)
        return Outcome(f"worker {victim} killed after {seconds:.2f} s", not wrong, wrong or "same weights")

    def _killed(self, kept: pathlib.Path, victim: int, seconds: float) -> str | None:
        """Returns what is wrong with how the other worker ended, "" if nothing is; None if the kill came too late."""
        processes = self._both(kept)
        time.sleep(seconds)
        processes[victim].kill()
        ends = [process.communicate() for process in processes]
        other = processes[1 - victim].returncode
        if processes[victim].returncode != -signal.SIGKILL or other == 0:
            return None
        errors = ends[1 - victim][1]
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        return "" if other == 1 and len(lines) == 1 and "Traceback" not in errors else f"exit {other}: {errors[-300:]}"

    def _both(self, kept: pathlib.Path) -> list[subprocess.Popen]:
        return [self._start(kept, environment) for environment in runs.loopback(WORKERS)]

    def _start(self, kept: pathlib.Path, environment: dict[str, str]) -> subprocess.Popen:
        command = [*self.command, f"--checkpoint_dir={kept}", *["--strategy=multi_worker"] * bool(environment)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ | environment)

    def _finished(self, processes: list[subprocess.Popen]) -> None:
        """Waits for runs; raises RunError if one fails."""
        for process in processes:
            _, errors = process.communicate()
            if process.returncode:
                raise RunError(f"exit {process.returncode}: {errors[-300:]}")


def weights(kept: pathlib.Path) -> list[np.ndarray]:
    """Returns W transposed and b of the newest checkpoint in a folder."""
    import tensorflow as tf

    from outputs import checkpoints

    return list(checkpoints.read(tf.train.latest_checkpoint(kept))[1:])


def differs(found: list[np.ndarray], expected: list[np.ndarray]) -> str:
    """Returns by how much weights differ, if by more than TOLERANCE."""
    most = max(np.abs(one - other).max() for one, other in zip(found, expected, strict=True))
    return "" if most <= TOLERANCE else f"weights differ by {most:.1e}"


def measure(config: Config) -> int:
    """Kills and starts again; exit code 1 if anything did not hold."""
    with tempfile.TemporaryDirectory(prefix="worker_kills.") as folder:
        workers, held = TwoWorkers(pathlib.Path(folder), *config.where), 0
        for number in range(config.kills):
            outcome = workers.kill(number, config.seed)
            held += bool(outcome.held)
            print(f"{number + 1}: {outcome.fault}: {outcome.shown}", flush=True)
    print(f"{held} of {config.kills} restarts ended with the weights of one device to {TOLERANCE:g}")
    return int(held < config.kills)


if __name__ == "__main__":
    runs.main(Config, measure, __doc__)
