"""Ctrl-C and SIGTERM, sent to the real command."""

import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests import forked
from tests.conftest import PROJECT


def start(data_dir: pathlib.Path, *arguments: str) -> subprocess.Popen:
    """Starts a run that would take hours; SIGINT reaches it even where the tests run in the background."""
    command = [sys.executable, "train.py", f"--data_dir={data_dir}", "--epochs=10000", *arguments]
    return subprocess.Popen(
        command,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(process: subprocess.Popen, words: str) -> None:
    assert any(words in line for line in process.stdout), process.stderr.read()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_signal_ends_the_block_keeps_it_and_says_what_was_reached(
    tiny_data_dir: pathlib.Path,
    tmp_path: pathlib.Path,
    run_here: Callable[..., dict],
    number: signal.Signals,
    code: int,
) -> None:
    kept = f"--checkpoint_dir={tmp_path / 'kept'}"
    process = start(tiny_data_dir, kept)
    wait_for(process, "step 8/")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.startswith(f"stopped by {number.name} at step ") and len(errors.splitlines()) == 1
    step = int(errors.split("at step ")[1].split(" of ")[0].replace(",", ""))
    job = f"--max_steps={step}", "--epochs=10000"
    unbroken, resumed = run_here(*job), run_here(*job, kept)
    assert (unbroken["resumed_at_step"], resumed["resumed_at_step"]) == (0, step)
    assert resumed["weights_sha256"] == unbroken["weights_sha256"]


def test_without_a_folder_the_line_says_that_nothing_is_kept(tiny_data_dir: pathlib.Path) -> None:
    process = forked.Forked(
        [PROJECT / "train.py", f"--data_dir={tiny_data_dir}", "--epochs=10000", "--mode=eager"]
    )
    wait_for(process, "step 2/")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "kept only with --checkpoint_dir" in errors
    assert "Traceback" not in errors


def test_ctrl_c_during_the_imports_is_no_traceback(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    # In TensorFlow's place, a module that presses Ctrl-C and never ends.
    (tmp_path / "tensorflow.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "train.py", f"--data_dir={tiny_data_dir}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert done.returncode == 130 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            "with stopping.at_block_ends():\n"
            "    os.kill(os.getpid(), signal.SIGTERM)\n"
            "    assert stopping.asked()\n"
            "    os.kill(os.getpid(), signal.SIGINT)\n"
            "    while True: pass\n",
            "SIGINT",
        ),
        ("with stopping.at_block_ends():\n    os.kill(os.getpid(), signal.SIGTERM)\n", "SIGTERM"),
        (
            "with startup.quiet():\n    os.kill(os.getpid(), signal.SIGTERM)\n    while True: pass\n",
            "SIGTERM",
        ),
    ],
    ids=["a second signal", "after the last block", "while stderr is kept off the screen"],
)
def test_leaves_at_once_and_says_so(lines: str, said: str) -> None:
    program = (
        f"import os, signal\nfrom runtime import startup, stopping\nstopping.install()\n{lines}"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (128 + signal.Signals[said], f"stopped by {said}\n")
