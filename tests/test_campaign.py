"""The fault campaign: runs that are killed, disks that are full or read-only, several first runs at
once.

Whatever happens, the same command again ends with the weights of a run that nothing happened to.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from benchmarks.common import loopback
from tests.conftest import PROJECT
from tests.weights_of import JOB, assert_weights_of_one_device, finish, start

pytestmark = [pytest.mark.faults, pytest.mark.slow]

LEFTOVERS = (".softmax-regression.*", "*incomplete*", "*_temp*", "*.tmp*", ".checkpoint.*")
# The last of these words that a run has printed says where it was killed.
PHASES = {
    "": "import",
    "preparing": "preparation",
    "decoding": "decoding",
    "training,": "training",
    "test accuracy": "export",
}


class Place:
    """A folder for what a run writes, and the data that it reads; the command is always the
    same."""

    def __init__(self, folder, data_dir):
        self.folder, self.data_dir, self.record = folder, data_dir, folder / "record.json"

    def start(self):
        job = ["--max_steps=1500", "--checkpoint_every=50", "--overwrite"]
        job += [f"--data_dir={self.data_dir}", f"--record={self.record}"]
        job += [f"--checkpoint_dir={self.folder / 'kept'}", f"--export_dir={self.folder / 'model'}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([sys.executable, PROJECT / "train.py", *job], **pipes)

    def assert_whole(self, process, expected):
        """The run ends like one that nothing happened to, and leaves nothing half written."""
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        assert self.sha256() == expected and (self.folder / "model" / "saved_model.pb").exists()
        for each in (self.folder, self.data_dir):
            assert not [path for name in LEFTOVERS for path in each.rglob(name)]

    def sha256(self):
        return json.loads(self.record.read_text())["weights_sha256"]


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """A run on real MNIST that nothing happens to: its place, and the seconds of a first run, and
    of another."""
    folder = tmp_path_factory.mktemp("reference")
    place, began = Place(folder, folder / "data"), time.perf_counter()
    assert place.start().communicate(timeout=600)
    seconds = time.perf_counter() - began
    yield place, [seconds - json.loads(place.record.read_text())["seconds"]["data"], seconds]
    shutil.rmtree(folder)


@pytest.fixture
def folder(tmp_path):
    """A folder that is removed at the end: what a campaign writes would fill a disk."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_a_killed_run_started_again_ends_like_one_never_killed(kill, reference, folder, fault):
    whole, seconds = reference
    is_first = kill % 3 == 1
    place = Place(folder, folder / "data" if is_first else whole.data_dir)
    process = place.start()
    try:
        output, _ = process.communicate(timeout=random.Random(kill).uniform(0, seconds[is_first]))
        fault("kills", "nothing: it had ended")
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        fault("kills", [phase for words, phase in PHASES.items() if words in output][-1])
    place.assert_whole(place.start(), whole.sha256())


def test_a_killed_worker_ends_the_other_and_both_go_on(
    worker_kill, tiny_data_dir, tiny_dataset, tmp_path, fault
):
    fault("kills", "one of two workers")
    rng, folder = random.Random(worker_kill), tmp_path / "kept"
    job = JOB | {"strategy": "multi_worker", "epochs": 10**6, "eval_first": 0, "timeout": 20}
    job |= {"checkpoint_dir": folder, "checkpoint_every": 100}

    def started(**more):
        return [
            start(tiny_data_dir, tmp_path / f"{index}.npz", environment, **job, **more)
            for index, environment in enumerate(loopback(2))
        ]

    workers = started()
    victim = workers.pop(rng.randrange(2))
    threading.Timer(rng.uniform(0, 10), victim.kill).start()
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    assert finish(workers[0], 1)[1]
    step = max([0, *(int(path.stem[5:]) for path in folder.glob("step-*.index"))])
    for worker in started(max_steps=step + 25):
        finish(worker)
    weights = [tmp_path / "0.npz", tmp_path / "1.npz"]
    assert_weights_of_one_device(weights, tiny_dataset, **job, max_steps=step + 25)


def test_four_first_runs_at_once_prepare_the_data_once(reference, folder, fault):
    fault("faults", "four first runs at once on one empty data_dir")
    places = [Place(folder / str(number), folder / "data") for number in range(4)]
    for place, process in [(place, place.start()) for place in places]:
        place.assert_whole(process, reference[0].sha256())


@pytest.fixture
def disk(folder):
    """A file system of its own in memory, 30 MB."""
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
    process = place.start()
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 1 and "No space left on device" in output
    assert "Traceback" not in output
    assert {path.name for path in disk.rglob("*") if path.is_file()} <= {".lock"}
    remount(disk, "size=400m")
    place.assert_whole(place.start(), reference[0].sha256())


@pytest.mark.parametrize("flag", ["checkpoint_dir", "export_dir"])
def test_a_full_disk_costs_nothing_that_was_there(disk, run_train, run_here, tmp_path, fault, flag):
    fault("faults", f"a full disk under --{flag}, then room made")
    record = tmp_path / "record.json"
    job = f"--{flag}={disk / 'place'}", f"--record={record}", "--overwrite", "--mode=graph"
    assert run_train(*job, "--max_steps=30").returncode == 0
    # the file named checkpoint has the name of the newest, and there may be a newer one
    files = [path for path in disk.rglob("*") if path.is_file() and path.name != "checkpoint"]
    before = {path: path.read_bytes() for path in files}
    filler = fill(disk)
    assert_refused(run_train(*job), 1, "No space left on device")
    assert {path: path.read_bytes() for path in files} == before
    filler.unlink()
    assert run_train(*job).returncode == 0
    whole = run_here("--mode=graph")["weights_sha256"]
    assert json.loads(record.read_text())["weights_sha256"] == whole


def assert_refused(done, code, words):
    """It ended with one line that has these words."""
    assert done.returncode == code and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and words in done.stderr


def fill(disk):
    """Fills a disk with one file, but for what the check of a folder takes; returns the file."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while file.write(bytes(4096)) == 4096:
            pass
    os.truncate(filler, filler.stat().st_size - 20_480)
    return filler


@pytest.mark.parametrize("flag", ["data_dir", "checkpoint_dir", "export_dir", "logdir", "record"])
def test_a_read_only_folder_is_refused_before_training(disk, run_train, fault, flag):
    fault("faults", f"a read-only folder for --{flag}")
    remount(disk, "ro")
    assert_refused(run_train(f"--{flag}={disk / 'new'}"), 2, f"--{flag}")


def test_decoded_data_is_read_from_a_read_only_folder(disk, run_train, tiny_data_dir, fault):
    fault("faults", "decoded data in a read-only folder")
    shutil.copytree(tiny_data_dir, disk / "data")
    remount(disk, "ro")
    assert run_train(f"--data_dir={disk / 'data'}", "--mode=graph").returncode == 0
