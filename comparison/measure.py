"""The measurements: each in a fresh process, in random order within its round."""

import dataclasses
import json
import os
import pathlib
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from common import children
from common.errors import InputError, RunError
from common.files import PROJECT
from comparison import machine, work
from comparison.contenders import Contender
from comparison.results import Sample
from runtime import devices

WORK = "work"  # the folder of a survey that a contender is handed
LONG_ENOUGH = 0.3  # seconds: who is faster does the job again and again, and its median counts


@dataclasses.dataclass(frozen=True)
class Task:
    """One measurement of a round. `again` marks the baseline's second one, for the noise floor."""

    contender: str
    device: str
    batch_size: int
    again: bool = False

    def __str__(self) -> str:
        return f"{self.contender} on {self.device}, batch {self.batch_size:,}"


def tasks_of(
    contenders: Mapping[str, Contender], device_names: Sequence[str], batch_sizes: Iterable[int]
) -> list[Task]:
    """Returns the measurements of a round; the first of them is the baseline, which is there twice a batch size.

    Raises InputError if no contender runs on a device.
    """
    tasks = []
    pairs = [
        (name, device)
        for device in device_names
        for name, one in contenders.items()
        if device in one.devices
    ]
    if not pairs:
        raise InputError(
            f"--contenders={','.join(contenders)}: none runs on --devices={','.join(device_names)}"
        )
    for batch_size in batch_sizes:
        tasks += [Task(name, device, batch_size) for name, device in pairs]
        tasks.append(Task(*pairs[0], batch_size, again=True))
    return tasks


def child(
    command: Sequence[str],
    device: str,
    timeout: float,
    cores: int | None = None,
    place: pathlib.Path | None = PROJECT,
) -> subprocess.CompletedProcess:
    """Runs a command to its end in a folder on so many cores, with no GPU in sight when the device is cpu.

    What it has started ends with it. Raises RunError if it took longer than `timeout` seconds.
    """
    hidden = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"} if device == "cpu" else {}
    with machine.held(cores):
        return children.run(command, timeout, cwd=place, env=os.environ | hidden, errors="replace")


class Rounds:
    """Measures round after round and knows how long the rest will take."""

    def __init__(
        self,
        folder: pathlib.Path,
        jobs: list[work.Job],
        contenders: Mapping[str, Contender],
        tasks: list[Task],
        rounds: int,
        timeout: float,
    ):
        self.timeout = timeout  # seconds of a measurement
        self.folder, self.contenders, self.tasks, self.rounds = (
            folder,
            contenders,
            list(tasks),
            rounds,
        )
        self.jobs = {job.batch_size: job for job in jobs}
        self.cores: dict[Task, int] = {}  # those that a task is held to; the others are not held
        self.seconds: dict[Task, float] = {}

    def choose_cores(self, asked: int | None) -> None:
        """Holds each task on a CPU to the cores asked for, or to all that this process may use.

        Raises InputError if more are asked for than there are, or the system cannot hold a process to them.
        """
        there = devices.cores()
        if asked and asked > there:
            raise InputError(
                f"--cores={asked}: must be at most the {there} cores that this process may use"
            )
        if asked and not machine.can_hold():
            raise InputError(
                f"--cores={asked}: this system cannot hold a process to cores: leave the flag out"
            )
        if machine.can_hold():
            self.cores = {task: asked or there for task in self.tasks if task.device == "cpu"}

    def seconds_left(self, pending: list[Task], rounds_after: int) -> float:
        """Returns the time that the pending tasks and the rounds after them will take, by what has been seen."""
        average = sum(self.seconds.values()) / max(1, len(self.seconds))
        left = [*pending, *self.tasks * rounds_after]
        return sum(self.seconds.get(task, average) for task in left)

    def measured(
        self, round_number: int, show: Callable[[str, str, str], None]
    ) -> Iterator[Sample]:
        """Yields the samples of a round; a contender that fails is left out of those that follow.

        Raises RunError if the baseline fails: there is nothing to compare with.
        """
        order = random.sample(self.tasks, len(self.tasks))
        for done, task in enumerate(order):
            left = self.seconds_left(order[done:], self.rounds - round_number)
            left_text = f"{duration(left)} left" if self.seconds else ""
            show(f"round {round_number} of {self.rounds}", str(task), left_text)
            began = time.perf_counter()
            sample = self.measure(task, round_number, self.cores.get(task))
            self.seconds[task] = time.perf_counter() - began
            if sample.failed and (task.contender, task.device) == (
                self.tasks[0].contender,
                self.tasks[0].device,
            ):
                raise RunError(f"the baseline, {task}, failed: {sample.failed}")
            if sample.failed:
                self.tasks.remove(task)
            yield sample

    def measure(self, task: Task, round_number: int, cores: int | None) -> Sample:
        """Returns one sample; it has a time only if the weights are those of the reference."""
        place, job = self.folder / WORK, self.jobs[task.batch_size]
        for name in ("W.npy", "b.npy", "result.json"):
            (place / name).unlink(missing_ok=True)
        asked = {
            "contender": task.contender,
            "device": task.device,
            "cores": cores,
            "min_seconds": LONG_ENOUGH,
        }
        (place / "job.json").write_text(json.dumps(dataclasses.asdict(job) | asked))
        watch, began = machine.Watch(), time.perf_counter()
        contender = self.contenders[task.contender]
        command = [*contender.command, str(place)]
        try:
            done = child(command, task.device, self.timeout, cores, contender.place)
        except RunError:
            done = subprocess.CompletedProcess(
                command, 1, stderr=f"given up after {self.timeout:g} s"
            )
        wall = time.perf_counter() - began
        quiet = dataclasses.asdict(watch.seen())
        common = dataclasses.asdict(task) | {"round": round_number, "quiet": quiet, "cores": cores}
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            return Sample(**common, failed=lines[-1].removeprefix("error: "))
        expected = self.folder / f"expected-{job.batch_size}.npz"
        return judged(common, place, expected, job.steps, wall)


def judged(
    common: dict[str, Any],
    place: pathlib.Path,
    expected: pathlib.Path,
    steps: int,
    wall: float,
) -> Sample:
    """Returns the sample of what was left in `place` after `wall` seconds: without a time unless it is `expected`."""
    try:
        found = json.loads((place / "result.json").read_text())
        times = [float(seconds) for seconds in found["train"]]
        weights = np.load(place / "W.npy"), np.load(place / "b.npy")
        if not times or not all(seconds > 0 for seconds in times) or not sum(times) <= wall:
            raise ValueError(
                f"result.json has seconds of training that cannot be: {times[:3]} in {wall:.3f} s"
            )
        outside = {part: float(found.get(part, 0)) for part in ("compile", "evaluate")}
        outside["start"] = float(found.get("start", wall - sum(times) - sum(outside.values())))
        peak = float(found["peak_mib"]) if "peak_mib" in found else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return Sample(
            **common, failed=f"what it left cannot be read: {' '.join(str(error).split())}"
        )
    with np.load(expected) as arrays:
        difference = work.difference(weights, (arrays["W"], arrays["b"]))
    us_per_step = statistics.median(times) / steps * 1e6 if difference <= work.TOLERANCE else None
    right = found.get("num_correct")
    known = {"num_correct": right, "seconds": outside, "peak_mib": peak, "gpu": found.get("gpu")}
    return Sample(**common, us_per_step=us_per_step, difference=difference, **known)


def duration(seconds: float) -> str:
    """Returns a time to wait as people say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
