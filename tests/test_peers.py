"""Every contender, in a process of its own, does the work of the float64 reference."""

import os
import pathlib
import sys

import numpy as np
import pytest

import data
from comparison import measure, results, work
from comparison.contenders import CONTENDERS, Contender
from tests import forked
from tests.conftest import PROJECT, gone

# 660 examples in batches of 25: seven epochs of 26 batches and a smaller one, then 11 steps.
JOB = work.Job("tiny", "", 784, 10, num_examples=660, batch_size=25, steps=200, lr=0.01, seed=0)


@pytest.fixture(scope="module")
def folder(tiny_dataset: data.Dataset, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder as the survey leaves it, with the tiny examples and what JOB must end with."""
    path = tmp_path_factory.mktemp("survey")
    (path / measure.WORK).mkdir()
    order = np.stack([data.epoch_order(660, JOB.seed, epoch) for epoch in range(8)])
    splits = tiny_dataset.train, tiny_dataset.test
    arrays = [array for split in splits for array in (split.images, split.labels)]
    for name, array in zip(work.ARRAYS, (*arrays, order), strict=True):
        np.save(path / measure.WORK / f"{name}.npy", array)
    W, b = work.reference(work.load(path / measure.WORK, JOB))
    np.savez(path / "expected-25.npz", W=W, b=b)
    return path


def measured(
    name: str, contender: Contender, folder: pathlib.Path, timeout: float = 600
) -> results.Sample:
    rounds = measure.Rounds(folder, [JOB], {name: contender}, [], rounds=1, timeout=timeout)
    return rounds.measure(measure.Task(name, "cpu", 25), 1, cores=None)


SLOW = ("usual", "keras_best", "eager")  # Keras too, whose import takes long, as keras has it


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CONTENDERS]
)
def test_weights_after_200_steps_are_those_of_the_reference(
    name: str, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why := CONTENDERS[name].missing():
        pytest.skip(why)
    # the fast ones do it several times, from W = b = 0 each time
    monkeypatch.setattr(measure, "LONG_ENOUGH", 0.02)
    if CONTENDERS[name].command[0] == sys.executable:
        env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
        monkeypatch.setattr(
            measure, "child", lambda command, *_: forked.run(command[1:], cwd=PROJECT, env=env)
        )
    found = measured(name, CONTENDERS[name], folder)
    assert not found.failed
    # After 200 steps b is at most 0.003, so that float32's own rounding is up to 3e-5 of it.
    assert found.difference < work.TOLERANCE
    with np.load(folder / "expected-25.npz") as right:
        W = np.load(folder / measure.WORK / "W.npy")
        np.testing.assert_allclose(W, right["W"], atol=1e-5 * np.abs(right["W"]).max())
        given = work.load(folder / measure.WORK)
        num_correct = (
            (given.test_images / 255 @ right["W"] + right["b"]).argmax(axis=1) == given.test_labels
        ).sum()
    assert num_correct > 80
    assert found.num_correct in (num_correct, None if name == "c" else num_correct)
    assert found.us_per_step > 0 and found.peak_mib > 1 and found.seconds["start"] > 0


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("print('no such thing', file=sys.stderr); sys.exit(1)", "no such thing"),
        ("sys.exit(4)", "exit code 4"),
        ("pass", "result.json"),
        ("(folder / 'result.json').write_text('{}')", "'train'"),
    ],
)
def test_a_program_that_does_not_do_its_part_fails_in_one_line(
    code: str, told: str, folder: pathlib.Path
) -> None:
    start = "import pathlib, sys; folder = pathlib.Path(sys.argv[1]); "
    found = measured("mine", Contender(command=(sys.executable, "-c", start + code)), folder)
    assert told in found.failed
    assert "\n" not in found.failed and found.us_per_step is None


@pytest.mark.parametrize(
    ("code", "timeout", "told"),
    [
        ("sleep 1000 & echo $! > $0/other; wait", 1, "given up after 1 s"),
        ("sleep 1000 > $0/said 2>&1 & echo $! > $0/other; exit 3", 600, "exit code 3"),
    ],
)
def test_what_a_program_has_started_ends_with_it(
    code: str, timeout: float, told: str, folder: pathlib.Path
) -> None:
    found = measured("mine", Contender(command=("sh", "-c", code)), folder, timeout)
    assert found.failed == told
    assert gone(int((folder / measure.WORK / "other").read_text()))


def test_a_program_is_looked_for_where_the_user_stands(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("print('found')")
    monkeypatch.chdir(tmp_path)
    assert (
        measure.child([sys.executable, "mine.py"], "cpu", timeout=60, place=None).stdout
        == "found\n"
    )
