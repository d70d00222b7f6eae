"""Children that end with their parent; what measures, what keeps records, what renders them."""

import contextlib
import json
import re
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
import tensorflow as tf

import data
from benchmarks import __main__ as benchmarks
from benchmarks import common, render, speed, variants
from common import children
from common.errors import InputError, RunError
from tests.conftest import PROJECT, gone

FOREVER = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
# Starts a process that starts another, tells the number of the second, and waits.
PARENT = f"""
import subprocess, sys
from common import children
children.end_on_signals()
inner = "import subprocess, sys; own = subprocess.Popen({FOREVER[1:]!r},
executable=sys.executable)\\n" \\
    "print(own.pid, flush=True); own.wait()"
with children.started([sys.executable, "-c", inner], 60, stdout=subprocess.PIPE, text=True) as
process:
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


def test_a_run_that_fails_is_one_error_with_its_last_words():
    with pytest.raises(RunError, match=r"train\.py --lr=0 .*exit code 2: error: --lr=0"):
        common.train("--lr=0")


def test_a_run_is_measured_from_outside():
    run = common.python("-c", "used = bytearray(200 * 2**20); print('done')")
    assert run.peak_mib > 200 and run.seconds > 0 and run.output == "done\n"


def test_each_round_is_a_value_of_each_sample():
    values = iter(range(6))
    samples = common.in_rounds(lambda: {"a": next(values), "b": next(values)}, rounds=3)()
    assert samples == {"a": [0, 2, 4], "b": [1, 3, 5]}
    assert common.median_range([3.0, 1.0, 2.0]) == "2.00 (1.00-3.00)"
    assert common.median_range([3000.0, 1000.0]) == "2,000 (1,000-3,000)"


def test_the_large_dataset_is_mnist_so_many_times(tiny_data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tiny_data_dir))
    one = data.load("mnist", str(tiny_data_dir))
    size = speed.make(tmp_path, 3)
    three = data.load("made3", str(tmp_path))
    np.testing.assert_array_equal(three.train.images, np.concatenate([one.train.images] * 3))
    np.testing.assert_array_equal(three.test.labels, one.test.labels)
    assert size >= three.train.images.nbytes


def test_every_way_to_write_the_step_ends_with_the_same_weights(monkeypatch):
    monkeypatch.setattr(variants, "EXAMPLES", 600)
    monkeypatch.setattr(variants, "STEPS", 40)
    monkeypatch.setattr(variants, "LR", 1e-3)
    rows = variants.random_rows()
    found = {}
    for name, way in variants.WAYS.items():
        if way.gathered <= 40:
            W, b = variants.block(way)(rows)
            found[name] = np.vstack([tf.transpose(W) if way.transposed else W, b[None]])
    first, *others = found.values()
    assert len(others) == 4 and np.abs(first).max() > 1e-3
    for weights in others:
        np.testing.assert_allclose(weights, first, atol=1e-6)


@pytest.fixture
def records(tmp_path, monkeypatch):
    """An empty folder of records."""
    monkeypatch.setattr(common, "RECORDS", tmp_path)
    environment = {
        **{"date": "2026-01-02", "device_name": "A CPU", "cores": 4, "python": "3.12.1"},
        **{"tensorflow": "2.21.0", "git_commit": "0123456789abcdef"},
    }
    monkeypatch.setattr(common, "environment", lambda: environment)
    return tmp_path


@pytest.mark.parametrize(("busy", "said"), [(0.1, False), (1.5, True)])
def test_a_record_says_where_it_was_made_and_whether_it_was_quiet(records, busy, said):
    common.save("modes", {"mode xla": [3.0, 1.0, 2.0]}, busy, "python -m benchmarks modes")
    text = render.BLOCKS["modes"]()
    assert "| mode xla | 2.00 (1.00-3.00) |" in text
    for fact in ("2026-01-02", "A CPU, 4 cores", "3.12.1", "2.21.0", "0123456789ab."):
        assert fact in text
    assert ("not quiet" in text) == said and "`python -m benchmarks modes`" in text


@pytest.mark.parametrize("content", [None, "", "{}", '{"about": {}}', "[1]"])
def test_what_is_no_record_is_refused_with_the_command_that_makes_it(records, content):
    if content is not None:
        (records / "modes.json").write_text(content)
    with pytest.raises(InputError, match=r"modes\.json: is no record .*-m benchmarks modes"):
        render.BLOCKS["modes"]()


def test_only_the_blocks_that_are_known_are_rendered(records):
    common.save("modes", {"mode xla": [1.0]}, 0, "a command")
    page = "a\n<!-- modes -->\nold\n<!-- /modes -->\nb\n<!-- mine -->\nkept\n<!-- /mine -->\n"
    rendered = render.rendered(page)
    assert rendered == page.replace("old", render.BLOCKS["modes"]())
    assert render.rendered(rendered) == rendered


def test_a_release_has_one_line_in_the_history(records, monkeypatch):
    common.save("modes", {f"mode {mode}": [1.0, 2.0, 3.0] for mode in speed.MODES}, 0, "")
    common.save("start", {speed.WARM: [1.5]}, 0, "")
    common.save("history", [{"release": "0.0.1", "nodes": 1}], 0, "")
    for _ in range(2):
        common.save("history", benchmarks.history(), 0, "")
    old, new = json.loads((records / "history.json").read_text())["found"]
    assert old["release"] == "0.0.1" and new["release"] != "0.0.1"
    assert new["mode xla"] == "2.00" and new[speed.WARM] == "1.50" and "µs" in new["best opponent"]


def test_an_unknown_name_is_refused_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(benchmarks, "MEASUREMENTS", {"modes": lambda: pytest.fail("measured")})
    with pytest.raises(InputError, match="nothing: must be --render or some of modes"):
        benchmarks.main(["modes", "nothing"])


def test_no_record_holds_a_path_of_a_machine():
    for path in common.RECORDS.glob("*.json"):
        assert not re.search(r"/(tmp|home|work)/", path.read_text()), path
