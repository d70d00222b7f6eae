"""The work is what it says, and who does another gets no time."""

import dataclasses
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from common.errors import InputError, RunError
from comparison import machine, measure, work
from comparison.contenders import CONTENDERS
from comparison.peers.numpy_sgd import NumpySGD

QUIET = {"other_cores": 0.0, "stolen": 0.0}


def tiny_work(batch_size: int = 25, steps: int = 60) -> work.Work:
    rng = np.random.default_rng(3)
    images, labels = (
        rng.integers(0, 256, (110, 12), np.uint8),
        rng.integers(0, 4, 110).astype(np.int32),
    )
    order = np.stack([rng.permutation(110).astype(np.int32) for _ in range(20)])
    return work.Work(
        images, labels, images[:30], labels[:30], order, 4, batch_size, steps, lr=0.01, seed=0
    )


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
            deltas.append(
                (
                    x,
                    [
                        math.exp(logit) / total - (k == job.labels[row])
                        for k, logit in enumerate(logits)
                    ],
                )
            )
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
    np.testing.assert_array_equal(
        np.concatenate([block.reshape(-1) for block in blocks]), in_epochs
    )
    assert [block.shape for block in blocks] == [(3, 25), (1, 25), (1, 10)] * 2 + [(2, 25)]
    assert sorted(in_epochs[:110]) == list(range(110))


def leave(folder: pathlib.Path, job: work.Work, **result: object) -> None:
    """Leaves in `folder` what a worker leaves after NumPy has done `job`."""
    peer = NumpySGD(job, "cpu")
    peer.compile()
    peer.reset()
    peer.train()
    for name, array in zip(("W", "b"), peer.weights(), strict=True):
        np.save(folder / f"{name}.npy", array)
    known = {
        "train": [0.4, 0.5, 0.9],
        "start": 0.1,
        "compile": 0.1,
        "evaluate": 0.1,
        "peak_mib": 99.0,
    }
    (folder / "result.json").write_text(
        json.dumps(known | {"num_correct": peer.num_correct()} | result)
    )


def judged(folder: pathlib.Path, job: work.Work) -> measure.Sample:
    """The sample of what was left in `folder`, which took 3 s, where the weights after `job` are expected."""
    W, b = work.reference(job)
    np.savez(folder / "expected.npz", W=W, b=b)
    common = {
        "contender": "numpy_best",
        "device": "cpu",
        "batch_size": 25,
        "again": False,
        "round": 1,
        "quiet": QUIET,
    }
    return measure.judged(
        common | {"cores": 1}, folder, folder / "expected.npz", job.steps, wall=3.0
    )


CHEATS = {
    "half the steps": lambda job: {"steps": job.steps // 2},
    "one step less": lambda job: {"steps": job.steps - 1},
    "a learning rate 1 % off": lambda job: {"lr": job.lr * 1.01},
    "a mean for a sum": lambda job: {"lr": job.lr / job.batch_size},
    "another order": lambda job: {"order": job.order[:, ::-1]},
}


@pytest.mark.parametrize("cheat", CHEATS.values(), ids=CHEATS)
def test_the_gate_gives_a_cheat_no_time(cheat, tmp_path):
    job = tiny_work()
    leave(tmp_path, job)
    honest = judged(tmp_path, job)
    assert honest.us_per_step == pytest.approx(0.5 / 60 * 1e6)  # the median of three times
    assert honest.difference < 1e-5
    leave(tmp_path, dataclasses.replace(job, **cheat(job)))
    cheated = judged(tmp_path, job)
    assert cheated.us_per_step is None
    assert cheated.difference > 1e-4


@pytest.mark.parametrize("train", [[], [0.0], [-1.0], [2.0, 1.5], "soon", [None], [float("nan")]])
def test_the_gate_refuses_times_that_cannot_be(train, tmp_path):
    leave(tmp_path, tiny_work(), train=train)
    assert "what it left cannot be read" in judged(tmp_path, tiny_work()).failed


def test_a_program_need_not_tell_more_than_its_times(tmp_path):
    leave(tmp_path, tiny_work())
    (tmp_path / "result.json").write_text('{"train": [0.5]}')
    found = judged(tmp_path, tiny_work())
    assert found.seconds == {"start": 2.5, "compile": 0.0, "evaluate": 0.0}
    assert (found.num_correct, found.peak_mib) == (None, None)
    (tmp_path / "b.npy").unlink()
    assert "b.npy" in judged(tmp_path, tiny_work()).failed


def test_the_gate_refuses_weights_that_are_not_numbers_or_of_another_shape():
    expected = np.ones((12, 4)), np.ones(4)
    assert work.difference((np.full((12, 4), np.nan), np.ones(4)), expected) == math.inf
    assert work.difference((np.ones((4, 12)), np.ones(4)), expected) == math.inf
    assert work.difference((np.ones((12, 4)), np.ones(4) * 1.5), expected) == pytest.approx(0.5)


@pytest.fixture
def rounds_of(tmp_path, monkeypatch):
    """Makes Rounds whose measurements are NumPy's, and fail for those whose names are in the list `failing`."""
    job, tiny = (
        work.Job("tiny", "", 12, 4, 110, batch_size=25, steps=60, lr=0.01, seed=0),
        tiny_work(),
    )
    W, b = work.reference(tiny)
    np.savez(tmp_path / "expected-25.npz", W=W, b=b)
    (tmp_path / measure.WORK).mkdir()

    def make(contenders: list[str], failing: list[str]) -> measure.Rounds:
        def child(command, device, timeout, cores, place):
            folder = pathlib.Path(command[-1])
            given = json.loads((folder / "job.json").read_text())
            if given["contender"] in failing:
                return subprocess.CompletedProcess(
                    [], 1, stderr="Traceback ...\nMemoryError: no memory\n"
                )
            leave(folder, tiny, train=[1e-6])
            return subprocess.CompletedProcess([], 0, stderr="")

        monkeypatch.setattr(measure, "child", child)
        among = {name: CONTENDERS[name] for name in contenders}
        return measure.Rounds(tmp_path, [job], among, measure.tasks_of(among, ["cpu"], [25]), 2, 60)

    return make


def test_each_is_held_to_the_cores_that_are_asked_for_or_to_all(rounds_of, monkeypatch):
    monkeypatch.setattr(measure.devices, "cores", lambda: 4)
    monkeypatch.setattr(machine, "can_hold", lambda: True)
    rounds = rounds_of(["numpy_best", "graph"], failing=[])
    for asked, cores in ((None, 4), (2, 2)):
        rounds.choose_cores(asked)
        assert rounds.cores == dict.fromkeys(rounds.tasks, cores)
    with pytest.raises(InputError, match="--cores=5: must be at most the 4 cores"):
        rounds.choose_cores(5)
    monkeypatch.setattr(machine, "can_hold", lambda: False)
    with pytest.raises(InputError, match="cannot hold a process to cores"):
        rounds.choose_cores(1)


@pytest.mark.skipif(not machine.can_hold(), reason="this system cannot hold a process to cores")
def test_a_process_is_held_to_its_cores_with_as_many_threads_and_the_next_is_free_again():
    count = (
        "import numpy as np, psutil\nmatrix = np.ones((900, 900), np.float32)\nmatrix @ matrix\n"
        "print(len(psutil.Process().cpu_affinity()), psutil.Process().num_threads())"
    )
    (cores, threads), (free, _) = (
        map(int, measure.child([sys.executable, "-c", count], "cpu", 60, held).stdout.split())
        for held in (1, None)
    )
    assert (cores, threads, free) == (1, 1, measure.devices.cores())


def test_who_fails_is_left_out_of_later_rounds(rounds_of):
    rounds = rounds_of(["numpy_best", "graph"], failing=["graph"])
    first, second = (list(rounds.measured(number, lambda *_: None)) for number in (1, 2))
    assert [(each.contender, each.failed) for each in first if each.failed] == [
        ("graph", "MemoryError: no memory")
    ]
    assert sorted((each.contender, each.again) for each in second) == [
        ("numpy_best", False),
        ("numpy_best", True),
    ]


def test_a_baseline_that_fails_ends_the_run(rounds_of):
    with pytest.raises(
        RunError, match="the baseline, numpy_best on cpu, batch 25, failed: MemoryError"
    ):
        list(
            rounds_of(["numpy_best", "graph"], failing=["numpy_best"]).measured(1, lambda *_: None)
        )


def test_rounds_are_interleaved_at_random_and_tell_the_time_left(rounds_of):
    shown, rounds = [], rounds_of(["xla", "graph", "eager", "numpy_best", "keras"], failing=[])
    orders = {
        tuple(
            each.contender for each in rounds.measured(number, lambda *parts: shown.append(parts))
        )
        for number in (1, 2, 2)
    }
    assert len(orders) > 1  # three equal orders of six: once in 100,000 times
    assert shown[0][0::2] == ("round 1 of 2", "")  # nothing is known yet of the time
    assert shown[-1][0] == "round 2 of 2"
    assert shown[-1][2].endswith(" s left")


def test_tasks_of_a_round():
    among = {name: CONTENDERS[name] for name in ("xla", "graph", "eager", "numpy_best")}
    tasks = measure.tasks_of(among, ["cpu", "gpu"], [1, 10])
    # numpy runs on no GPU; the baseline runs twice
    assert len(tasks) == len(set(tasks)) == 2 * (4 + 3 + 1)
    assert [task for task in tasks if task.again] == [
        measure.Task("xla", "cpu", size, again=True) for size in (1, 10)
    ]
