"""The trace that --profile leaves."""

import pytest

from common.errors import InputError


@pytest.mark.parametrize(
    "arguments", [["--epochs=2"], ["--epochs=2", "--eval_every=0", "--max_steps=70", "--mode=graph"]]
)
def test_a_warm_block_leaves_a_trace(run_here, tmp_path, arguments):
    weights = run_here(*arguments)["weights_sha256"]
    assert run_here(f"--profile={tmp_path}", *arguments)["weights_sha256"] == weights
    traces = list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))
    assert len(traces) == 1 and traces[0].stat().st_size > 1000


def test_a_run_of_one_block_is_refused(run_here, tmp_path):
    with pytest.raises(InputError, match="--profile: the run has only one block"):
        run_here(f"--profile={tmp_path}", "--max_steps=20", "--eval_every=0")
