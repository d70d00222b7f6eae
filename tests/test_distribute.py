"""Several devices of one process: the weights of one device."""

import pathlib
import time

import pytest
import tensorflow as tf

import data
import flags
import model
import train
from runtime import cluster, distribute
from runtime.clock import Ledger
from tests.conftest import Command
from tests.weights_of import JOB, assert_weights_of_one_device, finish, start


@pytest.mark.parametrize(
    ("replicas", "reduction", "source"),
    [
        pytest.param(2, "sum", "memory", marks=pytest.mark.slow),
        pytest.param(3, "mean", "memory", marks=pytest.mark.slow),
        (3, "sum", "stream"),
    ],
)
def test_mirrored_devices_reach_the_weights_of_one(
    tiny_data_dir: pathlib.Path,
    tiny_dataset: data.Dataset,
    tmp_path: pathlib.Path,
    replicas: int,
    reduction: str,
    source: str,
) -> None:
    job = JOB | {"loss_reduction": reduction}
    folder = str(tmp_path / "checkpoints")
    asked = {
        "strategy": "mirrored",
        "replicas": replicas,
        "input": source,
        "checkpoint_dir": folder,
    }
    for max_steps in (17, 0):
        worker = start(tiny_data_dir, tmp_path / "w.npz", {}, **job, **asked, max_steps=max_steps)
        output, _ = finish(worker)
    assert "goes on from" in output
    assert_weights_of_one_device([tmp_path / "w.npz"], tiny_dataset, **job)


def test_the_steps_of_a_strategy_are_traced_once_whatever_the_batches(
    tiny_dataset: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, traced = model.update, []
    monkeypatch.setattr(model, "update", lambda *given: traced.append(given) or update(*given))
    config = cluster.checked(
        flags.training_config(strategy="mirrored", batch_size=64, epochs=4, eval_every=0)
    )
    engine = distribute.Replicas(tf.distribute.MirroredStrategy(["CPU:0"]))
    state = train.start(config, tiny_dataset, Ledger(), engine)
    train.train(state, train.compiled(state, engine))
    assert len(traced) == 1


def test_waiting_for_workers_is_charged_to_no_part(
    tiny_data_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []

    def start(config: flags.Config) -> distribute.OneDevice:
        waited.append(1000.0)
        return distribute.OneDevice()

    monkeypatch.setattr(distribute, "start", start)
    ledger = Ledger(clock=lambda: time.perf_counter() + sum(waited))
    config = flags.training_config(data_dir=str(tiny_data_dir), epochs=1, eval_every=0)
    seconds = train.run(config, ledger)["seconds"]
    assert seconds["import"] < 1000 <= seconds["other"]


MIRRORED = "--strategy=mirrored"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([MIRRORED, "--replicas=3", "--batch_size=2"], "--batch_size=2: 3 replicas "),
        (["--replicas=3"], "--replicas=3: "),
        ([MIRRORED, "--replicas=2", "--mode=xla"], "--mode=xla: "),
        ([MIRRORED, "--replicas=2", "--mode=eager"], "--mode=eager: "),
        ([MIRRORED, "--device=cpu"], "--strategy=mirrored: "),
    ],
)
def test_what_replicas_cannot_do_is_refused(
    run_train: Command, arguments: list[str], named: str
) -> None:
    done = run_train(*arguments)
    assert done.returncode == 2
    assert f"error: {named}" in done.stderr
    assert "Traceback" not in done.stderr
