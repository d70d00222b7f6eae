"""The trace that --profile leaves."""

import signal

import numpy as np
import pytest

from common.errors import InputError
from outputs.profile import Profile
from runtime import stopping
from tests import conftest


@pytest.mark.parametrize(
    "arguments",
    [["--epochs=2"], ["--epochs=2", "--eval_every=0", "--max_steps=70", "--mode=graph"]],
)
def test_a_warm_block_leaves_a_trace(run_here, tmp_path, arguments):
    weights = run_here(*arguments)["weights_sha256"]
    assert run_here(f"--profile={tmp_path}", *arguments)["weights_sha256"] == weights
    traces = list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))
    assert len(traces) == 1 and traces[0].stat().st_size > 1000


def test_a_run_of_one_block_is_refused(run_here, tmp_path):
    with pytest.raises(InputError, match="--profile: the run has only one block"):
        run_here(f"--profile={tmp_path}", "--max_steps=20", "--eval_every=0")


def test_a_failure_in_the_traced_block_leaves_its_trace_and_a_line(run_train, tmp_path):
    done = run_train("--lr=1e36", "--eval_first=0", "--eval_every=1", f"--profile={tmp_path}")
    said = done.stderr.splitlines()
    assert done.returncode == 1 and said[0].startswith("error: the loss is inf at step 2 ")
    assert said[1:] == [f"--profile={tmp_path}: has the trace of the block in which the run ended"]
    assert len([*tmp_path.glob("plugins/profile/*/*.xplane.pb")]) == 1


def test_where_the_run_ends_before_the_traced_block_no_trace_is_begun(run_here, tmp_path, capsys):
    run_here(
        f"--profile={tmp_path}",
        "--eval_first=2",
        "--eval_every=1",
        "--target_accuracy=0.001",
        "--max_steps=9",
    )
    assert (
        capsys.readouterr().err
        == "--profile: no trace, the run ended before step 3 was to be traced\n"
    )
    assert not [*tmp_path.glob("plugins/profile/*")]


def test_a_signal_before_the_traced_block_begins_no_trace(tiny_dataset, tmp_path, monkeypatch):
    state = conftest.trained(tiny_dataset, mode="xla", max_steps=9, eval_first=2, eval_every=1)
    state.config, state.step = state.config.replace(profile=str(tmp_path)), 0
    profile = Profile(state)
    profile.before_run()
    monkeypatch.setattr(stopping, "asked", lambda: signal.SIGINT)
    state.step = 2
    profile.after_block(np.zeros(1), evaluated=True)
    assert profile.start == 2 and not profile.running
