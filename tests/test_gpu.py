"""GPUs: what is said of them; and the acceptance on one, `pytest -m gpu`.

With SOFTMAX_DEVICE=cpu the acceptance runs what a CPU can.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

import data
from benchmarks import speed
from common import children
from comparison import system
from tests import oracle
from tests.conftest import PROJECT
from tests.weights_of import finish

# NVIDIA's library, with GPUs that heat slows down, and two processes on each.
NVML = types.SimpleNamespace(
    nvmlInit=lambda: None,
    nvmlDeviceGetHandleByIndex=int,
    nvmlDeviceGetTotalEnergyConsumption=lambda index: 1_000 * index,
    nvmlDeviceGetMemoryInfo=lambda _: types.SimpleNamespace(used=3 * 2**30),
    nvmlDeviceGetCurrentClocksThrottleReasons=lambda _: 0x1 | 0x20 | 0x40,
    nvmlDeviceGetComputeRunningProcesses=lambda _: ["this one", "another"],
)


def test_what_nvml_says_is_of_the_gpu_in_sight(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    monkeypatch.setitem(sys.modules, "pynvml", NVML)
    monkeypatch.setattr("runtime.gpu.smi", lambda field, *options: options)
    assert system.choose_devices(["gpu"], None) == ["gpu"]
    assert system.gpu_name() == "--id=2"
    found = system.gpu_state("gpu")
    assert (found["joules"], found["gpu_peak_mib"]) == (2, 3072)
    assert found["disturbed"] == 1
    assert system.gpu_state("cpu") == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert system.gpu_state("gpu") == {}


AMPERE = 8  # the compute capability from which on there is TF32
LEFT_MIB = 2_200  # that HOG leaves free; TensorFlow itself leaves up to 1,800
EPOCHS, STEPS = 30, 66  # of an epoch, which is a block
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": PROJECT}
# Takes all memory of the GPU but some, says so, and waits for the end of its stdin.
HOG = f"""
import subprocess, sys
import tensorflow as tf
tf.config.experimental.set_memory_growth(tf.config.list_physical_devices("GPU")[0], True)
tf.zeros([1]).numpy()
ask = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
free_mib = int(subprocess.check_output(ask, text=True).split()[0])
filling = [tf.zeros([2**26]) for _ in range((free_mib - {LEFT_MIB}) // 256)]
print(filling[0].device, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def device():
    """The device of the acceptance; skips where it is a GPU and there is none."""
    name = os.environ.get("SOFTMAX_DEVICE", "gpu")
    if name == "gpu" and not tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow sees no GPU; SOFTMAX_DEVICE=cpu runs what a CPU can")
    return name


@pytest.fixture
def gpu(device):
    """What TensorFlow says of the GPU; skips on a CPU."""
    if device == "cpu":
        pytest.skip("only a GPU has it")
    return tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])


@pytest.fixture
def start(device, tiny_data_dir):
    """Starts train.py on the device, as a process; further flags are the arguments."""
    job = [f"--device={device}", f"--data_dir={tiny_data_dir}", f"--epochs={EPOCHS}"]
    command = [sys.executable, "train.py", *job, "--eval_every=0"]
    with contextlib.ExitStack() as running:
        yield lambda *more, **environment: running.enter_context(
            children.started([*command, *more], 300, env=os.environ | environment, **PIPES)
        )


@pytest.fixture
def train(start, tmp_path):
    """Runs train.py on the device to its end, and returns its record."""

    def train(*more):
        path = tmp_path / "record.json"
        finish(start(*more, f"--record={path}", "--overwrite"))
        return json.loads(path.read_text())

    return train


def read_until(process, words):
    assert any(words in line for line in process.stdout), process.communicate()


@pytest.mark.gpu
@pytest.mark.parametrize("flag", ["--mode=xla", "--mode=graph", "--mode=eager", "--input=stream"])
def test_weights_are_those_of_float64(device, train, tiny_dataset, tmp_path, flag):
    record = train(flag, f"--export_dir={tmp_path / 'model'}")
    assert record["environment"]["device_kind"] == device.upper()
    split = tiny_dataset.train
    orders = [data.epoch_order(len(split), 0, epoch) for epoch in range(EPOCHS)]
    W, b, _ = oracle.train(split.images, split.labels, orders, batch=10, lr=0.01)
    found = np.load(tmp_path / "model" / "weights.npz")
    oracle.assert_weights(found, W, b, atol=1e-5 * abs(W).max())


@pytest.mark.gpu
def test_tf32_gives_other_weights_and_is_named(gpu, train):
    if gpu["compute_capability"][0] < AMPERE:
        pytest.skip("this GPU has no TF32")
    exact, rounded = train(), train("--tf32")
    assert exact["weights_sha256"] != rounded["weights_sha256"]
    assert rounded["config"]["tf32"]


@pytest.mark.gpu
def test_data_larger_than_the_memory_is_streamed_and_else_out_of_memory_is_a_line(
    gpu, train, start, tiny_data_dir, tmp_path, monkeypatch
):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tiny_data_dir))
    assert speed.make(tmp_path / "large", 5_000) > LEFT_MIB * 2**20
    large = "--dataset=made5000", f"--data_dir={tmp_path / 'large'}", "--max_steps=2000"
    hog = children.started([sys.executable, "-c", HOG], 300, stdin=subprocess.PIPE, **PIPES)
    with hog as process:
        read_until(process, "GPU")
        assert train(*large, "--input=stream")["streamed"]
        _, (line,) = finish(start(*large, "--input=memory"), code=1)
    assert "--input=stream" in line


@pytest.mark.gpu
def test_deterministic_gives_the_same_weights_in_three_processes_at_once_and_over_a_kill(
    train, start, tmp_path
):
    job = "--deterministic", "--epochs=300"
    resumed = *job, f"--checkpoint_dir={tmp_path / 'checkpoints'}"
    # no single steps, whose program may have other kernels
    killed = start(*resumed, "--checkpoint_every=50", "--eval_every=1000", "--eval_first=0")
    read_until(killed, "step 50/")
    killed.kill()
    finish(killed, code=-signal.SIGKILL)
    paths = [tmp_path / f"{number}.json" for number in range(3)]
    for process in [start(*job, f"--record={path}") for path in paths]:
        finish(process)
    weights = {json.loads(path.read_text())["weights_sha256"] for path in paths}
    assert weights == {train(*resumed)["weights_sha256"]}


@pytest.mark.gpu
def test_a_step_is_few_kernels_and_no_copy_to_the_host(gpu, train, tmp_path):
    train(f"--profile={tmp_path / 'profile'}", "--eval_first=0")
    (trace,) = tmp_path.glob("profile/plugins/profile/*/*.xplane.pb")
    names = [
        plane.event_metadata[event.metadata_id].name.lower()
        for plane in xplane_pb2.XSpace.FromString(trace.read_bytes()).planes
        for line in plane.lines
        # Lines with names of operations tell the same kernels once more.
        if plane.name.startswith("/device:GPU:") and line.name.startswith("Stream")
        for event in line.events
    ]
    kernels = [name for name in names if not re.search("mem(cpy|set)", name)]
    copies = [name for name in names if re.search("memcpy.?(h2d|d2h)", name)]
    # at most 20 kernels belong to the block
    assert 0 < len(kernels) <= 10 * STEPS + 20 and len(copies) < STEPS / 2


@pytest.mark.gpu
def test_nothing_is_compiled_inside_the_clock_of_training(start, tmp_path):
    """Each program that XLA compiles leaves files."""
    dump = tmp_path / "dump"
    process = start("--eval_every=500", XLA_FLAGS=f"--xla_dump_to={dump}")
    read_until(process, "step 1/")
    compiled = set(dump.iterdir())
    finish(process)
    assert compiled and set(dump.iterdir()) == compiled


@pytest.mark.gpu
def test_ctrl_c_ends_the_run_with_one_line(start):
    process = start("--epochs=1000000", "--eval_every=1000")
    read_until(process, "step 1/")
    process.send_signal(signal.SIGINT)
    finish(process, code=130)
