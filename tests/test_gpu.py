"""GPUs, as far as a CPU can test them: what is said of them, and the acceptance command on a CPU."""

import sys
import types

import pytest
import tensorflow as tf

from common import errors
from comparison import gpus, worker
from runtime import devices


def test_a_gpu_in_use_is_told():
    used = {"name": "A GPU", "driver_version": "570.1", "utilization.gpu": "37"}
    assert gpus.warnings([], []) == gpus.warnings([used | {"utilization.gpu": "0"}], []) == []
    assert gpus.warnings([used], []) == ["Busy GPU: A GPU was in use, 37 %, before the first measurement."]


def test_a_gpu_that_slows_down_or_is_shared_is_told():
    good = {"sm_mhz": 1900, "celsius": 50, "watts": 200.0, "slowed_by": [], "others": 0}
    assert gpus.warnings([], [good, good | {"sm_mhz": 1800}]) == []
    bad = good | {"sm_mhz": 900, "slowed_by": ["heat"], "others": 2}
    told = gpus.warnings([], [good, bad])
    assert [sentence.split(":")[0] for sentence in told] == ["Slowing GPU", "Throttled GPU", "Shared GPU"]
    assert "in 1 of 2 looks its clock was down to 900 of 1900 MHz" in told[0] and "by heat" in told[1]


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
    monkeypatch.setattr(worker.time, "perf_counter", lambda: next(readings))
    monkeypatch.setattr(gpus, "state", lambda: calls.append("state"))
    worker._warm(peer)
    assert calls == ["reset", "train", "barrier"] * 2 + ["state"]


def test_nvidia_smi_is_not_asked_for_the_memory_where_nothing_depends_on_it(monkeypatch):
    monkeypatch.setattr(devices, "memory", lambda device: pytest.fail("asked"))
    assert (devices.most_bytes("memory"), devices.most_bytes("stream")) == (float("inf"), -1)


@pytest.mark.parametrize("said", ["CUDA_ERROR_OUT_OF_MEMORY: failed", "RESOURCE_EXHAUSTED: Out of memory while ..."])
def test_a_gpu_without_memory_left_is_one_line_whatever_tensorflow_calls_it(said):
    line = errors._failed(tf.errors.InternalError(None, None, said))
    assert line.startswith("out of memory (") and "--batch_size" in line and "--input=stream" in line
