"""Several devices of one process: the weights of one device."""

import time

import pytest

import flags
import train
from common.errors import InputError
from runtime import cluster, distribute
from runtime.clock import Ledger
from runtime.state import ONE_DEVICE
from tests.weights_of import JOB, assert_weights_of_one_device, finish, start


@pytest.mark.slow
def test_mirrored_devices_reach_the_weights_of_one(tiny_data_dir, tiny_dataset, tmp_path):
    job = JOB | {"loss_reduction": "mean"}
    asked = {"strategy": "mirrored", "replicas": 3, "input": "stream"}
    finish(start(tiny_data_dir, tmp_path / "w.npz", {}, **job, **asked))
    assert_weights_of_one_device([tmp_path / "w.npz"], tiny_dataset, **job)


def test_waiting_for_workers_is_charged_to_no_part(tiny_data_dir, monkeypatch):
    waited = []
    monkeypatch.setattr(distribute, "start", lambda *_: waited.append(1000.0) or ONE_DEVICE)
    ledger = Ledger(lambda: time.perf_counter() + sum(waited))
    config = flags.training_config(data_dir=str(tiny_data_dir), eval_every=0, mode="graph")
    seconds = train.run(config, ledger)["seconds"]
    assert seconds["import"] < 1000 <= seconds["other"]


@pytest.mark.parametrize(
    "changes",
    [
        {"replicas": 3},
        {"strategy": "mirrored", "mode": "xla"},
        {"strategy": "multi_worker", "mode": "eager"},
    ],
)
def test_what_replicas_cannot_do_is_refused(changes):
    name, value = list(changes.items())[-1]
    with pytest.raises(InputError, match=f"^--{name}={value}: "):
        cluster.checked(flags.training_config(**changes))
