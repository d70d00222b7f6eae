"""Several devices of one process: the weights of one device."""

import pathlib
import time

import numpy as np
import pytest
import tensorflow as tf

import data
import flags
import model
import train
from runtime import cluster, strategies
from runtime.clock import Ledger
from tests.conftest import Command
from tests.weights_of import JOB, assert_same_weights, expected, finish, start


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Weights by reduction, filled by `expected`: the run on one device is made once for each."""
    return {}


@pytest.mark.parametrize(
    ("replicas", "reduction", "source"),
    [
        pytest.param(2, "sum", "memory", marks=pytest.mark.slow),
        pytest.param(3, "mean", "memory", marks=pytest.mark.slow),
        (3, "sum", "stream"),
    ],
)
def test_mirrored_devices_reach_the_weights_of_one(
    single: dict,
    tiny_data_dir: pathlib.Path,
    tmp_path: pathlib.Path,
    replicas: int,
    reduction: str,
    source: str,
) -> None:
    arguments = [*JOB, "--strategy=mirrored", f"--replicas={replicas}", f"--input={source}"]
    arguments += [f"--loss_reduction={reduction}", f"--checkpoint_dir={tmp_path / 'kept'}"]
    if source == "stream":
        finish(start(tiny_data_dir, tmp_path / "w.npz", *arguments, "--max_steps=17"))
    output = finish(start(tiny_data_dir, tmp_path / "w.npz", *arguments))
    assert ("goes on from" in output) == (source == "stream")
    assert f"mode graph, strategy mirrored with {replicas} replicas, on " in output
    assert_same_weights([tmp_path / "w.npz"], expected(single, tiny_data_dir, tmp_path, reduction))


def test_the_steps_of_a_strategy_are_traced_once_whatever_the_batches(
    tiny_dataset: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, traced = model.update, []
    monkeypatch.setattr(model, "update", lambda *given: traced.append(given) or update(*given))
    config = cluster.settled(
        flags.training_config(strategy="mirrored", batch_size=64, epochs=4, eval_every=0)
    )
    engine = strategies.Replicas(tf.distribute.MirroredStrategy(["CPU:0"]))
    state = train.start(config, tiny_dataset, Ledger(), engine)
    train.train(state, train.compiled(state, engine))
    assert len(traced) == 1


def test_waiting_for_workers_is_charged_to_no_part(
    tiny_data_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []
    monkeypatch.setattr(
        strategies,
        "start",
        lambda config: waited.append(1000.0) or strategies.OneDevice(),
    )
    ledger = Ledger(clock=lambda: time.perf_counter() + sum(waited))
    config = flags.training_config(data_dir=str(tiny_data_dir), epochs=1, eval_every=0)
    seconds = train.run(config, ledger)["seconds"]
    assert seconds["import"] < 1000 <= seconds["other"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--strategy=mirrored", "--replicas=3", "--batch_size=2"),
            "--batch_size=2: 3 replicas cannot share it",
        ),
        (("--replicas=3",), "--replicas=3: needs --strategy=mirrored"),
        (
            ("--strategy=mirrored", "--replicas=2", "--mode=xla"),
            "--mode=xla: --strategy=mirrored has none",
        ),
        (
            ("--strategy=mirrored", "--replicas=2", "--mode=eager"),
            "--mode=eager: --strategy=mirrored has none",
        ),
        (
            ("--strategy=mirrored",),
            "--strategy=mirrored: there is no GPU; --replicas=2 splits the CPU in two",
        ),
    ],
)
def test_what_replicas_cannot_do_is_refused(
    run_train: Command, arguments: tuple[str, ...], words: str
) -> None:
    done = run_train(*arguments)
    assert done.returncode == 2
    assert f"error: {words}" in done.stderr
    assert "Traceback" not in done.stderr
