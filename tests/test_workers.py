"""Several workers: the weights of one device, from processes that meet, compare and fail."""

import dataclasses
import json
import pathlib
import signal
import socket
import threading

import numpy as np
import pytest

import data
import flags
from benchmarks import runs
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
    return [
        start(
            data_dir,
            folder / f"{i}.npz",
            environment,
            strategy="multi_worker",
            record=folder / f"{i}.json",
            **job,
        )
        for i, environment in enumerate(environments)
    ]


def wait_for_steps(worker: forked.Forked) -> None:
    while not worker.stdout.readline().startswith("step "):
        assert worker.poll() is None, worker.communicate()


@pytest.mark.parametrize(
    ("count", "host", "source"),
    [
        (2, "[::1]", "stream"),
        pytest.param(3, "127.0.0.1", "memory", marks=pytest.mark.slow),
    ],
)
def test_workers_reach_the_weights_of_one_device_and_only_the_chief_writes(
    tiny_data_dir: pathlib.Path,
    tiny_dataset: data.Dataset,
    tmp_path: pathlib.Path,
    count: int,
    host: str,
    source: str,
) -> None:
    environments = [
        {"TF_CONFIG": each["TF_CONFIG"].replace("127.0.0.1", host)} | PROXY
        for each in runs.loopback(count)
    ]
    for worker in start_workers(tiny_data_dir, tmp_path, environments, **JOB, input=source):
        finish(worker)
    assert_weights_of_one_device([*tmp_path.glob("*.npz")], tiny_dataset, **JOB)
    assert len([*tmp_path.glob("*.npz")]) == count
    assert [path.name for path in tmp_path.glob("*.json")] == ["0.json"]
    assert json.loads((tmp_path / "0.json").read_text())["examples"] == 2 * 660


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "lost"), [(signal.SIGKILL, 0), (signal.SIGKILL, 1), (signal.SIGSTOP, 1)]
)
def test_a_lost_worker_ends_the_others_with_one_line_and_all_go_on_from_the_checkpoint(
    tiny_data_dir: pathlib.Path,
    tiny_dataset: data.Dataset,
    tmp_path: pathlib.Path,
    number: signal.Signals,
    lost: int,
) -> None:
    job = ENDLESS | {"checkpoint_dir": tmp_path / "checkpoints", "checkpoint_every": 10}
    both = start_workers(tiny_data_dir, tmp_path, runs.loopback(2), **job)
    wait_for_steps(both[lost])
    both[lost].send_signal(number)  # the port of one that is stopped still accepts connections
    try:
        _, (line,) = finish(both[1 - lost], code=1)
    finally:
        both[lost].kill()
        both[lost].communicate()
    assert line.startswith("error: --timeout=20: lost a worker ")
    assert not list(tmp_path.glob("*.json"))
    steps = [int(path.stem.split("-")[1]) for path in tmp_path.glob("checkpoints/step-*.index")]
    job["max_steps"] = max(steps) + 25
    for worker in start_workers(tiny_data_dir, tmp_path, runs.loopback(2), **job):
        finish(worker)
    assert json.loads((tmp_path / "0.json").read_text())["resumed_at_step"] == max(steps) > 0
    del job["checkpoint_dir"]
    assert_weights_of_one_device([tmp_path / "0.npz", tmp_path / "1.npz"], tiny_dataset, **job)


@pytest.mark.parametrize("index", [0, 1])
def test_a_worker_that_never_comes_is_named(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path, index: int
) -> None:
    environment = runs.loopback(2)[index]
    addresses = json.loads(environment["TF_CONFIG"])["cluster"]["worker"]
    (worker,) = start_workers(tiny_data_dir, tmp_path, [environment], timeout=2)
    _, (line,) = finish(worker, code=1)
    assert line.startswith("error: --timeout=2: ") and addresses[1 - index] in line


def test_a_port_that_is_taken_is_named(tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    environment = runs.loopback(2)[0]
    own = json.loads(environment["TF_CONFIG"])["cluster"]["worker"][0]
    with socket.create_server(("", int(own.split(":")[1]))):
        (worker,) = start_workers(tiny_data_dir, tmp_path, [environment])
        _, (line,) = finish(worker, code=2)
    assert line.startswith(f"error: TF_CONFIG: cannot listen at {own}: ")


def test_workers_with_other_flags_end_before_the_first_step(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    both = runs.loopback(2)
    addresses = json.loads(both[0]["TF_CONFIG"])["cluster"]["worker"]
    rates = 0.001, 0.002
    workers = [
        start_workers(tiny_data_dir, tmp_path, [environment], lr=lr)[0]
        for environment, lr in zip(both, rates, strict=True)
    ]
    for worker, lr, other in zip(workers, rates, addresses[::-1], strict=True):
        _, (line,) = finish(worker, code=2)
        assert line.startswith(f"error: --lr={lr}: another at {other}; ")
    assert not list(tmp_path.glob("*.npz"))


class Compared(distribute.Workers):
    """A worker whose exchange with another one is a list."""

    def __init__(self, sent: list) -> None:
        self.sent, self.cluster = sent, Cluster(("a:1", "b:1"), 1)

    def exchange(self, value: object) -> np.ndarray:
        self.sent.append(value)
        return np.array([self.sent[0], value])


def test_workers_with_other_data_end_before_the_first_step(tiny_dataset: data.Dataset) -> None:
    found = {"--input": "memory", "checksum of the data": tiny_dataset.checksum}
    worker = Compared([])
    worker.compare(found)
    worker.compare(found)
    with pytest.raises(InputError, match="checksum of the data=two: another at a:1; "):
        worker.scope(dataclasses.replace(tiny_dataset, checksum="two")).__enter__()


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_all_after_the_same_block(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    job = ENDLESS | {"checkpoint_dir": tmp_path / "checkpoints"}
    both = start_workers(tiny_data_dir, tmp_path, runs.loopback(2), **job)
    wait_for_steps(both[1])
    both[1].send_signal(signal.SIGTERM)
    (_, (line,)), (_, (other_line,)) = [finish(worker, code=143) for worker in both]
    assert other_line == line
    step = int(line.split("at step ")[1].split(" of ")[0].replace(",", ""))
    assert (tmp_path / "checkpoints" / f"step-{step}.index").exists()


@pytest.mark.slow
def test_the_chief_alone_decides_whether_the_target_is_reached(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    chief, other = runs.loopback(2)
    both = [chief, other | {"BLIND": "1"}]
    workers = start_workers(tiny_data_dir, tmp_path, both, **JOB, target_accuracy=0.2)
    (output, _), _ = [finish(worker) for worker in workers]
    assert "target accuracy 0.2: reached at step" in output
    chiefs, others = np.load(tmp_path / "0.npz"), np.load(tmp_path / "1.npz")
    np.testing.assert_array_equal(chiefs["W"], others["W"])


@pytest.mark.parametrize("answer", [b"\0", b""])
def test_a_worker_that_takes_its_time_is_waited_for_as_long_as_it_answers(
    monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    given_up = threading.Event()
    monkeypatch.setattr(distribute.os, "_exit", lambda code: given_up.set())
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with distribute.meeting(Cluster(("127.0.0.1:1", address), 0), 0.02):
            for _ in range(3):
                with other.accept()[0] as connection:
                    connection.sendall(answer)
                assert answer == b"" or not given_up.is_set()
            assert answer or given_up.wait(60)


def tf_config(workers: object, kind: str = "worker", index: object = 0) -> str:
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is not set"),
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "KeyError: 'cluster'"),
        (tf_config(["a:1", "b:1"], index=2), "there is no worker 2"),
        (tf_config(["a:1", "b:1"], index=-1), "there is no worker -1"),
        (tf_config(["a:1", "b:1"], index="0"), "there is no worker '0'"),
        (tf_config(["a:1"], kind="ps"), "there is no ps 0"),
        (tf_config(["a:1", "b"]), "'b' is not host:port"),
        (tf_config(["a:1", "b:x"]), "Port could not be cast"),
        (tf_config(["a:1", "a:1"]), "stands twice"),
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


@pytest.mark.parametrize(("kind", "index", "place"), [("chief", 0, 0), ("worker", 1, 2)])
def test_a_chief_comes_before_the_workers(
    monkeypatch: pytest.MonkeyPatch, kind: str, index: int, place: int
) -> None:
    jobs = {"worker": ["a:1", "b:1"], "chief": ["c:1"]}
    config = {"cluster": jobs, "task": {"type": kind, "index": index}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert Cluster.from_environment() == Cluster(("c:1", "a:1", "b:1"), place)
    asked = flags.training_config(strategy="multi_worker", record="run.json")
    assert cluster.checked(asked).record == (None if place else "run.json")
