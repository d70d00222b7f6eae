"""Several workers: the weights of one device, from processes that meet, compare, fail and start again."""

import dataclasses
import json
import pathlib
import signal
import socket
from collections.abc import Sequence

import numpy as np
import pytest

import data
import flags
from benchmarks import runs, worker_kills
from common.errors import InputError
from runtime import cluster, workers
from runtime.cluster import Cluster
from tests import forked
from tests.weights_of import JOB, assert_same_weights, expected, finish, start


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Weights by reduction, filled by `expected`: the run on one device is made once for each."""
    return {}


def start_workers(
    data_dir: pathlib.Path, folder: pathlib.Path, count: int, *arguments: str
) -> list[forked.Forked]:
    """Starts a worker for each place of a cluster; worker i writes folder/i.npz and is asked for folder/i.json."""
    return [
        start(
            *(
                data_dir,
                folder / f"{i}.npz",
                "--strategy=multi_worker",
                f"--record={folder / f'{i}.json'}",
            ),
            *arguments,
            **environment,
        )
        for i, environment in enumerate(runs.loopback(count))
    ]


@pytest.mark.parametrize(
    ("count", "source"), [(2, "stream"), pytest.param(3, "memory", marks=pytest.mark.slow)]
)
def test_workers_reach_the_weights_of_one_device_and_only_the_chief_writes(
    single: dict, tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path, count: int, source: str
) -> None:
    for worker in start_workers(tiny_data_dir, tmp_path, count, *JOB, f"--input={source}"):
        finish(worker)
    weights = expected(single, tiny_data_dir, tmp_path, "sum")
    assert_same_weights([tmp_path / f"{i}.npz" for i in range(count)], weights)
    assert [path.name for path in tmp_path.glob("*.json")] == ["0.json"]
    assert json.loads((tmp_path / "0.json").read_text())["examples"] == 2 * 660


@pytest.mark.slow
def test_a_killed_worker_ends_the_others_with_one_line_and_all_go_on_from_the_checkpoint(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    endless = [
        "--batch_size=32",
        "--lr=0.002",
        "--epochs=100000",
        "--eval_every=15",
        "--eval_first=0",
        "--timeout=20",
    ]
    kept = [f"--checkpoint_dir={tmp_path / 'kept'}", "--checkpoint_every=10"]
    chief, killed = start_workers(tiny_data_dir, tmp_path, 2, *endless, *kept)
    while not killed.stdout.readline().startswith("step "):
        assert killed.poll() is None, killed.communicate()
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL  # it was running, and the kill landed
    _, errors = chief.communicate(timeout=100)
    assert chief.returncode == 1
    assert errors.count("error: ") == 1
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("*.json"))
    newest = max(int(path.stem.split("-")[1]) for path in (tmp_path / "kept").glob("step-*.index"))
    assert newest > 0
    endless.append(f"--max_steps={newest + 25}")
    for worker in start_workers(tiny_data_dir, tmp_path, 2, *endless, *kept):
        finish(worker)
    assert json.loads((tmp_path / "0.json").read_text())["resumed_at_step"] == newest
    finish(start(tiny_data_dir, tmp_path / "single.npz", *endless))
    assert_same_weights([tmp_path / "0.npz", tmp_path / "1.npz"], np.load(tmp_path / "single.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("hanging", [0, 1])
def test_a_worker_that_hangs_ends_the_others_with_one_line(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path, hanging: int
) -> None:
    endless = ("--batch_size=32", "--epochs=100000", "--eval_every=15", "--timeout=8")
    both = start_workers(
        tiny_data_dir, tmp_path, 2, *endless, f"--checkpoint_dir={tmp_path / 'kept'}"
    )
    while not both[hanging].stdout.readline().startswith("step "):
        assert both[hanging].poll() is None, both[hanging].communicate()
    both[hanging].send_signal(signal.SIGSTOP)  # its port still answers
    try:
        ((line,),) = ends([both[1 - hanging]], 1)
    finally:
        both[hanging].kill()
        both[hanging].communicate()
    assert line.startswith("error: --strategy=multi_worker: lost a worker ")


def test_a_worker_that_never_comes_is_named(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    environment = runs.loopback(2)[0]
    worker = start(
        tiny_data_dir, tmp_path / "w", "--strategy=multi_worker", "--timeout=1", **environment
    )
    _, errors = worker.communicate(timeout=100)
    assert worker.returncode == 1
    absent = json.loads(environment["TF_CONFIG"])["cluster"]["worker"][1]
    assert f"error: --timeout=1: no worker came in 1 s at {absent}\n" in errors
    assert "Traceback" not in errors


def test_a_worker_that_is_gone_after_it_answered_is_named(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    environment = runs.loopback(2)[0]
    absent = json.loads(environment["TF_CONFIG"])["cluster"]["worker"][1]
    with socket.create_server(("127.0.0.1", int(absent.split(":")[1]))) as other:
        chief = start(
            tiny_data_dir, tmp_path / "w", "--strategy=multi_worker", "--timeout=3", **environment
        )
        other.accept()[0].close()
    _, errors = chief.communicate(timeout=100)
    assert chief.returncode == 1
    assert f"error: --timeout=3: waited 3 s for other workers; silent: {absent}\n" in errors
    assert "most recent call first" not in errors and "Traceback" not in errors


def ends(workers: Sequence[forked.Forked], code: int) -> list[list[str]]:
    """Returns the lines that workers that must end with `code` say why, each without a traceback."""
    errors = [worker.communicate(timeout=100)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [code] * len(workers), errors
    assert not any(word in "".join(errors) for word in ("Traceback", "retracing")), errors
    return [
        [line for line in text.splitlines() if line.startswith(("error: ", "stopped by "))]
        for text in errors
    ]


def test_workers_with_other_flags_end_before_the_first_step(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    both = runs.loopback(2)
    chief, other = (
        start(
            tiny_data_dir,
            tmp_path / "w",
            *JOB,
            "--strategy=multi_worker",
            f"--lr={lr}",
            **environment,
        )
        for lr, environment in zip((0.001, 0.002), both, strict=True)
    )
    addresses = json.loads(both[0]["TF_CONFIG"])["cluster"]["worker"]
    said = f"error: --lr=0.002 at {addresses[1]}, --lr=0.001 at {addresses[0]}: "
    for lines in ends([chief, other], 2):
        assert len(lines) == 1 and lines[0].startswith(said)
    assert not (tmp_path / "w").exists()


class Compared(workers.Workers):
    """A worker whose exchange with the others is a list."""

    def __init__(self, rows: Sequence[np.ndarray]):
        self.rows, self.cluster = list(rows), Cluster(("a:1", "b:1"), 0)

    def _together(self, value: np.ndarray) -> np.ndarray:
        self.rows.append(value)
        return np.array(self.rows[-2:], float)


def test_workers_with_other_data_end_before_the_first_step(tiny_dataset: data.Dataset) -> None:
    other = Compared([np.zeros(workers.MOST_TEXT)])
    with pytest.raises(InputError):
        other.same({"--input": "memory", "checksum of the data": "one"})
    here = Compared(other.rows)
    with pytest.raises(
        InputError, match="checksum of the data=two at b:1, checksum of the data=one at a:1: "
    ):
        here.scope(dataclasses.replace(tiny_dataset, checksum="two")).__enter__()
    Compared(other.rows).same({"--input": "memory", "checksum of the data": "one"})


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_all_after_the_same_block(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    endless = (
        "--batch_size=32",
        "--epochs=100000",
        "--eval_every=15",
        f"--checkpoint_dir={tmp_path / 'kept'}",
    )
    both = start_workers(tiny_data_dir, tmp_path, 2, *endless)
    while not both[1].stdout.readline().startswith("step "):
        assert both[1].poll() is None, both[1].communicate()
    both[1].send_signal(signal.SIGTERM)
    (line,), other_line = ends(both, 143)
    assert other_line == [line]
    step = int(line.split("at step ")[1].split(" of ")[0].replace(",", ""))
    assert (tmp_path / "kept" / f"step-{step}.index").exists()


@pytest.mark.slow
def test_the_chief_alone_decides_whether_the_target_is_reached(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    chief, other = (
        start(
            *(
                tiny_data_dir,
                tmp_path / f"{i}.npz",
                *JOB,
                "--strategy=multi_worker",
                "--target_accuracy=0.2",
            ),
            **environment | ({"BLIND": "1"} if i else {}),
        )
        for i, environment in enumerate(runs.loopback(2))
    )
    assert "target accuracy 0.2: reached at step" in finish(chief)
    finish(other)
    assert_same_weights([tmp_path / "1.npz"], np.load(tmp_path / "0.npz"))


def test_a_worker_that_takes_its_time_but_answers_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gave_up: list[int] = []
    monkeypatch.setattr(workers.os, "_exit", gave_up.append)
    with socket.create_server(("127.0.0.1", 0)) as other:
        cluster = Cluster(("127.0.0.1:1", f"127.0.0.1:{other.getsockname()[1]}"), 0)
        with workers.meeting(0.01, cluster):
            for _ in range(3):
                other.accept()[0].close()
    assert not gave_up


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
        (tf_config(["a:1"], kind="ps"), "KeyError: 'ps'"),
        (tf_config(["a:1", "b"]), "'b' is not host:port"),
        (tf_config(["a:1", "b:x"]), "invalid literal"),
        (tf_config(["a:1", "a:1"]), "stands twice"),
    ],
)
def test_a_malformed_tf_config_is_one_line(
    monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=words) as refused:
        cluster.settled(flags.training_config(strategy="multi_worker"))
    assert str(refused.value).startswith("--strategy=multi_worker: TF_CONFIG must be like")
    assert "\n" not in str(refused.value)


def test_a_chief_comes_before_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = {"chief": ["c:1"], "worker": ["a:1", "b:1"]}
    for kind, index, place in (("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)):
        monkeypatch.setenv(
            "TF_CONFIG", json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})
        )
        assert Cluster.from_environment() == Cluster(("c:1", "a:1", "b:1"), place, has_chief=True)
        asked = flags.training_config(strategy="multi_worker", record="run.json")
        assert cluster.settled(asked).record == ("run.json" if place == 0 else None)


@pytest.mark.slow
def test_a_killed_worker_and_a_new_start_end_with_the_weights_of_one_device(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    killed = worker_kills.TwoWorkers(tmp_path, f"--data_dir={tiny_data_dir}", "--epochs=300").kill(
        0
    )
    assert killed.held, killed.shown
    one, other = [np.zeros((10, 784)), np.zeros(10)], [np.zeros((10, 784)), np.full(10, 2e-5)]
    assert (
        worker_kills.differs(one, one) == ""
        and worker_kills.differs(one, other) == "weights differ by 2.0e-05"
    )
