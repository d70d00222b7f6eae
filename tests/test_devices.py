"""Devices and notices: what hides them, what shows them, and that nothing of one system alone is
imported."""

import ast
import gc
import pathlib
import subprocess
import sys
import types

import pytest
import tensorflow as tf

from common.errors import InputError
from runtime import devices, gpu, startup
from tests.conftest import PROJECT
from tests.test_house import modules

NOTICE = 'os.write(2, b"this CPU lacks AVX\\n")'
OF_ONE_SYSTEM = {"fcntl", "resource", "termios", "pty", "pwd", "winreg", "msvcrt"}


def test_garbage_is_collected_again_when_the_outermost_import_is_done_or_failed() -> None:
    with startup.without_collecting():
        with startup.without_collecting():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count()
    with pytest.raises(ImportError), startup.without_collecting():
        raise ImportError
    assert gc.isenabled()
    gc.unfreeze()


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ("raise ImportError", True),
        ("raise RuntimeError", True),
        ("raise errors.InputError('--device=gpu')", False),
        ("pass", False),
        ("os.kill(os.getpid(), signal.SIGTERM)", False),
    ],
)
def test_notices_are_shown_when_tensorflow_fails_and_only_then(then: str, said: bool) -> None:
    program = "import os, signal\nfrom common import errors\n"
    program += "from runtime import startup, signals\nsignals.install()\n"
    program += f"with startup.quiet('waiting'):\n    {NOTICE}\n    {then}\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert ("this CPU lacks AVX" in done.stderr) == said


def test_who_asks_for_notices_sees_them(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv(startup.LOG_LEVEL, "0")
    with startup.quiet():
        subprocess.run(["sh", "-c", "echo a notice >&2"], check=True)
    assert capfd.readouterr().err == "a notice\n"


@pytest.fixture
def nvidia_smi(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts an nvidia-smi on the path that lists one GPU, which TensorFlow does not see."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidia-smi").write_text('#!/bin/sh\necho "Some GPU"\n')
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    tf.config.list_physical_devices("GPU")  # what TensorFlow says at its first look
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [])


@pytest.mark.usefixtures("nvidia_smi")
def test_a_gpu_that_tensorflow_does_not_see_is_said_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    assert gpu.usable("auto") == []
    said = capfd.readouterr().err
    assert said.startswith(
        "--device=auto takes the CPU: nvidia-smi lists Some GPU, and TensorFlow sees no GPU. Run "
    )
    assert "requirements/gpu.txt" in said and said.count("\n") == 1
    with pytest.raises(InputError, match="--device=gpu: nvidia-smi lists Some GPU"):
        gpu.usable("gpu")
    capfd.readouterr()
    assert gpu.usable("cpu") == [] and capfd.readouterr().err == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose
    assert gpu.usable("auto") == [] and capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("capability", "cuda", "good"),
    [
        ((12, 0), "12.5.1", False),
        ((10, 0), "12.5.1", False),
        ((9, 0), "12.5.1", True),
        ((12, 0), "12.8", True),
        ((7, 5), "12.5.1", True),
        (None, "12.5.1", True),
        ((12, 0), None, True),
    ],
)
def test_a_gpu_that_this_build_would_end_at_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    capability: tuple[int, int] | None,
    cuda: str | None,
    good: bool,
) -> None:
    device, config = types.SimpleNamespace(name="/physical_device:GPU:0"), "tensorflow.config"
    visible: list = []
    monkeypatch.setattr(f"{config}.list_physical_devices", lambda kind: [device])
    monkeypatch.setattr(
        f"{config}.set_visible_devices", lambda devices, kind: visible.append(list(devices))
    )
    monkeypatch.setattr(f"{config}.experimental.set_memory_growth", lambda gpu, grow: None)
    details = {"compute_capability": capability} if capability else {}
    monkeypatch.setattr(f"{config}.experimental.get_device_details", lambda gpu: details)
    monkeypatch.setattr(
        "tensorflow.sysconfig.get_build_info", lambda: {"cuda_version": cuda} if cuda else {}
    )
    assert gpu.usable("auto") == ([device] if good else [])
    assert visible == [[device] if good else []]
    said = capfd.readouterr().err
    assert (
        said == ""
        if good
        else said.count("\n") == 1 and "needs a TensorFlow built with CUDA 12.8" in said
    )
    if not good:
        with pytest.raises(
            InputError, match=r"--device=gpu: .* Install such a TensorFlow, or use --device=cpu"
        ):
            gpu.usable("gpu")


@pytest.mark.parametrize(
    ("printed", "gib"),
    [
        ([], float("inf")),
        (["81920"], 80),
        (["81920", "40960", "[N/A]"], 40),
        (["[N/A]"], float("inf")),
    ],
)
def test_the_smallest_gpu_says_how_much_memory_there_is(tmp_path, monkeypatch, printed, gib):
    monkeypatch.setenv("PATH", str(tmp_path))
    if printed:
        lines = "".join(f"echo '{line}'\n" for line in printed)
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{lines}")
        (tmp_path / "nvidia-smi").chmod(0o755)
    device = types.SimpleNamespace(device_type="GPU", name="/device:GPU:0")
    assert devices.memory(device) == gib * 2**30


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_used_only_where_it_is_allowed(monkeypatch: pytest.MonkeyPatch, tf32: bool) -> None:
    allowed: list[bool] = []
    monkeypatch.setattr(
        "tensorflow.config.experimental.enable_tensor_float_32_execution", allowed.append
    )
    devices.choose("cpu", tf32)
    assert allowed == [tf32]


def test_no_module_imports_what_one_system_alone_has() -> None:
    for path in modules(PROJECT).values():
        body = ast.parse(path.read_text()).body
        names = [
            alias.name for node in body if isinstance(node, ast.Import) for alias in node.names
        ]
        names += [node.module for node in body if isinstance(node, ast.ImportFrom)]
        assert not OF_ONE_SYSTEM & set(names), path


def test_only_the_commit_of_a_checkout_of_its_own_is_recorded(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the project inside another repository has no commit."""
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.setattr(devices, "PROJECT", inner)
    found = []
    for repository in (tmp_path, inner):
        (repository / "file").write_text("here")
        for arguments in (["init", "-q"], ["add", "file"], ["commit", "-qm", "all"]):
            subprocess.run([*git, *arguments], cwd=repository, check=True)
        found.append(devices.git_commit())
    (inner / "file").write_text("changed")
    assert found[0] is None and len(found[1]) == 40
    assert devices.git_commit() == f"{found[1]}-dirty"
