"""The work is what it says, and who does another gets no time."""

import dataclasses
import json
import math
import subprocess

import numpy as np
import pytest

from common.errors import RunError
from comparison import measure, work
from comparison.peers.numpy_sgd import NumpySGD

QUIET = {"other_cores": 0.0, "stolen": 0.0, "pace": 500.0}


def tiny_work(batch_size: int = 25, steps: int = 60) -> work.Work:
    rng = np.random.default_rng(3)
    images, labels = rng.integers(0, 256, (110, 12), np.uint8), rng.integers(0, 4, 110).astype(np.int32)
    order = np.stack([rng.permutation(110).astype(np.int32) for _ in range(20)])
    return work.Work(images, labels, images[:30], labels[:30], order, 4, batch_size, steps, lr=0.01, seed=0)


def in_plain_python(job: work.Work) -> tuple[np.ndarray, np.ndarray]:
    """The same steps with lists and math.exp: no array is multiplied."""
    features, classes = job.num_features, job.num_classes
    W, b = [[0.0] * classes for _ in range(features)], [0.0] * classes
    per_epoch = math.ceil(len(job.labels) / job.batch_size)
    for step in range(job.steps):
        epoch, first = step // per_epoch, step % per_epoch * job.batch_size
        deltas = []
        for row in job.order[epoch][first : first + job.batch_size].tolist():
            x = [value / 255 for value in job.images[row].tolist()]
            logits = [b[k] + sum(x[f] * W[f][k] for f in range(features)) for k in range(classes)]
            total = sum(map(math.exp, logits))
            deltas.append((x, [math.exp(logit) / total - (k == job.labels[row]) for k, logit in enumerate(logits)]))
        for k in range(classes):
            b[k] -= job.lr * sum(delta[k] for _, delta in deltas)
            for f in range(features):
                W[f][k] -= job.lr * sum(x[f] * delta[k] for x, delta in deltas)
    return np.array(W), np.array(b)


def test_reference_takes_the_steps_of_plain_python():
    job = tiny_work(steps=12)  # two epochs of 4 batches of 25 and one of 10, then 2 steps
    assert work.difference(work.reference(job), in_plain_python(job)) < 1e-12


def test_blocks_and_epochs_are_the_same_rows_and_end_with_the_last_step():
    job = tiny_work(batch_size=25, steps=12)
    in_epochs = np.concatenate(list(job.epochs()))
    blocks = list(job.blocks(most_steps=3))
    np.testing.assert_array_equal(np.concatenate([block.reshape(-1) for block in blocks]), in_epochs)
    assert [block.shape for block in blocks] == [(3, 25), (1, 25), (1, 10)] * 2 + [(2, 25)]
    assert sorted(in_epochs[:110]) == list(range(110))


def handed_back(job: work.Work) -> dict[str, object]:
    """What a worker hands back after NumPy has done `job`."""
    peer = NumpySGD(job, "cpu")
    peer.compile()
    peer.train()
    W, b = peer.weights()
    seconds = {"train": 0.5, "start": 0.1, "compile": 0.1, "evaluate": 0.1}
    return {"W": W, "b": b, "num_correct": peer.num_correct(), "seconds": json.dumps(seconds)}


CHEATS = {
    "half the steps": lambda job: {"steps": job.steps // 2},
    "one step less": lambda job: {"steps": job.steps - 1},
    "a learning rate 1 % off": lambda job: {"lr": job.lr * 1.01},
    "a mean for a sum": lambda job: {"lr": job.lr / job.batch_size},
    "another order": lambda job: {"order": job.order[:, ::-1]},
}


@pytest.mark.parametrize("cheat", CHEATS.values(), ids=CHEATS)
def test_the_gate_gives_a_cheat_no_time(cheat):
    job = tiny_work()
    common = {"contender": "numpy", "device": "cpu", "batch_size": 25, "again": False, "round": 1, "quiet": QUIET}
    expected = work.reference(job)
    honest = measure.judged(common, handed_back(job), expected, job.steps)
    assert honest.us_per_step == pytest.approx(0.5 / 60 * 1e6)
    assert honest.difference < 1e-5
    judged = measure.judged(common, handed_back(dataclasses.replace(job, **cheat(job))), expected, job.steps)
    assert judged.us_per_step is None
    assert judged.difference > 1e-4


def test_the_gate_refuses_weights_that_are_not_numbers_or_of_another_shape():
    expected = np.ones((12, 4)), np.ones(4)
    assert work.difference((np.full((12, 4), np.nan), np.ones(4)), expected) == math.inf
    assert work.difference((np.ones((4, 12)), np.ones(4)), expected) == math.inf
    assert work.difference((np.ones((12, 4)), np.ones(4) * 1.5), expected) == pytest.approx(0.5)


@pytest.fixture
def rounds_of(tmp_path, monkeypatch):
    """Makes Rounds whose measurements are NumPy's, and fail for those whose names are in the list `failing`."""
    job, tiny = work.Job("tiny", "", 12, 4, batch_size=25, steps=60, lr=0.01, seed=0), tiny_work()
    np.savez(tmp_path / "data.npz", **{name: getattr(tiny, name) for name in work.ARRAYS})
    given = handed_back(tiny)

    def make(contenders: list[str], failing: list[str]) -> measure.Rounds:
        def child(module, request, device):
            if request["contender"] in failing:
                return subprocess.CompletedProcess([], 1, stderr="Traceback ...\nMemoryError: no memory\n")
            np.savez(request["result"], **given)
            return subprocess.CompletedProcess([], 0, stderr="")

        monkeypatch.setattr(measure, "child", child)
        return measure.Rounds(tmp_path, [job], measure.tasks_of(contenders, ["cpu"], [25]), rounds=2)

    return make


def test_who_fails_is_left_out_of_later_rounds(rounds_of):
    rounds = rounds_of(["numpy", "graph"], failing=["graph"])
    first, second = (list(rounds.measured(number, lambda *_: None)) for number in (1, 2))
    assert [(each.contender, each.failed) for each in first if each.failed] == [("graph", "MemoryError: no memory")]
    assert sorted((each.contender, each.again) for each in second) == [("numpy", False), ("numpy", True)]


def test_a_baseline_that_fails_ends_the_run(rounds_of):
    with pytest.raises(RunError, match="the baseline, numpy on cpu, batch 25, failed: MemoryError"):
        list(rounds_of(["numpy", "graph"], failing=["numpy"]).measured(1, lambda *_: None))


def test_rounds_are_interleaved_at_random_and_tell_the_time_left(rounds_of):
    shown, rounds = [], rounds_of(["xla", "graph", "eager", "numpy", "keras"], failing=[])
    orders = {
        tuple(each.contender for each in rounds.measured(number, lambda *parts: shown.append(parts)))
        for number in (1, 2, 2)
    }
    assert len(orders) > 1  # three equal orders of six: once in 100,000 times
    assert shown[0][0::2] == ("round 1 of 2", "")  # nothing is known yet of the time
    assert shown[-1][0] == "round 2 of 2"
    assert shown[-1][2].endswith(" s left")


def test_tasks_of_a_round():
    tasks = measure.tasks_of(["xla", "graph", "eager", "numpy"], ["cpu", "gpu"], [1, 10])
    assert len(tasks) == len(set(tasks)) == 2 * (4 + 3 + 1)  # numpy runs on no GPU; the baseline runs twice
    assert [task for task in tasks if task.again] == [measure.Task("xla", "cpu", size, again=True) for size in (1, 10)]
