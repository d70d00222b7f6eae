"""One measurement: a contender in a fresh process does the job while this process keeps the
clock."""

import contextlib
import dataclasses
import json
import pathlib
import re
import statistics
import subprocess
import time
import zipfile
from collections.abc import Collection

import numpy as np
import pyperf

from common import children
from common.errors import RunError
from comparison import system, work
from comparison.peers import Contender
from comparison.worker import LEFT_OUT

LONG_ENOUGH = 0.3  # seconds of jobs: who is faster does the job again and again
WARM_SECONDS = 1.0  # of jobs before the clock counts on a GPU, whose clock is low at rest
CLOSE = 5  # times NumPy's own error in the same precision
TOO_CLOSE = 1e-7  # float64 cast once is at most 6e-8 off; float32 shows more from TEN_STEPS on
TEN_STEPS = 10
SHORT_GAP = 0.02  # seconds: to write the weights and to begin anew takes a few milliseconds
TELLING = re.compile(r"(?i)\berror\b|\w+(error|exception)\b|\bcannot\b|\bfailed\b|no such")


class Failed(Exception):  # noqa: N818 - a contender's, not this program's
    """A measurement without a time: the message says why, in one line."""


class LeftOut(Failed):
    """A contender that cannot use the device or the precision."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One measurement of a round. `again` marks the baseline's second one."""

    contender: str
    device: str
    batch_size: int
    cores: int
    precision: str
    again: bool = False

    def __str__(self) -> str:
        cores = (
            f", {self.cores} core{'s' if self.cores > 1 else ''}" if self.device == "cpu" else ""
        )
        again = " again" if self.again else ""
        return f"{self.contender}{again} on {self.device}{cores}, {self.precision}"


@dataclasses.dataclass
class Reading:
    """What this process's clock and the checks say of a contender; seconds throughout."""

    start: float = 0.0
    compile: float | None = None
    jobs: list[float] = dataclasses.field(default_factory=list)
    gaps: list[float] = dataclasses.field(default_factory=list)  # from done to ready
    errors: list[float] = dataclasses.field(default_factory=list)
    peak_mib: float = 0.0
    joules: float | None = None  # from the first go to the last done
    gpu_mib: float | None = None


class Conversation:
    """Speaks the door's protocol with a contender's process."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    def wait_for(self, *words: str) -> str:
        """Returns the first of `words` that comes; raises EOFError if the process ends before."""
        assert self.process.stdout
        while line := self.process.stdout.readline():
            if line.strip() in words:
                return line.strip()
        raise EOFError

    def job(self) -> tuple[float, float]:
        """Has the job done once; returns its seconds, and those until the contender is ready
        again."""
        stdin = self.process.stdin
        assert stdin
        with contextlib.suppress(BrokenPipeError):  # the end of its answers tells that it is gone
            began = time.perf_counter()
            stdin.write("go\n")
            stdin.flush()
        self.wait_for("done")
        ended = time.perf_counter()
        self.wait_for("ready")
        return ended - began, time.perf_counter() - ended


def weights_in(folder: pathlib.Path, shapes: Collection[tuple[int, ...]]) -> work.Weights:
    """Returns what a contender left; raises Failed unless W and b are float32 and of these
    shapes."""
    found = []
    for name, shape in zip(("W.npy", "b.npy"), shapes, strict=True):
        try:
            array = np.load(folder / name)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise Failed(f"{name} cannot be read: {' '.join(str(error).split())}") from None
        if not isinstance(array, np.ndarray):
            raise Failed(f"{name} must be an array")
        if array.dtype != np.float32 or array.shape != shape:
            raise Failed(f"{name} must be float32 {shape}, is {array.dtype} {array.shape}")
        found.append(array)
    return found[0], found[1]


def verify(folder: pathlib.Path, reference: work.Reference, precision: str, steps: int) -> float:
    """Returns the relative error of what a contender left in `folder`; raises Failed at other
    work."""
    shapes = [array.shape for array in reference.weights]
    error = work.relative_error(weights_in(folder, shapes), reference.weights)
    limit = CLOSE * reference.errors[precision]
    if error > limit:
        raise Failed(f"not the same work: W, b off by {error:.1e}, at most {limit:.1e} is rounding")
    if steps >= TEN_STEPS and error < TOO_CLOSE:
        raise Failed(f"not the same work: W, b off by {error:.1e}, which no float32 can be")
    return error


def check_gaps(reading: Reading) -> None:
    """Raises Failed if a contender works where no clock runs: between done and ready."""
    gap, job = statistics.median(reading.gaps), statistics.median(reading.jobs)
    if gap > job + SHORT_GAP:
        raise Failed(f"worked {gap:.3f} s between done and ready, {job:.3f} s on the job")


class Bench:
    """Measures tasks: the folder that `work.prepare` has filled, the contenders, and the limits."""

    def __init__(
        self,
        folder: pathlib.Path,
        contenders: dict[str, Contender],
        jobs: Collection[work.Job],
        timeout: float,
        *,
        device_index: int = 0,
        keep: Collection[str] = (),
    ) -> None:
        self.folder, self.examples = folder, folder / work.EXAMPLES
        self.contenders, self.timeout = contenders, timeout
        self.jobs = {job.batch_size: job for job in jobs}
        self.index, self.keep = device_index, keep
        self.log = folder / "log"

    def job(self, task: Task) -> work.Job:
        """Returns the job of a task, which is shorter for a slow contender."""
        job = self.jobs[task.batch_size]
        return job.cut() if self.contenders[task.contender].slow else job

    def name(self, task: Task) -> str:
        """Returns the name of a task's benchmark: it names the job, since pyperf compares by
        name."""
        return f"{task}, {self.job(task)}"

    def measure(self, task: Task) -> pyperf.Run:
        """Returns one run; raises Failed if the contender ends, does other work, or takes too
        long."""
        gpu = system.Gpu.find(self.index) if task.device == "gpu" else None
        job, watch = self.job(task), system.Watch()
        reading = self.read(task, job, gpu)
        check_gaps(reading)
        metadata = dataclasses.asdict(task) | dataclasses.asdict(job) | watch.seen()
        metadata |= {
            "name": self.name(task),
            "unit": "second",
            "again": int(task.again),
            "loops": len(reading.jobs),
            "inner_loops": job.steps,
            "relative_error": max(reading.errors),
            "start": reading.start,
            "compile": reading.compile,
            "peak_mib": reading.peak_mib,
            "gpu_peak_mib": reading.gpu_mib,
            "joules_per_step": self.joules_per_step(reading, job),
            "disturbed": gpu.disturbed() if gpu else "",
        }
        known = {key: value for key, value in metadata.items() if value not in (None, "")}
        seconds = statistics.median(reading.jobs) / job.steps
        return pyperf.Run([seconds], metadata=known, collect_metadata=False)

    def joules_per_step(self, reading: Reading, job: work.Job) -> float | None:
        """Returns the energy of a step on a GPU, the pauses between jobs included."""
        return reading.joules and reading.joules / (len(reading.jobs) * job.steps)

    def read(self, task: Task, job: work.Job, gpu: system.Gpu | None) -> Reading:
        """Runs the contender, and returns what was read of it."""
        contender = self.contenders[task.contender]
        given = {name: getattr(task, name) for name in ("device", "cores", "precision")}
        text = json.dumps(dataclasses.asdict(job) | given)
        (self.examples / "job.json").write_text(text)
        environment = system.environment(task.device, self.index, self.folder, self.keep)
        why: Failed | None = None
        try:
            with self.log.open("w") as log, system.pinned(task.cores):
                began = time.perf_counter()
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
                place = {
                    "cwd": contender.place,
                    "env": environment,
                    "text": True,
                    "errors": "replace",
                }
                command = contender.argv(self.examples)
                with children.started(command, self.timeout, **pipes, **place) as process:
                    try:
                        return self.talk(Conversation(process), began, task, job, gpu)
                    except EOFError:
                        why = self.ended(process)
                        assert process.stdin
                        with contextlib.suppress(BrokenPipeError):  # what it did not read
                            process.stdin.close()
        except RunError:  # it was ended, and that is why its answers ended
            raise Failed(f"given up after {self.timeout:g} s") from None
        except OSError as error:
            raise Failed(f"{error.filename}: {error.strerror}") from None
        raise why

    def talk(
        self,
        conversation: Conversation,
        began: float,
        task: Task,
        job: work.Job,
        gpu: system.Gpu | None,
    ) -> Reading:
        """Has the contender do its job until it was timed for long enough; checks every
        repetition."""
        reading, reference = Reading(), work.reference(self.folder, job)
        word = conversation.wait_for("loaded", "ready")
        reading.start = time.perf_counter() - began
        if word == "loaded":
            conversation.wait_for("ready")
            reading.compile = time.perf_counter() - began - reading.start
        warm_until = time.perf_counter() + (WARM_SECONDS if task.device == "gpu" else 0)
        while time.perf_counter() < warm_until:
            self.repeat(conversation, reference, task, job)
        before = gpu.joules() if gpu else None
        while sum(reading.jobs) < LONG_ENOUGH:
            seconds, gap, error = self.repeat(conversation, reference, task, job)
            reading.jobs.append(seconds)
            reading.gaps.append(gap)
            reading.errors.append(error)
        if gpu and before is not None:
            reading.joules = (gpu.joules() or before) - before
        reading.gpu_mib = gpu.memory_mib() if gpu else None
        reading.peak_mib = system.peak_mib(conversation.process.pid)
        return reading

    def repeat(
        self, conversation: Conversation, reference: work.Reference, task: Task, job: work.Job
    ) -> tuple[float, float, float]:
        """Returns the seconds of a job, those of the pause behind it, and its relative error."""
        for name in ("W.npy", "b.npy"):
            (self.examples / name).unlink(missing_ok=True)
        seconds, gap = conversation.job()
        return seconds, gap, verify(self.examples, reference, task.precision, job.steps)

    def ended(self, process: subprocess.Popen) -> Failed:
        """Returns why a contender's answers have ended."""
        try:
            code = process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return Failed("closed its stdout, but did not end")
        line = telling_line(self.log.read_text(errors="replace"))
        if code == LEFT_OUT:
            return LeftOut(line or "it says that it cannot run here")
        return Failed(line or f"exit code {code}")


def telling_line(log: str) -> str:
    """Returns the line of a log that says why a program failed: the last that names an error."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if TELLING.search(line)]
    return next(iter([*telling[-1:], *lines[-1:]]), "").removeprefix("error: ")
