"""One measurement: a contender in a fresh process does the job, and this process times it."""

import contextlib
import dataclasses
import json
import pathlib
import re
import subprocess
import time
from typing import Any

import numpy as np
import pyperf

from common import children
from common.commandline import Config
from common.errors import reason
from common.files import PROJECT, write_atomically
from comparison import system, work
from comparison.peers import Contender
from comparison.worker import LEFT_OUT, Task

LONG_ENOUGH = 0.3  # minimum seconds of jobs in a measurement; a fast contender repeats its job
WARM_SECONDS = 1.0  # of untimed jobs on a GPU, whose clock rate is low at rest
SHORT_GAP = 0.02  # seconds; writing the weights and resetting them takes a few milliseconds
WEIGHTS = ("W.npy", "b.npy")
# a line that names an error
TELLING = re.compile(r"(?i).*(?:\berror\b|\w(?:error|exception)\b|\bcannot\b|\bfailed\b|no such).*")

now = time.perf_counter


class Failed(Exception):  # noqa: N818 - a contender's, not this program's
    """A measurement without a time; the message says why, in one line."""


class LeftOut(Failed):
    """A contender that cannot use the device or the precision."""


@dataclasses.dataclass
class Bench:
    """Measures tasks.

    folder, references: from `work.prepare`; contenders get the folder. config: only the flags
    timeout and keep_env are used.
    """

    folder: pathlib.Path
    contenders: dict[str, Contender]
    references: dict[tuple[str, str], work.Reference]
    config: Config

    @property
    def log(self) -> pathlib.Path:
        """Returns the file with the stderr of the last contender."""
        return self.folder / "log"

    def measure(self, task: Task, number: int) -> pyperf.Run:
        """Returns the run of a round, in seconds per step; raises Failed if the contender ends,
        does other work, or takes too long."""
        write_atomically(self.folder / "job.json", json.dumps(vars(task)).encode())
        other_cores = system.watch()
        found = self.result(task)
        if "disturbed" in found:
            found = self.result(task)  # the GPU may be undisturbed now
        found |= {"name": task.name, "round": number, "other_cores": other_cores()}
        return pyperf.Run(
            [found.pop("seconds")],
            metadata=found | vars(task),
            collect_metadata=False,
        )

    def result(self, task: Task) -> dict[str, Any]:
        """Runs the contender; returns the seconds per step and its other figures."""
        contender, config = self.contenders[task.contender], self.config
        began = now()
        with (
            contextlib.suppress(EOFError, BrokenPipeError),  # it has ended too early
            self.log.open("w") as log,
            system.pinned(task.cores),
            children.started(
                contender.argv(self.folder),
                config.timeout,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=PROJECT if contender.function else None,
                env=system.environment(task.device, self.folder, config.keep_env),
                errors="replace",
            ) as process,
        ):
            return self.talk(process, began, task)
        code = process.returncode
        why = telling_line(self.log.read_text(errors="replace")) or f"exit code {code}"
        if now() - began > config.timeout:
            why = f"given up after {config.timeout} s"
        raise LeftOut(why) if code == LEFT_OUT else Failed(why)

    def talk(self, process: subprocess.Popen, began: float, task: Task) -> dict[str, Any]:
        """Repeats and checks the contender's job until it was timed for LONG_ENOUGH."""
        word = wait_for(process, "loaded", "ready")
        loaded = now()
        found: dict[str, Any] = {"start": loaded - began}
        if word == "loaded":
            wait_for(process, "ready")
            found["compile"] = now() - loaded
        if task.device == "gpu":
            self.repeat(process, task, WARM_SECONDS)
        before = system.gpu_state(task.device)
        jobs = self.repeat(process, task, LONG_ENOUGH)
        after = system.gpu_state(task.device)
        job, gap, error = np.median(jobs, axis=0)
        if gap > job + SHORT_GAP:  # it works outside the clock
            raise Failed(f"worked {gap:.3f} s between done and ready, {job:.3f} s on the job")
        joules = after.pop("joules", None)
        if joules and "joules" in before:  # includes the pauses between jobs
            found["joules_per_step"] = (joules - before["joules"]) / len(jobs) / task.steps
        return found | {
            "seconds": job / task.steps,
            "loops": len(jobs),
            "inner_loops": task.steps,
            "relative_error": error,
            "peak_mib": system.peak_mib(),
            **after,
        }

    def repeat(
        self, process: subprocess.Popen, task: Task, seconds: float
    ) -> list[tuple[float, float, float]]:
        """Repeats the job until all have taken `seconds`; returns of each its seconds, the seconds
        of the pause after it, and its relative error."""
        jobs: list[tuple[float, float, float]] = []
        reference = self.references[task.job, task.precision]
        while seconds > 0:
            for name in WEIGHTS:
                (self.folder / name).unlink(missing_ok=True)
            began = now()
            print("go", file=process.stdin, flush=True)
            wait_for(process, "done")
            ended = now()
            wait_for(process, "ready")
            pause = now() - ended
            jobs.append((ended - began, pause, verify(self.folder, reference)))
            seconds -= ended - began
        return jobs


def wait_for(process: subprocess.Popen, *words: str) -> str:
    """Returns the first of `words` that a contender prints; raises EOFError if it has ended."""
    assert process.stdout
    for word in map(str.strip, process.stdout):
        if word in words:
            return word
    process.wait()
    raise EOFError


def verify(folder: pathlib.Path, reference: work.Reference) -> float:
    """Returns the relative error of a contender's weights; raises Failed if it did other work."""
    expected, low, high = reference
    weights = [np.zeros_like(array, np.float32) for array in expected]
    try:
        for name, array in zip(WEIGHTS, weights, strict=True):
            # refuses other types, and shapes that do not fit
            np.copyto(array, np.load(folder / name), casting="no")
    except Exception as why:  # what a program writes can make NumPy raise anything
        raise Failed(
            f"W.npy [features, classes] and b.npy [classes] must be float32: {reason(why)}"
        ) from None
    error = work.relative_error(weights, expected)
    if not low <= error <= high:  # also if it is nan
        raise Failed(
            f"not the same work: W, b off by {error:.1e}; must be {low:.1e} to {high:.1e}, as "
            "rounding alone makes it"
        )
    return error


def telling_line(log: str) -> str:
    """Returns the last line of a log that names an error, or otherwise the last line."""
    lines = TELLING.findall(log) or re.findall(r"\S.*", log) or [""]
    return lines[-1].strip()
