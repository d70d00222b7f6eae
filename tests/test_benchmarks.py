"""Children that end with their parent; what measures, what keeps records, what renders them."""

import signal
import subprocess
import sys

import numpy as np
import pytest

import data
import flags
from benchmarks import __main__ as benchmarks
from benchmarks import common, noise, render, speed, variants
from common.errors import InputError
from tests.conftest import PROJECT

FOREVER = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
# Starts a process that starts another, says that both run, and waits.
PARENT = f"""
import subprocess, sys
from common import children
from runtime import signals
signals.unwind()
inner = "import subprocess; subprocess.run({FOREVER!r})"
with children.started([sys.executable, "-c", inner], 60, stdout=subprocess.PIPE) as process:
    process.stdout.readline()
    print(flush=True)
    process.wait()
"""


def test_sigterm_ends_a_parent_with_all_that_it_has_started():
    command, pipe = [sys.executable, "-c", PARENT], subprocess.PIPE
    with subprocess.Popen(command, cwd=PROJECT, stdout=pipe, stderr=pipe) as parent:
        parent.stdout.readline()
        parent.terminate()
        parent.communicate(timeout=60)  # stderr is open until the last of them has ended
        assert parent.returncode == 128 + signal.SIGTERM


@pytest.mark.slow
def test_every_way_to_write_the_step_ends_with_the_same_weights(tiny_dataset):
    config = flags.training_config(max_steps=40, eval_every=0, lr=1e-3)
    block = next(data.blocks(tiny_dataset.train, config))
    ways = variants.WAYS.values()
    found = [variants.compiled(way, block, config).net.W.numpy() for way in ways]
    assert len(found) == 6 and np.abs(found[0]).max() > 1e-3
    np.testing.assert_allclose(found, [found[0]] * 6, atol=1e-6)


ABOUT = {
    "date": "2026-01-02",
    "device_name": "A CPU",
    "cores": 4,
    "python": "3.12.1",
    "tensorflow": "2.21.0",
    "git_commit": "0123456789abcdef",
}


@pytest.fixture
def records(tmp_path, monkeypatch):
    """An empty folder of records."""
    monkeypatch.setattr(common, "RECORDS", tmp_path)
    monkeypatch.setattr(common, "environment", lambda: ABOUT)
    return tmp_path


def test_a_record_says_where_it_was_made_and_whether_it_was_quiet(records):
    common.save("modes", {"mode xla": [3.0, 1.0, 2.0]}, 1.5, "python -m benchmarks modes")
    text = render.samples("modes")
    assert "| mode xla | 2.00 [1.00, 3.00] |" in text and "`python -m benchmarks modes`" in text
    assert all(str(fact)[:12] in text for fact in ABOUT.values())
    assert "4 cores, of which other processes used 1.5" in text


def test_a_release_has_one_line_in_the_history(records):
    found = {"modes": {f"mode {mode}, µs/step": [1.0, 2.0, 3.0] for mode in speed.MODES}}
    found |= {"start": {speed.WARM: [1.5]}, "history": [{"release": "0.0.1"}]}
    for name, value in found.items():
        common.save(name, value, 0, "")
    for _ in range(2):
        common.save("history", benchmarks.history(), 0, "")
    old, new = common.load("history")[1]
    assert (old["release"], new["mode xla, µs/step"], new[speed.WARM]) == ("0.0.1", "2.00", "1.50")


def test_only_ratios_tell_a_slowdown_on_a_machine_whose_speed_drifts(monkeypatch):
    monkeypatch.setattr(noise, "RESAMPLED", 100)
    rng = np.random.default_rng(1)
    drift = 1 + 0.2 * np.sin(np.arange(60) / 10)
    equal, ratios = rng.normal(1, 0.01, size=(2, 60))
    found = list(noise.rates(*map(list, (ratios * drift, ratios, equal))).values())
    different, false_alarms, false_alarms_of_ratios = found[0], found[1], found[3]
    assert max(different, false_alarms_of_ratios) <= 5 < 20 < false_alarms
    assert found[4] >= 95


def test_an_unknown_name_is_refused_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(benchmarks, "MEASUREMENTS", {"modes": lambda: pytest.fail("measured")})
    with pytest.raises(InputError, match="nothing: must be --render, or some of modes"):
        benchmarks.main(["modes", "nothing"])
