"""GPUs, as far as a CPU can test them: what is said of them, and the acceptance command on a CPU."""

import json
import subprocess
import sys
import types

import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks import gpu as command
from benchmarks import gpu_checks, pages
from common import errors
from comparison import gpus, old_worker, results, survey, work
from runtime import devices
from tests.conftest import PROJECT


def test_a_gpu_in_use_is_told():
    used = {"name": "A GPU", "driver_version": "570.1", "utilization.gpu": "37"}
    assert gpus.warnings([], []) == gpus.warnings([used | {"utilization.gpu": "0"}], []) == []
    assert gpus.warnings([used], []) == [
        "Busy GPU: A GPU was in use, 37 %, before the first measurement."
    ]


def test_a_gpu_that_slows_down_or_is_shared_is_told():
    good = {"sm_mhz": 1900, "celsius": 50, "watts": 200.0, "slowed_by": [], "others": 0}
    assert gpus.warnings([], [good, good | {"sm_mhz": 1800}]) == []
    bad = good | {"sm_mhz": 900, "slowed_by": ["heat"], "others": 2}
    told = gpus.warnings([], [good, bad])
    assert [sentence.split(":")[0] for sentence in told] == [
        "Slowing GPU",
        "Throttled GPU",
        "Shared GPU",
    ]
    assert (
        "in 1 of 2 looks its clock was down to 900 of 1900 MHz" in told[0] and "by heat" in told[1]
    )


# NVIDIA's library, with one GPU that heat slows down, and two processes on it.
NVML = {
    "NVML_CLOCK_SM": 0,
    "NVML_TEMPERATURE_GPU": 0,
    "nvmlInit": lambda: None,
    "nvmlDeviceGetHandleByIndex": lambda index: f"GPU {index}",
    "nvmlDeviceGetHandleByUUID": lambda name: name,
    "nvmlDeviceGetClockInfo": lambda device, kind: 1980 if device == "GPU 2" else 1,
    "nvmlDeviceGetTemperature": lambda device, sensor: 88,
    "nvmlDeviceGetPowerUsage": lambda device: 350_000,
    "nvmlDeviceGetCurrentClocksThrottleReasons": lambda device: 0x1 | 0x20 | 0x40,
    "nvmlDeviceGetComputeRunningProcesses": lambda device: ["this one", "another"],
}


def test_the_state_of_a_gpu_is_what_nvml_says_of_the_one_in_sight(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    monkeypatch.setitem(sys.modules, "pynvml", types.SimpleNamespace(**NVML))
    expected = {"sm_mhz": 1980, "celsius": 88, "watts": 350.0, "slowed_by": ["heat"], "others": 1}
    assert gpus.state() == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa")
    assert gpus.state()["sm_mhz"] == 1
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert gpus.state() is None


def test_a_gpu_works_before_the_clock_starts(monkeypatch):
    calls, readings = [], iter([0.0, 0.4, 0.9, 1.2])
    peer = types.SimpleNamespace(
        **{name: lambda name=name: calls.append(name) for name in ("reset", "train", "barrier")}
    )
    monkeypatch.setattr(old_worker.time, "perf_counter", lambda: next(readings))
    monkeypatch.setattr(gpus, "state", lambda: calls.append("state"))
    old_worker._warm(peer)
    assert calls == ["reset", "train", "barrier"] * 2 + ["state"]


def test_nvidia_smi_is_not_asked_for_the_memory_where_nothing_depends_on_it(monkeypatch):
    monkeypatch.setattr(devices, "memory", lambda device: pytest.fail("asked"))
    assert (devices.most_bytes("memory"), devices.most_bytes("stream")) == (float("inf"), -1)


@pytest.mark.parametrize(
    "said", ["CUDA_ERROR_OUT_OF_MEMORY: failed", "RESOURCE_EXHAUSTED: Out of memory while ..."]
)
def test_a_gpu_without_memory_left_is_one_line_whatever_tensorflow_calls_it(said):
    line = errors._failed(tf.errors.InternalError(None, None, said))
    assert (
        line.startswith("out of memory (") and "--batch_size" in line and "--input=stream" in line
    )


def test_a_survey_asks_once_which_devices_there_are(monkeypatch):
    """A TensorFlow that has begun refuses to see others."""
    asked, a_gpu = [], types.SimpleNamespace(device_type="GPU", name="/device:GPU:0")
    monkeypatch.setattr(survey.devices, "choose", lambda name, tf32: asked.append(name) or a_gpu)
    monkeypatch.setattr(survey.devices, "describe", lambda device: device.name)
    assert survey.environment(["cpu", "gpu"])[0] == {"cpu": "/device:CPU:0", "gpu": "/device:GPU:0"}
    assert asked == ["auto"]


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
    assert gpu_checks.events(space.SerializeToString()) == {"kernels": 3, "copies": 2, "others": 16}


def fake_bench(**methods: object) -> types.SimpleNamespace:
    """A bench on a GPU that is not there; batch 100 is where it overtakes the CPU."""

    def sample(contender: str, device: str, batch_size: int) -> results.Sample:
        us = 20.0 if device == "gpu" else batch_size / 2
        known = {
            "again": False,
            "round": 1,
            "quiet": {},
            "cores": None,
            "us_per_step": us,
            "difference": 1e-7,
        }
        return results.Sample(contender=contender, device=device, batch_size=batch_size, **known)

    jobs = {size: work.Job("mnist", "", 784, 10, 55_000, size, 10, 0.01, 0) for size in (10, 100)}
    known = {"device": "gpu", "size": gpu_checks.Size(10, (10, 100), 3, ()), "sample": sample}
    surveyed = {"survey": {"devices": {"cpu": "a CPU", "gpu": "a GPU"}, "environment": {}}}
    return types.SimpleNamespace(
        **known | surveyed | {"rounds": types.SimpleNamespace(jobs=jobs)} | methods
    )


def test_speeds_are_of_each_device_and_batch_size():
    rows = gpu_checks.speeds(fake_bench())
    assert [
        r.shown for r in rows if r.what in ("xla on cpu, batch 100", "xla on gpu, batch 100")
    ] == ["50.0 µs/step", "20.0 µs/step"]
    assert all(row.held in (True, None) for row in rows)


@pytest.mark.parametrize(
    ("capability", "other", "held"),
    [((9, 0), "b", True), ((9, 0), "a", False), ((7, 5), "a", None)],
)
def test_tf32_must_differ_where_the_gpu_has_it(capability, other, held):
    alone = {"details": {"compute_capability": capability}, "record": {"weights_sha256": "a"}}
    train = lambda *flags: types.SimpleNamespace(record={"weights_sha256": other})  # noqa: E731
    rows = gpu_checks.reference(fake_bench(alone=alone, train=train))
    assert [row.held for row in rows] == [True, True, True, held]


def test_a_part_that_raises_is_a_failed_row_and_the_command_goes_on(monkeypatch, tmp_path, capsys):
    def breaks(bench: object) -> list:
        """(a) Breaks."""
        raise errors.RunError("a | b")

    def works(bench: object) -> list:
        """(b) Works."""
        return [gpu_checks.Row("what", "seen", True), gpu_checks.Row("a figure", "3", None)]

    monkeypatch.setattr(gpu_checks, "PARTS", {"a": breaks, "b": works})
    page = tmp_path / "page.md"
    page.write_text("<!-- gpu -->\n<!-- /gpu -->\n")
    monkeypatch.setattr(command, "PAGE", page)
    assert command.measure(command.Config(output=str(tmp_path / "new"), device="gpu")) == 1
    found = json.loads((tmp_path / "new" / "gpu.json").read_text())
    assert [[row["held"] for row in part["rows"]] for part in found["parts"].values()] == [
        [False],
        [True, None],
    ]
    for text in (page.read_text(), (tmp_path / "new" / "gpu.md").read_text()):
        assert (
            r"| | breaks | RunError: a \| b | **failed** |" in text
            and "| | what | seen | held |" in text
        )
    assert command.measure(command.Config(output=str(tmp_path / "new"), device="cpu")) == 1
    with pytest.raises(errors.InputError, match="--output: must be a folder"):
        command.measure(command.Config())


def test_the_page_has_a_place_for_the_table():
    assert "<!-- gpu -->" in pages.with_block(command.PAGE.read_text(), "gpu", "a table")


@pytest.mark.slow
def test_the_command_passes_on_a_cpu(tiny_data_dir, tmp_path):
    before = command.PAGE.read_text()
    arguments = [
        "-m",
        "benchmarks.gpu",
        f"--output={tmp_path / 'out'}",
        "--device=cpu",
        f"--data_dir={tiny_data_dir}",
    ]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert list(found["parts"]) == list("abcdefghi")
    assert all(
        any(row["held"] for row in part["rows"])
        for name, part in found["parts"].items()
        if name != "i"
    )
    assert command.PAGE.read_text() == before
