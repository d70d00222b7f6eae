"""The fault campaign: killed runs, full and read-only disks, several first runs at once.

Whatever happens, the same command again ends with the weights of a run that nothing happened to.
"""

import dataclasses
import json
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.conftest import PROJECT
from tests.test_workers import loopback, start_workers
from tests.weights_of import JOB, assert_weights_of_one_device, finish

pytestmark = [pytest.mark.faults, pytest.mark.slow]

# all but locks
LEFTOVERS = (".softmax-regression.*[!k]", "*incomplete*", "*_temp*", "*.tmp*", ".checkpoint.*")
# The last of these words that a run has printed says where it was killed.
PHASES = {
    "": "import",
    "preparing": "preparation",
    "decoding": "decoding",
    "training,": "training",
    "test accuracy": "export",
}


@dataclasses.dataclass
class Place:
    """A folder for what a run writes, and the data that it reads, always by the same command."""

    folder: pathlib.Path
    data_dir: pathlib.Path

    def start(self):
        job = ["--max_steps=1500", "--checkpoint_every=50", "--overwrite"]
        job += [f"--data_dir={self.data_dir}", f"--record={self.folder}/record.json"]
        job += [f"--checkpoint_dir={self.folder}/checkpoints", f"--export_dir={self.folder}/model"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, PROJECT / "train.py", *job], **pipes)

    def end(self, process):
        """Returns the record of a run that ends well, and leaves nothing half written."""
        finish(process)
        assert (self.folder / "model" / "saved_model.pb").exists()
        for each in (self.folder, self.data_dir):
            assert not [path for name in LEFTOVERS for path in each.rglob(name)]
        return json.loads((self.folder / "record.json").read_text())


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """Of a run on real MNIST: its data, its weights, the seconds of a usual run and a first one."""
    folder = tmp_path_factory.mktemp("reference")
    place, began = Place(folder, folder / "data"), time.perf_counter()
    record = place.end(place.start())
    seconds = time.perf_counter() - began
    both = seconds - record["seconds"]["data"], seconds
    return place.data_dir, record["weights_sha256"], both


def test_a_killed_run_started_again_ends_like_one_never_killed(kill, reference, tmp_path, fault):
    data_dir, weights, seconds = reference
    is_first = kill % 3 == 1
    place = Place(tmp_path, tmp_path / "data" if is_first else data_dir)
    process = place.start()
    threading.Timer(random.Random(kill).uniform(0, seconds[is_first]), process.kill).start()
    printed = "".join(process.communicate())
    phase = [phase for words, phase in PHASES.items() if words in printed][-1]
    fault("kills", phase if process.returncode else "nothing: it had ended")
    assert place.end(place.start())["weights_sha256"] == weights


# The signals to one of two workers, and the exit code of the other one.
LOST = (
    (signal.SIGKILL, 1),
    (signal.SIGSTOP, 1),  # its port still accepts connections
    (signal.SIGTERM, 143),
)


def test_a_lost_worker_ends_the_other_with_one_line_and_both_go_on(
    worker_kill, tiny_data_dir, tiny_dataset, tmp_path, fault
):
    rng, (number, code) = random.Random(worker_kill), LOST[worker_kill % len(LOST)]
    fault("kills", f"one of two workers, by {number.name}")
    folder = tmp_path / "checkpoints"
    job = JOB | {"epochs": 10**6, "eval_first": 0, "timeout": 20}
    job |= {"checkpoint_dir": folder, "checkpoint_every": 10}
    workers = start_workers(tiny_data_dir, tmp_path, loopback(), **job)
    victim = workers.pop(rng.randrange(2))
    for _ in range(2):  # at the second one a checkpoint is there
        while not victim.stdout.readline().startswith("step "):
            assert victim.returncode is None, victim.communicate()
    threading.Timer(rng.uniform(0, 2), victim.send_signal, [number]).start()
    _, (line,) = finish(workers[0], code)
    if number == signal.SIGTERM:  # both after the same step
        assert finish(victim, code)[1] == [line]
    else:
        victim.kill()
        victim.communicate()
    step = max(int(path.stem[5:]) for path in folder.glob("step-*.index"))
    job["max_steps"] = step + 25
    for worker in start_workers(tiny_data_dir, tmp_path, loopback(), **job):
        finish(worker)
    assert json.loads((tmp_path / "0.json").read_text())["resumed_at_step"] == step
    assert_weights_of_one_device(tmp_path.glob("*.npz"), tiny_dataset, **job)


def test_four_first_runs_at_once_prepare_the_data_once(reference, tmp_path, fault):
    fault("faults", "four first runs at once on one empty data_dir")
    places = [Place(tmp_path / str(number), tmp_path / "data") for number in range(4)]
    for place, process in [(place, place.start()) for place in places]:
        assert place.end(process)["weights_sha256"] == reference[1]


@pytest.fixture
def disk(tmp_path):
    """A file system of its own in memory, 30 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", path]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here, which takes root")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def remount(disk, option):
    subprocess.run(["mount", "-o", f"remount,{option}", disk], check=True)


def test_a_first_run_on_a_full_disk_is_refused_and_ends_well_once_there_is_room(
    disk, reference, tmp_path, fault
):
    fault("faults", "a full disk under --data_dir, then room made")
    place = Place(tmp_path / "place", disk / "data")
    _, (line,) = finish(place.start(), 1)
    assert "No space left on device" in line
    assert {path.name for path in disk.rglob("*") if path.is_file()} <= {".lock"}
    remount(disk, "size=400m")
    assert place.end(place.start())["weights_sha256"] == reference[1]


@pytest.mark.parametrize("flag", ["checkpoint_dir", "export_dir"])
def test_a_full_disk_costs_nothing_that_was_there(disk, run_train, run_here, tmp_path, fault, flag):
    fault("faults", f"a full disk under --{flag}, then room made")
    record = tmp_path / "record.json"
    job = f"--{flag}={disk / 'place'}", f"--record={record}", "--overwrite", "--mode=graph"
    assert run_train(*job, "--max_steps=30").returncode == 0
    # the file named checkpoint has the name of the newest, and there may be a newer one
    files = [path for path in disk.rglob("*.*") if path.is_file()]
    before = [path.read_bytes() for path in files]
    filler = disk / "filler"  # it leaves what the check of a folder takes
    filler.write_bytes(bytes(shutil.disk_usage(disk).free - 20_480))
    assert_refused(run_train(*job), 1, "No space left on device")
    assert [path.read_bytes() for path in files] == before
    filler.unlink()
    assert run_train(*job).returncode == 0
    whole = run_here("--mode=graph")["weights_sha256"]
    assert json.loads(record.read_text())["weights_sha256"] == whole


def assert_refused(done, code, words):
    """It ended with one line that has these words."""
    assert done.returncode == code
    assert re.fullmatch(f"error: .*{words}.*\n", done.stderr)


def test_a_read_only_disk_is_read_and_refused_for_each_output(
    disk, run_train, tiny_data_dir, fault
):
    fault("faults", "a read-only disk: its data is read, and what is to be written there refused")
    shutil.copytree(tiny_data_dir, disk / "data")
    remount(disk, "ro")
    data = f"--data_dir={disk / 'data'}"
    for flag in ("data_dir", "checkpoint_dir", "export_dir", "logdir", "record"):
        assert_refused(run_train(data, f"--{flag}={disk / 'new'}"), 2, f"--{flag}")
    assert run_train(data, "--mode=graph").returncode == 0
