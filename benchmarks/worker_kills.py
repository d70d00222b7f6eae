"""Kills of a worker at random moments of a two-worker run, for the fault campaign."""

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

from benchmarks import places, runs
from benchmarks.places import Outcome
from common import children
from common.errors import RunError
from runtime import startup

JOB = ("--batch_size=100", "--lr=0.001", "--epochs=4", "--checkpoint_every=100", "--timeout=20")
NAMES, ATTEMPTS = ("chief", "other worker"), 10
TOLERANCE = 1e-5  # of a weight, against a run on one device


class TwoWorkers:
    """Two-worker runs below a folder, each killed once and started again, against the weights of one device."""

    def __init__(self, folder: pathlib.Path, *arguments: str):
        self.folder, self.command = (
            folder,
            [sys.executable, str(runs.PROJECT / "train.py"), *JOB, *arguments],
        )
        began = time.monotonic()
        self._finished(folder / "one", [{}])
        self.expected = weights(folder / "one")
        # About as long as two workers take; who is killed too late is not counted.
        self.window = 3 * (time.monotonic() - began)

    def kill(self, number: int, seed: int = 0) -> Outcome:
        """Kills a worker at a moment that `seed` and `number` choose, starts both again, and compares the weights."""
        rng = random.Random(seed * 1000 + number)
        try:
            for attempt in range(ATTEMPTS):
                kept = self.folder / f"{number}_{attempt}"
                victim, seconds = rng.randrange(len(NAMES)), rng.uniform(0, self.window)
                if (wrong := self._killed(kept, victim, seconds)) is not None:
                    break
            else:
                wrong = "never caught running"
            if not wrong:
                self._finished(kept, runs.loopback(len(NAMES)))
                wrong = differs(weights(kept), self.expected)
        except RunError as error:
            wrong = str(error)
        print(
            f"kill {number + 1} of a worker, {NAMES[victim]}, after {seconds:.2f} s: {wrong or 'held'}",
            flush=True,
        )
        return Outcome(NAMES[victim], not wrong, wrong or "held")

    def _killed(self, kept: pathlib.Path, victim: int, seconds: float) -> str | None:
        """Returns what is wrong with how the other worker ended, "" if nothing is; None if the kill came too late."""
        with self._started(kept, runs.loopback(len(NAMES))) as processes:
            time.sleep(seconds)
            processes[victim].kill()
            errors = [process.communicate()[1] for process in processes][1 - victim]
        other = processes[1 - victim].returncode
        if processes[victim].returncode != -signal.SIGKILL or other == 0:
            return None
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        return (
            ""
            if other == 1 and len(lines) == 1 and "Traceback" not in errors
            else f"exit {other}: {errors[-300:]}"
        )

    @contextlib.contextmanager
    def _started(
        self, kept: pathlib.Path, environments: list[dict[str, str]]
    ) -> Iterator[list[subprocess.Popen]]:
        """Yields runs that keep checkpoints in `kept`, one for each environment: an empty one has no other workers."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with contextlib.ExitStack() as stack:
            processes = []
            for each in environments:
                command = [
                    *self.command,
                    f"--checkpoint_dir={kept}",
                    *["--strategy=multi_worker"] * bool(each),
                ]
                one = children.started(command, places.TIMEOUT, env=os.environ | each, **options)
                processes.append(stack.enter_context(one))
            yield processes

    def _finished(self, kept: pathlib.Path, environments: list[dict[str, str]]) -> None:
        """Lets such runs train to their end; raises RunError if one fails."""
        with self._started(kept, environments) as processes:
            for process in processes:
                _, errors = process.communicate()
                if process.returncode:
                    raise RunError(f"exit {process.returncode}: {errors[-300:]}")


def weights(kept: pathlib.Path) -> list[np.ndarray]:
    """Returns W and b of the newest checkpoint in a folder."""
    with startup.quiet():
        import tensorflow as tf

    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(kept))
    return [reader.get_tensor(f"model/{name}/.ATTRIBUTES/VARIABLE_VALUE") for name in ("W", "b")]


def differs(found: list[np.ndarray], expected: list[np.ndarray]) -> str:
    """Returns by how much weights differ, if by more than TOLERANCE."""
    most = max(np.abs(one - other).max() for one, other in zip(found, expected, strict=True))
    return "" if most <= TOLERANCE else f"weights differ by {most:.1e}"
