"""What the benchmarks share: children that end with their parent, real runs, tables with an earlier state."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

import data
from benchmarks import pages, runs, speed
from common import children
from common.errors import RunError
from tests.conftest import PROJECT, gone

FOREVER = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
# Starts a process that starts another, tells the number of the second, and waits.
PARENT = f"""
import subprocess, sys
from common import children
children.end_on_signals()
inner = "import subprocess, sys; own = subprocess.Popen({FOREVER[1:]!r}, executable=sys.executable)\\n" \\
    "print(own.pid, flush=True); own.wait()"
with children.started([sys.executable, "-c", inner], 60, stdout=subprocess.PIPE, text=True) as process:
    print(process.stdout.readline(), flush=True)
    process.wait()
"""


def test_an_error_ends_every_child_that_runs() -> None:
    with pytest.raises(ZeroDivisionError), contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(children.started(FOREVER, 60, stdout=subprocess.DEVNULL))
            for _ in range(2)
        ]
        _ = 1 / 0
    assert [process.returncode for process in started] == [-signal.SIGKILL] * 2


def test_a_child_is_ended_when_its_time_is_over() -> None:
    with (
        pytest.raises(RunError, match=r"--timeout=0\.2: ended after 0\.2 s: .*python"),
        children.started(FOREVER, 0.2, stdout=subprocess.DEVNULL) as process,
    ):
        process.wait()


def test_sigterm_ends_a_parent_with_all_that_it_has_started() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        grandchild = int(parent.stdout.readline())
        assert psutil.pid_exists(grandchild)
        parent.terminate()
        assert parent.wait(60) == 128 + signal.SIGTERM
        assert gone(grandchild)


def test_a_run_that_fails_is_one_error_with_its_last_words() -> None:
    with pytest.raises(RunError, match=r"train.py --lr=0 .*left with 2: error: --lr=0: must be"):
        runs.train(runs.Config(), "--lr=0")


def test_a_run_is_measured_from_outside() -> None:
    run = runs.run(runs.Config(), "-c", "kept = bytearray(200 * 2**20)")
    assert run.peak_mib > 200 and run.seconds > 0


@pytest.mark.skipif(
    not hasattr(psutil.Process, "cpu_affinity"), reason="the system cannot hold a process to a core"
)
def test_what_is_started_on_one_core_sees_one() -> None:
    count = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
    before = os.sched_getaffinity(0)
    with runs.one_core():
        assert subprocess.run(count, capture_output=True, text=True).stdout == "1\n"
    assert os.sched_getaffinity(0) == before


def test_the_datasets_of_the_benchmark_are_mnist_so_many_times(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    one = data.load("mnist", str(tiny_data_dir))
    speed.make(tmp_path, 3, str(tiny_data_dir), npz=True)
    three = data.load("made3", str(tmp_path))
    np.testing.assert_array_equal(three.train.images, np.concatenate([one.train.images] * 3))
    np.testing.assert_array_equal(three.test.labels, one.test.labels)
    with np.load(tmp_path / "made3" / "decoded.npz") as earlier:
        np.testing.assert_array_equal(earlier["train_images"], three.train.images)


def test_the_table_pairs_each_round_with_the_same_of_the_earlier_state() -> None:
    lines = speed.table({"both": [[2.0, 4.0, 10.0], [1.0, 1.0, 9.0]], "now alone": [[], [200.0]]})
    assert lines[2] == "| both | 4.00 (2.00-10.00) | 1.00 (1.00-9.00) | 0.50 |"
    assert lines[3] == "| now alone |  | 200 (200-200) |  |"
    assert len({line.count("|") for line in lines}) == 1
    assert speed.table({"one": [[1.0]]})[1:] == ["|---|--:|", "| one | 1.00 (1.00-1.00) |"]


def test_each_table_goes_to_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    published = []
    monkeypatch.setattr(runs, "publish", lambda *given: published.append(given))
    found = {group: {f"a row of {group}": [[1.0]]} for group in speed.GROUPS}
    config, rest = (
        speed.Config(),
        [row for group in ("start", "steps", "large", "epochs") for row in found[group]],
    )
    speed.publish(config, dict(found))
    assert published == [
        (
            "batches",
            config,
            speed.table(found["batches"]),
            "docs/results.md",
            found["batches"],
            "speed --only=batches",
        ),
        (
            "stream",
            config,
            speed.table(found["stream"]),
            "docs/results.md",
            found["stream"],
            "speed --only=stream",
        ),
        ("speed", config, speed.table({row: [[1.0]] for row in rest}), "docs/performance.md"),
    ]


@pytest.mark.slow
def test_a_run_is_watched_until_it_has_said_something(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    bench = speed.Bench(speed.Config(data_dir=str(tiny_data_dir), timeout=120), PROJECT, tmp_path)
    began = time.perf_counter()
    first, step = bench.until(b"", terminal=True), bench.until(b"step 1/", "--epochs=1000000")
    assert 0 < first.seconds < step.seconds < time.perf_counter() - began
    with pytest.raises(RunError, match="ended before it said b'never said'"):
        bench.until(b"never said", "--lr=0")


def test_a_block_is_replaced_and_nothing_else(tmp_path: pathlib.Path) -> None:
    page = "before\n<!-- results -->\nold\nlines\n<!-- /results -->\nafter\n"
    assert pages.with_block(page, "results", r"new \1") == page.replace("old\nlines", r"new \1")
    for wrong in ("no block", page + page):
        with pytest.raises(RunError, match="one block <!-- results -->"):
            pages.with_block(wrong, "results", "")
