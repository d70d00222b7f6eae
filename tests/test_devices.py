"""Devices and notices: what hides them, what shows them, and that nothing of one system alone is imported."""

import pathlib
import subprocess
import sys

import pytest

from common.errors import InputError
from runtime import devices
from tests.conftest import PROJECT

NOTICE = 'os.write(2, b"this CPU lacks AVX\\n")'
HIDDEN = """
import builtins, importlib, sys
original = builtins.__import__
def hide(name, *arguments, **options):  # from the project; a library may import what it likes
    frame = sys._getframe(1)
    if name in ("fcntl", "resource", "termios", "pty", "pwd") and frame.f_code.co_filename.startswith(sys.argv[1]):
        raise ImportError(f"{name} is hidden from {frame.f_code.co_filename}")
    return original(name, *arguments, **options)
builtins.__import__ = hide
for module in sys.argv[2:]:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        assert error.name in ("torch", "jax", "sklearn", "scipy", "cv2", "skimage"), error
"""


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ("os.abort()", True),
        ("os.kill(os.getpid(), signal.SIGILL)", True),
        ("raise ImportError", True),
        ("raise RuntimeError", True),
        ("raise errors.InputError('--device=gpu')", False),
        ("pass", False),
        ("os.kill(os.getpid(), signal.SIGTERM)", False),
    ],
)
def test_notices_are_shown_when_tensorflow_fails_and_only_then(then: str, said: bool) -> None:
    program = (
        "import os, signal\nfrom common import errors\nfrom runtime import devices, stopping\nstopping.install()\n"
    )
    program += f"with devices.quiet('waiting'):\n    {NOTICE}\n    {then}\n"
    # Its end waits for the shell that shows what an abort has left, because both write to the same pipe.
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert ("this CPU lacks AVX" in done.stderr) == said


def test_who_asks_for_notices_sees_them(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    monkeypatch.setenv(devices.LOG_LEVEL, "0")
    with devices.quiet():
        subprocess.run(["sh", "-c", "echo a notice >&2"], check=True)
    assert capfd.readouterr().err == "a notice\n"


@pytest.fixture
def nvidia_smi(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts an nvidia-smi on the path that lists one GPU, which TensorFlow does not see."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidia-smi").write_text('#!/bin/sh\necho "GPU 0: Some GPU (UUID: GPU-1)"\n')
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [])


@pytest.mark.usefixtures("nvidia_smi")
def test_a_gpu_that_tensorflow_does_not_see_is_said_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    assert devices.gpus("auto") == []
    said = capfd.readouterr().err
    assert said.startswith("nvidia-smi lists GPU 0: Some GPU, which TensorFlow does not see: run ")
    assert "requirements/gpu.txt" in said and said.count("\n") == 1
    with pytest.raises(InputError, match="--device=gpu: TensorFlow sees no GPU"):
        devices.gpus("gpu")
    capfd.readouterr()
    assert devices.gpus("cpu") == [] and capfd.readouterr().err == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose
    assert devices.gpus("auto") == [] and capfd.readouterr().err == ""


def modules() -> list[str]:
    """Returns the names of all modules of the project but the tests."""
    rooms = [
        path.name
        for path in PROJECT.iterdir()
        if path.is_dir() and path.name.isidentifier() and path.name != "tests" and any(path.glob("*.py"))
    ]
    top = [path.stem for path in PROJECT.glob("*.py")]
    found = [
        f"{room}.{'.'.join(path.relative_to(PROJECT / room).with_suffix('').parts)}"
        for room in rooms
        for path in (PROJECT / room).rglob("*.py")
        if path.stem != "__init__"
    ]
    return sorted([*top, *found])


def test_no_module_imports_what_one_system_alone_has() -> None:
    assert {"train", "benchmarks.speed", "comparison.machine"} <= set(modules())
    command = [sys.executable, "-c", HIDDEN, str(PROJECT), *modules()]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_only_the_commit_of_a_checkout_of_its_own_is_recorded(tmp_path: pathlib.Path) -> None:
    """A copy of the project inside another repository has no commit."""
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]
    inner = tmp_path / "inner"
    for folder in ("runtime", "common"):
        for path in (PROJECT / folder).glob("*.py"):
            (inner / folder).mkdir(parents=True, exist_ok=True)
            (inner / folder / path.name).write_text(path.read_text())
    (inner / "flags.py").write_text((PROJECT / "flags.py").read_text())
    ask = [sys.executable, "-c", "from runtime import devices; print(devices._git_commit())"]

    def commit_of(repository: pathlib.Path) -> str:
        for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
            subprocess.run([*git, *arguments], cwd=repository, check=True)
        return subprocess.run(ask, cwd=inner, capture_output=True, text=True, check=True).stdout.strip()

    assert commit_of(tmp_path) == "None"
    head = commit_of(inner)
    assert len(head.removesuffix("-dirty")) == 40 and head != "None"
