"""The measurements: each in a fresh process, in random order within its round."""

import dataclasses
import json
import os
import pathlib
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from common.errors import InputError, RunError
from comparison import machine, work
from comparison.contenders import CONTENDERS
from comparison.results import Sample

PROJECT = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Task:
    """One measurement of a round. `again` marks the baseline's second one, for the noise floor."""

    contender: str
    device: str
    batch_size: int
    again: bool = False

    def __str__(self) -> str:
        return f"{self.contender} on {self.device}, batch {self.batch_size:,}"


def tasks_of(contenders: Sequence[str], device_names: Sequence[str], batch_sizes: Iterable[int]) -> list[Task]:
    """Returns the measurements of a round; the first of them is the baseline, which is there twice a batch size.

    Raises InputError if no contender runs on a device.
    """
    tasks = []
    pairs = [(name, device) for device in device_names for name in contenders if device in CONTENDERS[name].devices]
    if not pairs:
        raise InputError(f"--contenders={','.join(contenders)}: none runs on --devices={','.join(device_names)}")
    for batch_size in batch_sizes:
        tasks += [Task(name, device, batch_size) for name, device in pairs]
        tasks.append(Task(*pairs[0], batch_size, again=True))
    return tasks


def child(module: str, request: dict[str, Any], device: str) -> subprocess.CompletedProcess:
    """Runs `python -m module REQUEST` to its end, with no GPU in sight when the device is cpu."""
    hidden = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"} if device == "cpu" else {}
    return subprocess.run(
        [sys.executable, "-m", module, json.dumps(request)],
        cwd=PROJECT,
        env=os.environ | hidden,
        capture_output=True,
        text=True,
    )


class Rounds:
    """Measures round after round and knows how long the rest will take."""

    def __init__(self, folder: pathlib.Path, jobs: list[work.Job], tasks: list[Task], rounds: int):
        self.folder, self.tasks, self.rounds = folder, list(tasks), rounds
        self.jobs = {job.batch_size: job for job in jobs}
        self.expected = {size: work.reference(work.load(folder, job)) for size, job in self.jobs.items()}
        self.seconds: dict[Task, float] = {}

    def seconds_left(self, pending: list[Task], rounds_after: int) -> float:
        """Returns the time that the pending tasks and the rounds after them will take, by what has been seen."""
        average = sum(self.seconds.values()) / max(1, len(self.seconds))
        left = [*pending, *self.tasks * rounds_after]
        return sum(self.seconds.get(task, average) for task in left)

    def measured(self, round_number: int, show: Callable[[str, str, str], None]) -> Iterator[Sample]:
        """Yields the samples of a round; a contender that fails is left out of those that follow.

        Raises RunError if the baseline fails: there is nothing to compare with.
        """
        order = random.sample(self.tasks, len(self.tasks))
        for done, task in enumerate(order):
            left = self.seconds_left(order[done:], self.rounds - round_number)
            left_text = f"{duration(left)} left" if self.seconds else ""
            show(f"round {round_number} of {self.rounds}", str(task), left_text)
            began = time.perf_counter()
            sample = self.measure(task, round_number)
            self.seconds[task] = time.perf_counter() - began
            if sample.failed and (task.contender, task.device) == (self.tasks[0].contender, self.tasks[0].device):
                raise RunError(f"the baseline, {task}, failed: {sample.failed}")
            if sample.failed:
                self.tasks.remove(task)
            yield sample

    def measure(self, task: Task, round_number: int) -> Sample:
        """Returns one sample; it has a time only if the weights are those of the reference."""
        result, job = self.folder / "result.npz", self.jobs[task.batch_size]
        result.unlink(missing_ok=True)
        request = {"folder": str(self.folder), "job": dataclasses.asdict(job), "result": str(result)}
        watch = machine.Watch()
        done = child("comparison.worker", request | {"contender": task.contender, "device": task.device}, task.device)
        common = dataclasses.asdict(task) | {"round": round_number, "quiet": dataclasses.asdict(watch.seen())}
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            return Sample(**common, failed=lines[-1].removeprefix("error: "))
        with np.load(result) as arrays:
            return judged(common, arrays, self.expected[task.batch_size], job.steps)


def judged(common: dict[str, Any], arrays: Any, expected: tuple[np.ndarray, np.ndarray], steps: int) -> Sample:
    """Returns the sample of a finished measurement: without a time if W and b are not those expected."""
    difference = work.difference((arrays["W"], arrays["b"]), expected)
    seconds = json.loads(str(arrays["seconds"]))
    return Sample(
        **common,
        us_per_step=seconds["train"] / steps * 1e6 if difference <= work.TOLERANCE else None,
        difference=difference,
        num_correct=int(arrays["num_correct"]),
        seconds={part: seconds[part] for part in ("start", "compile", "evaluate")},
    )


def limit(folder: pathlib.Path, device: str) -> float:
    """Returns the operations a second of the device's largest matmul; raises RunError if it cannot be measured."""
    result = folder / "limit.json"
    done = child("comparison.limit", {"device": device, "result": str(result)}, device)
    if done.returncode:
        raise RunError(f"the matmul rate of the {device} cannot be measured: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(result.read_text())


def duration(seconds: float) -> str:
    """Returns a time to wait as people say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
