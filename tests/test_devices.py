"""Devices and notices: what hides them, what shows them, and what is recorded of a machine."""

import contextlib
import gc
import math
import os
import subprocess
import sys
import types

import pytest
import tensorflow as tf

import flags
from common.errors import InputError
from runtime import devices, gpu, startup
from tests.conftest import PROJECT


def test_garbage_is_collected_again_when_an_import_has_failed():
    with startup.starting():  # train.py imports TensorFlow so, and a contender train.py
        with pytest.raises(ImportError), startup.starting():
            assert not gc.isenabled() and startup.LEGACY_KERAS in os.environ
            raise ImportError
        assert gc.isenabled() and startup.LEGACY_KERAS not in os.environ
    assert gc.get_freeze_count()
    gc.unfreeze()


@pytest.mark.parametrize(
    ("level", "error", "said"),
    [
        ("", ImportError(), "a notice\n"),
        ("", InputError("--device=gpu"), ""),
        ("", None, ""),
        ("0", None, "a notice\n"),
    ],
)
def test_notices_are_shown_when_tensorflow_fails_or_who_asks(
    monkeypatch, capfd, level, error, said
):
    monkeypatch.setenv(startup.LOG_LEVEL, level)
    expected = pytest.raises(type(error)) if error else contextlib.nullcontext()
    with expected, startup.quiet():
        os.write(2, b"a notice\n")
        if error:
            raise error
    assert capfd.readouterr().err == said


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Puts an nvidia-smi on the path; returns what gives it lines to print for each GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    program = tmp_path / "nvidia-smi"

    def print_lines(*lines):
        program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        program.chmod(0o755)

    return print_lines


def test_a_gpu_that_tensorflow_does_not_see_is_said_with_the_cure(nvidia_smi, monkeypatch, capfd):
    nvidia_smi("Some GPU")
    tf.config.list_physical_devices("GPU")  # what TensorFlow says at its first look
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [])
    capfd.readouterr()
    assert gpu.usable("auto") == []
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "requirements/gpu.txt" in said
    with pytest.raises(InputError, match="TensorFlow sees no GPU"):
        gpu.usable("gpu")
    assert gpu.usable("cpu") == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose
    assert gpu.usable("auto") == [] and capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("major", "cuda", "good"),
    [(10, "12.5.1", False), (9, "12.5.1", True), (12, "12.8", True)],
)
def test_a_gpu_that_this_build_would_end_at_is_not_taken(monkeypatch, capfd, major, cuda, good):
    device, visible = types.SimpleNamespace(name="/physical_device:GPU:0"), []
    for name, stub in {
        "config.list_physical_devices": lambda kind: [device],
        "config.set_visible_devices": lambda devices, kind: visible.extend(devices),
        "config.experimental.set_memory_growth": lambda gpu, grow: None,
        "config.experimental.get_device_details": lambda gpu: {"compute_capability": (major, 0)},
        "sysconfig.get_build_info": lambda: {"cuda_version": cuda},
    }.items():
        monkeypatch.setattr(f"tensorflow.{name}", stub)
    assert gpu.usable("auto") == visible == ([device] if good else [])
    assert capfd.readouterr().err.count("needs a TensorFlow built with CUDA 12.8") == (not good)
    if not good:
        with pytest.raises(InputError, match=r"--device=gpu: .* or use --device=cpu"):
            gpu.usable("gpu")


@pytest.mark.parametrize(
    ("printed", "gib"),
    [(["81920", "40960", "[N/A]"], 40), (["[N/A]"], math.inf)],
)
def test_the_smallest_gpu_says_how_much_memory_there_is(nvidia_smi, printed, gib):
    nvidia_smi(*printed)
    assert devices.memory("GPU:0") == gib * 2**30


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_used_only_where_it_is_allowed(monkeypatch, tf32):
    allowed: list[bool] = []
    monkeypatch.setattr(
        "tensorflow.config.experimental.enable_tensor_float_32_execution", allowed.append
    )
    devices.choose(flags.training_config(device="cpu", tf32=tf32))
    assert allowed == [tf32]


@pytest.mark.parametrize(
    ("group", "files", "quota", "cores", "memory"),
    [
        ("0::/", {"cpu.max": "50000 100000", "memory.max": "4096"}, 0.5, 1, 4096),
        (
            "0::/a/b",
            {"cpu.max": "max 9", "a/cpu.max": "25 10", "memory.max": "max", "a/memory.max": "9"},
            2.5,
            3,
            9,
        ),
        (
            "1:cpu,cpuacct:/a",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "9"},
            None,
            8,
            None,
        ),
        ("1:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "18", "cpu/a/cpu.cfs_period_us": "9"}, 2, 2, None),
        ("2:memory:/not/seen", {"memory/memory.limit_in_bytes": "9"}, None, 8, 9),
    ],
)
def test_the_limits_of_control_groups_are_followed(
    monkeypatch, tmp_path, group, files, quota, cores, memory
):
    (tmp_path / "own").write_text(f"{group}\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(devices, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(devices, "GROUPS", tmp_path)
    whole = devices.memory("CPU:0")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert (devices.quota(), devices.cores()) == (quota, cores)
    assert whole == (memory or devices.psutil.virtual_memory().total)


def test_the_commit_is_that_of_a_checkout_of_its_own_whoever_owns_it(tmp_path, monkeypatch):
    """A copy of the project inside another repository has no commit."""
    git = "git -c user.name=n -c user.email=e@example.org"
    commit = f"echo here > file && git init -q && git add file && {git} commit -qm all"
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.setattr("common.children.PROJECT", inner)
    found = []
    for repository in (tmp_path, inner):
        subprocess.run(commit, shell=True, cwd=repository, check=True)
        found.append(devices.git_commit())
    assert found[0] is None and len(found[1]) == 12
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own variable
    (inner / "file").write_text("changed")
    assert devices.git_commit() == f"{found[1]}-dirty"


@pytest.mark.slow
def test_it_trains_in_odd_surroundings(tiny_data_dir, tmp_path):
    limits = "ulimit -n 64; ulimit -s 1024; unset HOME USER LOGNAME; TZ=:nowhere/at/all"
    nameless = "import pwd\ndef getpwuid(uid): raise KeyError(uid)\npwd.getpwuid = getpwuid\n"
    (tmp_path / "sitecustomize.py").write_text(nameless)
    job = f"{PROJECT / 'train.py'} --data_dir={tiny_data_dir} --max_steps=3 --mode=eager"
    done = subprocess.run(
        f"{limits} PYTHONPATH={tmp_path} {sys.executable} -OO -X dev -W error {job}",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "training alone: 3 steps" in done.stdout and not (tmp_path / "~").exists()
