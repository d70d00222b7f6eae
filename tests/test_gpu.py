"""GPUs: what is said of them, as far as a CPU can test it; and the acceptance on one, `pytest -m
gpu`.

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
from common import errors
from comparison import system
from runtime import devices
from tests import oracle
from tests.conftest import PROJECT

# NVIDIA's library, with one GPU that heat slows down, and two processes on it.
NVML = {
    "NVMLError": RuntimeError,
    "nvmlInit": lambda: None,
    "nvmlDeviceGetHandleByIndex": lambda index: f"GPU {index}",
    "nvmlDeviceGetHandleByUUID": lambda name: name,
    "nvmlDeviceGetTotalEnergyConsumption": lambda device: 7_500 if device == "GPU 2" else 0,
    "nvmlDeviceGetMemoryInfo": lambda device: types.SimpleNamespace(used=3 * 2**30),
    "nvmlDeviceGetCurrentClocksThrottleReasons": lambda device: 0x1 | 0x20 | 0x40,
    "nvmlDeviceGetComputeRunningProcesses": lambda device: ["this one", "another"],
}


def test_what_nvml_says_is_of_the_gpu_in_sight(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    monkeypatch.setitem(sys.modules, "pynvml", types.SimpleNamespace(**NVML))
    found = system.gpu_state("gpu", 0)
    assert (found["joules"], found["gpu_peak_mib"]) == (7.5, 3072)
    assert found["disturbed"] == "heat, 1 other processes"
    assert system.gpu_state("gpu", 1)["joules"] == 0
    assert system.gpu_state("cpu", 0) == {}
    assert system.environment("gpu", 1, PROJECT, ())["CUDA_VISIBLE_DEVICES"] == "0"
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert system.gpu_state("gpu", 0) == {}


def test_nvidia_smi_is_not_asked_for_the_memory_where_nothing_depends_on_it(monkeypatch):
    monkeypatch.setattr(devices, "memory", lambda device: pytest.fail("asked"))
    assert (devices.most_bytes("memory"), devices.most_bytes("stream")) == (float("inf"), -1)


@pytest.mark.parametrize(
    "said", ["CUDA_ERROR_OUT_OF_MEMORY: failed", "RESOURCE_EXHAUSTED: Out of memory while ..."]
)
def test_a_gpu_without_memory_left_is_one_line_whatever_tensorflow_calls_it(said):
    line = errors._line(tf.errors.InternalError(None, None, said))
    assert (
        line.startswith("out of memory (") and "--batch_size" in line and "--input=stream" in line
    )


AMPERE = 8  # the compute capability from which on there is TF32
LEFT_MIB = 1_500  # of the memory of a GPU that is filled
JOB = ("--epochs=1000", "--max_steps=2000", "--eval_every=0")
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": PROJECT}
# Takes all memory of the GPU but some, says so, and waits for the end of its stdin.
HOG = f"""
import subprocess, sys
import tensorflow as tf
tf.config.experimental.set_memory_growth(tf.config.list_physical_devices("GPU")[0], True)
tf.zeros([1]).numpy()
ask = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
free_mib = int(subprocess.check_output(ask, text=True).split()[0])
filling = tf.zeros([(free_mib - {LEFT_MIB}) * 2**20 // 4])
print(filling.device, flush=True)
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

    processes = []

    def start(*more, **environment):
        job = [f"--device={device}", f"--data_dir={tiny_data_dir}", *JOB, *more]
        env = os.environ | environment
        processes.append(subprocess.Popen([sys.executable, "train.py", *job], env=env, **PIPES))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def train(start, tmp_path):
    """Runs train.py on the device to its end, and returns its record."""

    def train(*more, **environment):
        path = tmp_path / "record.json"
        end(start(*more, f"--record={path}", "--overwrite", **environment))
        return json.loads(path.read_text())

    return train


def end(process, code=0):
    """Returns what a process printed, once it has ended with an exit code."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    return output, errors


def read_until(process, words):
    assert any(words in line for line in process.stdout), process.communicate()


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["xla", "graph", "eager"])
def test_weights_are_those_of_float64(device, train, tiny_dataset, tmp_path, mode):
    record = train(f"--mode={mode}", f"--export_dir={tmp_path / 'model'}")
    assert record["environment"]["device_kind"] == device.upper()
    split = tiny_dataset.train
    orders = [data.epoch_order(len(split), 0, epoch) for epoch in range(31)]
    orders[-1] = orders[-1][: (2_000 - 30 * 66) * 10]
    W, b, _ = oracle.train(split.images, split.labels, orders, batch=10, lr=0.01)
    found = np.load(tmp_path / "model" / "weights.npz")
    for name, expected in (("W", W), ("b", b)):
        np.testing.assert_allclose(found[name], expected, atol=1e-5 * abs(W).max(), rtol=0)


@pytest.mark.gpu
def test_tf32_gives_other_weights_and_is_named(gpu, train, start):
    if gpu["compute_capability"][0] < AMPERE:
        pytest.skip("this GPU has no TF32")
    exact, rounded = train(), train("--tf32")
    assert exact["weights_sha256"] != rounded["weights_sha256"]
    assert (exact["environment"]["tf32"], rounded["environment"]["tf32"]) == (False, True)
    output, _ = end(start("--tf32"))
    assert "TF32" in output.splitlines()[0]


@pytest.fixture
def filled_gpu(gpu):
    """A GPU of which another process has all memory but LEFT_MIB."""
    with subprocess.Popen([sys.executable, "-c", HOG], stdin=subprocess.PIPE, **PIPES) as hog:
        assert "GPU" in hog.stdout.readline()
        yield
        hog.kill()


@pytest.fixture
def large(tiny_data_dir, tmp_path, monkeypatch):
    """Flags for a dataset larger than LEFT_MIB."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tiny_data_dir))
    times = 4_000
    assert speed.make(tmp_path / "large", times) > LEFT_MIB * 2**20
    return f"--dataset=made{times}", f"--data_dir={tmp_path / 'large'}"


@pytest.mark.gpu
def test_data_larger_than_the_memory_is_streamed_and_else_out_of_memory_is_a_line(
    large, train, start, filled_gpu
):
    assert train(*large, "--input=stream")["streamed"]
    _, errors = end(start(*large, "--input=memory"), code=1)
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "--input=stream" in lines[0] and "Traceback" not in errors


@pytest.mark.gpu
def test_a_stream_gives_the_weights_of_memory(train):
    streamed = train("--input=stream")
    assert streamed["streamed"]
    assert streamed["weights_sha256"] == train("--input=memory")["weights_sha256"]


@pytest.mark.gpu
def test_deterministic_gives_the_same_weights_in_every_process_and_over_a_kill(
    train, start, tmp_path
):
    flags = ("--deterministic", "--max_steps=20000")
    weights = {train(*flags)["weights_sha256"] for _ in range(3)}
    kept = f"--checkpoint_dir={tmp_path / 'checkpoints'}"
    killed = start(*flags, kept, "--checkpoint_every=50", "--eval_every=1000")
    read_until(killed, "step 1/")
    killed.kill()
    end(killed, code=-signal.SIGKILL)
    resumed = train(*flags, kept)
    assert weights == {resumed["weights_sha256"]}


@pytest.mark.gpu
def test_a_step_is_few_kernels_and_no_copy_to_the_host(gpu, train, tmp_path):
    steps = 1_000
    train(f"--profile={tmp_path / 'profile'}", "--eval_first=0", f"--eval_every={steps}")
    (trace,) = tmp_path.glob("profile/plugins/profile/*/*.xplane.pb")
    counts = stream_events(trace.read_bytes())
    assert 0 < counts["kernels"] <= 10 * steps
    assert counts["copies"] < steps / 10


def stream_events(trace):
    """Returns how many kernels, and copies between host and device, the streams of GPUs have."""
    counts = {"kernels": 0, "copies": 0}
    for plane in xplane_pb2.XSpace.FromString(trace).planes:
        for line in plane.lines:
            # Lines with names of operations tell the same kernels once more.
            if re.match(r"/device:GPU:\d", plane.name) and line.name.startswith("Stream"):
                names = [plane.event_metadata[event.metadata_id].name for event in line.events]
                counts["copies"] += sum(bool(re.search("(?i)memcpy.?(h2d|d2h)", n)) for n in names)
                counts["kernels"] += sum(not re.search("(?i)mem(cpy|set)", n) for n in names)
    return counts


def test_kernels_and_copies_are_counted_on_the_streams_of_the_gpu_alone():
    space = xplane_pb2.XSpace()
    names = ["fusion_1", "MemcpyH2D", "MemcpyD2H", "Memset", "MemcpyD2D"]
    for place, lines in (
        ("/device:GPU:0", ["Stream #13(Compute)", "XLA Ops"]),
        ("/host:CPU", ["Stream #1"]),
    ):
        plane = space.planes.add(name=place)
        for number, name in enumerate(names):
            plane.event_metadata[number].name = name
        for line in lines:
            plane.lines.add(name=line).events.extend(
                xplane_pb2.XEvent(metadata_id=n) for n in (0, 0, 0, 1, 2, 3, 4)
            )
    assert stream_events(space.SerializeToString()) == {"kernels": 3, "copies": 2}


@pytest.mark.gpu
def test_nothing_is_compiled_inside_the_clock_of_training(start, tmp_path):
    """Each program that XLA compiles leaves files."""
    dump = tmp_path / "dump"
    process = start("--eval_every=500", XLA_FLAGS=f"--xla_dump_to={dump}")
    read_until(process, "step 1/")
    compiled = set(dump.iterdir())
    end(process)
    assert compiled and set(dump.iterdir()) == compiled


@pytest.mark.gpu
def test_two_processes_at_once_end_with_the_same_weights(start, tmp_path):
    paths = [tmp_path / f"{number}.json" for number in range(2)]
    for process in [start("--max_steps=20000", f"--record={path}") for path in paths]:
        end(process)
    first, second = (json.loads(path.read_text())["weights_sha256"] for path in paths)
    assert first == second


@pytest.mark.gpu
def test_ctrl_c_ends_the_run_with_one_line(start):
    process = start("--max_steps=0", "--epochs=1000000", "--eval_every=1000")
    read_until(process, "step 1/")
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    _, errors = end(process, code=130)
    assert "Traceback" not in errors
