"""The fault campaign: runs that are killed, disks that are full or read-only, several first runs at
once.

Whatever happens, the same command again ends with the weights of a run that nothing happened to.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from benchmarks.common import loopback
from tests.conftest import PROJECT

pytestmark = [pytest.mark.faults, pytest.mark.slow]

LIMIT = 600  # seconds of a run
FLAGS = ("--max_steps=1500", "--checkpoint_every=50", "--overwrite")
LEFTOVERS = (".softmax-regression.*", "*incomplete*", "*_temp*", "*.tmp*", ".checkpoint.*")
# Where a run is killed: behind the line with the first words, and before that with the second.
PHASES = {
    "import": (None, "training,"),
    "preparation": ("preparing", "decoding"),
    "decoding": ("decoding", "training,"),
    "training": ("training,", "test accuracy"),
    "export": ("test accuracy", None),
}
# The phase of each kill in turn: what takes long in a usual run more often.
TURNS = (
    *("training", "export", "import", "decoding", "training"),
    *("preparation", "training", "import", "training", "export"),
)
WORKERS = ("--batch_size=100", "--lr=0.001", "--epochs=8", "--checkpoint_every=100", "--timeout=20")


@dataclasses.dataclass(frozen=True)
class Place:
    """A folder for what a run writes, and the data that it reads; the command is always the
    same."""

    folder: pathlib.Path
    data_dir: pathlib.Path

    def __post_init__(self):
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, name):
        return self.folder / name

    def command(self, *more):
        written = (
            f"--checkpoint_dir={self.path('checkpoints')}",
            f"--export_dir={self.path('model')}",
            f"--record={self.path('record.json')}",
        )
        train = (sys.executable, PROJECT / "train.py", f"--data_dir={self.data_dir}")
        return [*train, *FLAGS, *written, *more]

    def run(self, *more):
        return subprocess.run(self.command(*more), capture_output=True, text=True, timeout=LIMIT)

    def times(self):
        """Runs to the end, and returns the seconds at which each line came, and those of the
        end."""
        started, seen = time.perf_counter(), {}
        with subprocess.Popen(self.command(), **PIPES) as process:
            for line in process.stdout:
                seen[line] = time.perf_counter() - started
        assert process.returncode == 0, "".join(seen)
        return {**seen, "": time.perf_counter() - started}

    def killed(self, phase, seconds):
        """Kills the run so long after a phase began; says whether it was running still."""
        words, _ = PHASES[phase]
        with subprocess.Popen(self.command(), **PIPES) as process:
            if words and not any(words in line for line in process.stdout):
                return False
            reader = threading.Thread(target=process.stdout.read)  # a full pipe would hold it up
            reader.start()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            process.kill()
            reader.join()
        return process.returncode == -signal.SIGKILL

    def sha256(self):
        return json.loads(self.path("record.json").read_text())["weights_sha256"]

    def assert_whole(self, done, expected):
        """The run ended like one that nothing happened to, and left nothing half written."""
        assert done.returncode == 0, done.stderr
        assert self.sha256() == expected
        assert self.path("model").joinpath("saved_model.pb").exists()
        folders = (self.folder, self.data_dir)
        assert not [path for name in LEFTOVERS for each in folders for path in each.rglob(name)]


PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}


def assert_refused(done, code, words):
    """It ended with one line that has these words."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == code and len(lines) == 1 and words in lines[0], done.stderr
    assert "Traceback" not in done.stderr


@dataclasses.dataclass(frozen=True)
class Reference:
    """Real MNIST, prepared and decoded, the weights of an unbroken run, and how long its phases
    take."""

    data_dir: pathlib.Path
    prepared: pathlib.Path  # the same, without what was decoded
    sha256: str
    seconds: dict

    def data_for(self, phase, tmp_path):
        """Returns data as a run finds it that is to be killed in a phase."""
        if phase not in ("preparation", "decoding"):
            return self.data_dir
        if phase == "decoding":
            shutil.copytree(self.prepared, tmp_path / "data")
        return tmp_path / "data"


def first(times, words):
    """Returns when the first line with these words came."""
    return next(seconds for line, seconds in times.items() if words is None or words in line)


def duration(times, phase):
    start, end = PHASES[phase]
    began = first(times, start) if start else 0
    return (first(times, end) if end else times[""]) - began


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    data_dir, prepared = folder / "data", folder / "prepared"
    cold = Place(folder / "cold", data_dir).times()
    warm_place = Place(folder / "warm", data_dir)
    warm = warm_place.times()
    shutil.copytree(data_dir, prepared, ignore=shutil.ignore_patterns("decoded*"))
    seconds = {
        phase: duration(cold if phase in ("preparation", "decoding") else warm, phase)
        for phase in PHASES
    }
    yield Reference(data_dir, prepared, warm_place.sha256(), seconds)
    shutil.rmtree(folder)


@pytest.fixture
def folder(tmp_path):
    """A folder that is removed at the end: what a campaign writes would fill a disk."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_a_killed_run_started_again_ends_like_one_never_killed(kill, reference, folder, fault):
    phase, rng = TURNS[kill % len(TURNS)], random.Random(kill)
    fault("kills", phase)
    for attempt in range(20):
        inside = folder / str(attempt)
        place = Place(inside, reference.data_for(phase, inside))
        if place.killed(phase, rng.uniform(0, reference.seconds[phase])):
            break
    else:
        pytest.fail("no attempt found it running")
    place.assert_whole(place.run(), reference.sha256)


def test_a_killed_worker_ends_the_other_and_both_go_on(worker_kill, reference, folder, fault):
    fault("kills", "one of two workers")
    rng = random.Random(worker_kill)
    data = f"--data_dir={reference.data_dir}"
    started = time.perf_counter()
    (alone,) = finished([start_worker(folder / "alone", data)])
    assert alone.returncode == 0, alone.stderr
    window = 2 * (time.perf_counter() - started)  # about as long as two workers take
    for attempt in range(20):
        both = start_workers(folder / str(attempt), data)
        victim = both.pop(rng.randrange(2))
        with contextlib.suppress(subprocess.TimeoutExpired):
            victim.wait(rng.uniform(0, window))
        victim.kill()
        (survivor,), (dead,) = finished(both), finished([victim])
        if dead.returncode == -signal.SIGKILL and survivor.returncode:
            break
    else:
        pytest.fail("no attempt found it running")
    assert_refused(survivor, 1, "")
    for worker in finished(start_workers(folder / str(attempt), data)):
        assert worker.returncode == 0, worker.stderr
    for name in ("W", "b"):
        weights = [
            np.load(folder / each / "model" / "weights.npz")[name]
            for each in ("alone", str(attempt))
        ]
        np.testing.assert_allclose(*weights, atol=1e-5, rtol=0)


def start_worker(folder, *more, env=None):
    """Starts a run of its own, or one worker of several."""
    folder.mkdir(exist_ok=True)
    written = f"--checkpoint_dir={folder / 'checkpoints'}", f"--export_dir={folder / 'model'}"
    command = [sys.executable, PROJECT / "train.py", *WORKERS, *written, *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | (env or {}), **pipes)


def start_workers(folder, *more):
    return [start_worker(folder, *more, "--strategy=multi_worker", env=env) for env in loopback(2)]


def finished(processes):
    """Returns the processes once they have ended, with what they printed."""
    outputs = [process.communicate(timeout=LIMIT) for process in processes]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *output)
        for process, output in zip(processes, outputs, strict=True)
    ]


def test_four_first_runs_at_once_prepare_the_data_once(reference, folder, fault):
    fault("faults", "four first runs at once on one empty data_dir")
    places = [Place(folder / str(number), folder / "data") for number in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for place, done in zip(places, pool.map(Place.run, places), strict=True):
            place.assert_whole(done, reference.sha256)


@pytest.fixture
def disk(folder):
    """A file system of its own in memory, 30 MB; `remount` changes its options."""
    path = folder / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", path]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here, which takes root")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def remount(disk, option):
    subprocess.run(["mount", "-o", f"remount,{option}", disk], check=True)


def test_a_first_run_on_a_full_disk_is_refused_and_ends_well_once_there_is_room(
    disk, reference, folder, fault
):
    fault("faults", "a full disk under --data_dir, then room made")
    place = Place(folder / "place", disk / "data")
    assert_refused(place.run(), 1, "No space left on device")
    assert {path.name for path in disk.rglob("*") if path.is_file()} <= {".lock"}
    remount(disk, "size=400m")
    place.assert_whole(place.run(), reference.sha256)


@pytest.mark.parametrize("part", ["checkpoint", "export"])
def test_a_full_disk_costs_nothing_that_was_there(disk, reference, folder, fault, part):
    fault("faults", f"a full disk under --{part}_dir, then room made")
    place, flag = Place(folder / "place", reference.data_dir), f"--{part}_dir={disk / part}"
    first = place.run(flag, "--max_steps=300")
    assert first.returncode == 0, first.stderr
    before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    filler = fill(disk)
    assert_refused(place.run(flag), 1, "No space left on device")
    for path, content in before.items():
        if path.name != "checkpoint":  # it names the newest, and there may be a newer one
            assert path.read_bytes() == content
    filler.unlink()
    done = place.run(flag)
    assert done.returncode == 0 and place.sha256() == reference.sha256, done.stderr


def fill(disk):
    """Fills a disk with one file, but for what the check of a folder takes; returns the file."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while file.write(bytes(4096)) == 4096:
            pass
    os.truncate(filler, filler.stat().st_size - 20_480)
    return filler


@pytest.mark.parametrize("flag", ["data_dir", "checkpoint_dir", "export_dir", "logdir", "record"])
def test_a_read_only_folder_is_refused_before_training(disk, reference, folder, fault, flag):
    fault("faults", f"a read-only folder for --{flag}")
    remount(disk, "ro")
    place = Place(folder / "place", reference.data_dir)
    assert_refused(place.run(f"--{flag}={disk / 'new'}"), 2, f"--{flag}")


def test_decoded_data_is_read_from_a_read_only_folder(disk, reference, folder, fault):
    fault("faults", "decoded data in a read-only folder")
    remount(disk, "size=400m")
    shutil.copytree(reference.data_dir, disk / "data")
    remount(disk, "ro")
    place = Place(folder / "place", disk / "data")
    place.assert_whole(place.run(), reference.sha256)
