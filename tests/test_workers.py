"""Several workers: the weights of one device, from processes that meet, compare and fail."""

import dataclasses
import json
import socket
import types
from unittest import mock

import numpy as np
import pytest

import flags
import model
from common.errors import InputError
from runtime import cluster, distribute
from runtime.clock import Ledger
from runtime.state import State
from tests.weights_of import JOB, assert_weights_of_one_device, finish, start


def loopback():
    """Returns TF_CONFIG for each of two workers on this machine, at free ports."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    cluster = {"worker": [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]}
    for each in sockets:
        each.close()
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in (0, 1)]
    return [{"TF_CONFIG": json.dumps(task)} for task in tasks]


def start_workers(data_dir, folder, environments, **job):
    """Starts workers; number i writes folder/i.npz and is asked for folder/i.json."""
    job["strategy"] = "multi_worker"
    return [
        start(data_dir, folder / f"{i}.npz", environment, **job, record=folder / f"{i}.json")
        for i, environment in enumerate(environments)
    ]


@pytest.mark.slow
def test_workers_reach_the_weights_of_one_device_and_only_the_chief_writes(
    tiny_data_dir, tiny_dataset, tmp_path
):
    environments = [
        {
            "TF_CONFIG": each["TF_CONFIG"].replace("127.0.0.1", "[::1]"),
            "http_proxy": "http://127.0.0.1:9",
            "no_proxy": "elsewhere",
        }
        for each in loopback()
    ]
    job = JOB | {"target_accuracy": 0.99}
    for worker in start_workers(tiny_data_dir, tmp_path, environments, **job, input="stream"):
        finish(worker)
    assert [path.name for path in tmp_path.glob("*.json")] == ["0.json"]
    weights = [tmp_path / f"{i}.npz" for i in range(2)]
    state = assert_weights_of_one_device(weights, tiny_dataset, **job)
    assert 0 < state.step == json.loads((tmp_path / "0.json").read_text())["steps"] < 42


@pytest.mark.parametrize("index", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_worker_that_never_comes_is_named(tiny_data_dir, tmp_path, index):
    environment = loopback()[index]
    addresses = json.loads(environment["TF_CONFIG"])["cluster"]["worker"]
    (worker,) = start_workers(tiny_data_dir, tmp_path, [environment], timeout=2)
    _, (line,) = finish(worker, code=1)
    assert line.startswith("error: --timeout=2: ") and f"silent: {addresses[1 - index]}." in line


def test_a_port_that_is_taken_is_named(monkeypatch):
    monkeypatch.setenv("grpc_proxy", "")
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"{port}"):
            cluster.prepare(f"localhost:{port}")


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"lr": 0.002}, "lr=0.002"), ({"checksum": "two"}, "data=two")],
)
def test_workers_with_other_flags_or_data_are_refused(tiny_dataset, monkeypatch, changes, named):
    """The chief has the defaults, and the record in another place."""
    sent = []

    def join(index, exchange, checksum="", **changes):
        monkeypatch.setattr(distribute, "exchange", exchange)
        config = flags.training_config(record=str(index), **changes)
        dataset = dataclasses.replace(tiny_dataset, checksum=checksum)
        distribute.compare(types.SimpleNamespace(config=config, dataset=dataset))

    join(0, lambda _, value: sent.append(value) or value)
    with pytest.raises(InputError, match=f"^{named}: another worker "):
        join(1, lambda _, value: [sent.pop(0), value], **changes)


def test_a_worker_has_no_evaluation_where_the_chief_has_none(tiny_dataset, monkeypatch):
    monkeypatch.setattr(distribute, "exchange", lambda _, value: np.array([value]))
    state = State(flags.training_config(), tiny_dataset, model.SoftmaxRegression(784, 10), Ledger())
    state.strategy = mock.Mock()
    state.strategy.extended.should_checkpoint = False
    distribute.follow_chief(state)
    assert state.evaluations == []


def test_a_worker_that_takes_its_time_is_waited_for_while_it_answers(monkeypatch):
    given_up: list[int] = []
    monkeypatch.setattr(distribute.os, "_exit", given_up.append)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with distribute.meeting([address], 0.02):
            for _ in range(3):
                with other.accept()[0] as connection:
                    connection.sendall(b"\0")
    assert not given_up


CONFIG = '{{"cluster": {}, "task": {{"type": "{}", "index": {}}}}}'


@pytest.mark.parametrize(
    ("hosts", "task", "words"),
    [
        ('{"worker": ["a:1"]}', "worker 1", "IndexError"),
        ('{"worker": ["a:1"]}', "worker -1", "no such worker"),
        ('{"worker": ["a:1"]}', "worker null", "TypeError"),
        ('{"ps": ["a:1"]}', "ps 0", "ValueError"),
        ('{"worker": ["b"]}', "worker 0", "'b' is not"),
        ('{"worker": ["a..b:1"]}', "worker 0", "Unicode"),
        ('{"worker": ["a:1", "a:1"]}', "worker 0", "twice"),
        ('{"chief": ["a:1", "b:1"]}', "chief 0", "two chiefs"),
        ("[]", "worker 0", "AttributeError"),
        ("{", "worker 0", "JSONDecodeError"),
    ],
)
def test_a_malformed_tf_config_is_one_line(monkeypatch, hosts, task, words):
    monkeypatch.setenv("TF_CONFIG", CONFIG.format(hosts, *task.split()))
    with pytest.raises(InputError, match=words) as refused:
        cluster.checked(flags.training_config(strategy="multi_worker"))
    assert str(refused.value).startswith("--strategy=multi_worker: TF_CONFIG must be like")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("task", "own"), [("chief 0", "c:1"), ("worker 1", "b:1")])
def test_a_chief_comes_before_the_workers(monkeypatch, task, own):
    hosts = '{"worker": ["a:1", "b:1"], "chief": ["c:1"]}'
    monkeypatch.setenv("TF_CONFIG", CONFIG.format(hosts, *task.split()))
    assert cluster.workers() == (["c:1", "a:1", "b:1"], own)
