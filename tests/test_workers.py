"""Several workers: the weights of one device, from processes that meet, compare and fail."""

import dataclasses
import json
import pathlib
import signal
import socket

import numpy as np
import pytest
import tensorflow as tf

import data
import flags
from benchmarks.common import loopback
from common.errors import InputError
from runtime import cluster, distribute
from runtime.cluster import Cluster
from tests import forked
from tests.weights_of import JOB, assert_weights_of_one_device, finish, start

ENDLESS = JOB | {"epochs": 100_000, "eval_first": 0, "timeout": 20}
PROXY = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "elsewhere"}


def start_workers(
    data_dir: pathlib.Path, folder: pathlib.Path, environments: list[dict[str, str]], **job: object
) -> list[forked.Forked]:
    """Starts workers; number i writes folder/i.npz and is asked for folder/i.json."""
    job["strategy"] = "multi_worker"
    return [
        start(data_dir, folder / f"{i}.npz", environment, **job, record=folder / f"{i}.json")
        for i, environment in enumerate(environments)
    ]


@pytest.mark.parametrize(
    ("count", "host", "source"),
    [(2, "[::1]", "stream"), pytest.param(3, "127.0.0.1", "memory", marks=pytest.mark.slow)],
)
def test_workers_reach_the_weights_of_one_device_and_only_the_chief_writes_and_decides(
    tiny_data_dir: pathlib.Path,
    tiny_dataset: data.Dataset,
    tmp_path: pathlib.Path,
    count: int,
    host: str,
    source: str,
) -> None:
    environments = [
        {"TF_CONFIG": each["TF_CONFIG"].replace("127.0.0.1", host), **PROXY, "BLIND": "1"}
        for each in loopback(count)
    ]
    del environments[0]["BLIND"]
    job = JOB | {"target_accuracy": 0.99}
    for worker in start_workers(tiny_data_dir, tmp_path, environments, **job, input=source):
        finish(worker)
    assert [path.name for path in tmp_path.glob("*.json")] == ["0.json"]
    weights = [tmp_path / f"{i}.npz" for i in range(count)]
    state = assert_weights_of_one_device(weights, tiny_dataset, **job)
    assert 0 < state.step == json.loads((tmp_path / "0.json").read_text())["steps"] < 42


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "hit", "code"),
    [
        (signal.SIGKILL, 0, 1),
        (signal.SIGKILL, 1, 1),
        (signal.SIGSTOP, 1, 1),  # its port still accepts connections
        (signal.SIGTERM, 1, 143),
    ],
)
def test_a_signal_to_one_worker_ends_all_with_one_line_and_they_go_on_from_the_checkpoint(
    tiny_data_dir: pathlib.Path,
    tiny_dataset: data.Dataset,
    tmp_path: pathlib.Path,
    number: signal.Signals,
    hit: int,
    code: int,
) -> None:
    places = {"checkpoint_dir": tmp_path / "checkpoints", "checkpoint_every": 10}
    both = start_workers(tiny_data_dir, tmp_path, loopback(2), **ENDLESS, **places)
    for _ in range(2):  # at the second one a checkpoint is there
        while not both[hit].stdout.readline().startswith("step "):
            assert both[hit].poll() is None, both[hit].communicate()
    both[hit].send_signal(number)
    _, (line,) = finish(both[1 - hit], code)
    if number == signal.SIGTERM:  # both after the same step
        assert finish(both[hit], code)[1] == [line]
    else:
        both[hit].kill()
        both[hit].communicate()
    assert not list(tmp_path.glob("*.json"))
    step = max(int(path.stem[5:]) for path in tmp_path.glob("checkpoints/step-*.index"))
    job = ENDLESS | {"max_steps": step + 25}
    for worker in start_workers(tiny_data_dir, tmp_path, loopback(2), **job, **places):
        finish(worker)
    assert json.loads((tmp_path / "0.json").read_text())["resumed_at_step"] == step > 0
    assert_weights_of_one_device([tmp_path / "0.npz", tmp_path / "1.npz"], tiny_dataset, **job)


@pytest.mark.parametrize("index", [0, 1])
def test_a_worker_that_never_comes_is_named(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path, index: int
) -> None:
    environment = loopback(2)[index]
    addresses = json.loads(environment["TF_CONFIG"])["cluster"]["worker"]
    (worker,) = start_workers(tiny_data_dir, tmp_path, [environment], timeout=2)
    _, (line,) = finish(worker, code=1)
    assert line.startswith("error: --timeout=2: ") and f"silent: {addresses[1 - index]}." in line


def test_a_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_grpc_proxy", "")
    with socket.create_server(("", 0)) as other:
        own = f"localhost:{other.getsockname()[1]}"
        with pytest.raises(InputError, match=f"^TF_CONFIG: cannot listen at {own}: "):
            Cluster((own,), 0).prepare()


def test_workers_with_other_flags_end_before_the_first_step(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    chief, other = loopback(2)
    workers = [
        *start_workers(tiny_data_dir, tmp_path, [chief], lr=0.001),
        *start_workers(tiny_data_dir, tmp_path, [other], lr=0.002),
    ]
    lines = [finish(worker, code=2)[1][0] for worker in workers]
    address = json.loads(chief["TF_CONFIG"])["cluster"]["worker"][0]
    assert lines[1].startswith(f"error: --lr=0.002: another at {address}; ")
    assert not list(tmp_path.glob("*.npz"))


def test_workers_with_other_data_end_before_the_first_step(
    tiny_dataset: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    def exchange(self: distribute.Workers, values: list[int]) -> np.ndarray:
        sent.append(values)
        return np.array([sent[0], values])

    monkeypatch.setattr(distribute.Workers, "exchange", exchange)
    cluster = Cluster(("a:1", "b:1"), 1)
    worker = distribute.Workers(tf.distribute.MirroredStrategy(["CPU:0"]), cluster, 60)
    with worker.scope(tiny_dataset):
        pass
    with pytest.raises(InputError, match=r"^checksum of the data=two: another at a:1; "):
        worker.scope(dataclasses.replace(tiny_dataset, checksum="two")).__enter__()


def test_a_worker_that_takes_its_time_is_waited_for_while_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given_up: list[int] = []
    monkeypatch.setattr(distribute.os, "_exit", given_up.append)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with distribute.meeting(Cluster((address,), 0), 0.02):
            for _ in range(3):
                with other.accept()[0] as connection:
                    connection.sendall(b"\0")
    assert not given_up


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is not set"),
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "'cluster'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "'worker', 1"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "0"}}', "'0'"),
        ('{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "'ps', 0"),
        ('{"cluster": {"worker": ["b"]}, "task": {"type": "worker", "index": 0}}', "'b' is not"),
        ('{"cluster": {"worker": ["b:x"]}, "task": {"type": "worker", "index": 0}}', "Port"),
        (
            '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
            "twice",
        ),
    ],
)
def test_a_malformed_tf_config_is_one_line(
    monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=words) as refused:
        cluster.checked(flags.training_config(strategy="multi_worker"))
    assert str(refused.value).startswith("--strategy=multi_worker: TF_CONFIG must be like")
    assert "\n" not in str(refused.value)


def test_a_chief_comes_before_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = {"worker": ["a:1", "b:1"], "chief": ["c:1"]}
    for job, index, place in (("chief", 0, 0), ("worker", 1, 2)):
        task = {"type": job, "index": index}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": hosts, "task": task}))
        assert Cluster.from_environment() == Cluster(("c:1", "a:1", "b:1"), place)
