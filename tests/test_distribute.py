"""Several devices and machines: the weights of one device, from processes that meet, fail and start again."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf

import data
import flags
import model
import train
from common.errors import InputError
from runtime import cluster, strategies
from runtime.clock import Ledger
from runtime.cluster import Cluster
from tests.conftest import PROJECT, Command

# 660 examples in batches of 32: 20 are left for the last batch, and neither number divides by 3.
JOB = ("--batch_size=32", "--lr=0.002", "--epochs=2", "--eval_every=15")


def start(data_dir: pathlib.Path, out: pathlib.Path, *arguments: str, **environment: str) -> subprocess.Popen:
    """Starts a training that writes its weights to `out`."""
    command = [sys.executable, str(PROJECT / "tests" / "weights_of.py"), str(out), f"--data_dir={data_dir}", *arguments]
    env = os.environ | environment
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def finish(process: subprocess.Popen) -> str:
    """Waits for a training that must succeed, and returns what it printed."""
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    return output


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def tf_configs(count: int) -> list[str]:
    """Returns the TF_CONFIG of each worker of a cluster on loopback."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(count)]}
    return [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}) for i in range(count)]


def start_workers(data_dir: pathlib.Path, folder: pathlib.Path, count: int, *arguments: str) -> list[subprocess.Popen]:
    """Starts a worker for each place of a cluster; worker i writes folder/i.npz and is asked for folder/i.json."""
    return [
        start(
            *(data_dir, folder / f"{i}.npz", "--strategy=multi_worker", f"--record={folder / f'{i}.json'}"),
            *arguments,
            TF_CONFIG=config,
        )
        for i, config in enumerate(tf_configs(count))
    ]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Weights by reduction, filled by `expected`: the run on one device is made once for each."""
    return {}


def expected(single: dict, data_dir: pathlib.Path, tmp_path: pathlib.Path, reduction: str) -> np.lib.npyio.NpzFile:
    if reduction not in single:
        finish(start(data_dir, tmp_path / "single.npz", *JOB, f"--loss_reduction={reduction}"))
        single[reduction] = dict(np.load(tmp_path / "single.npz"))
    assert np.abs(single[reduction]["W"]).max() > 1e-3
    return single[reduction]


def assert_same_weights(paths: Sequence[pathlib.Path], weights: dict[str, np.ndarray]) -> None:
    for path in paths:
        found = np.load(path)
        for name in ("W", "b"):
            np.testing.assert_allclose(found[name], weights[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("replicas", "reduction", "source"), [(2, "sum", "memory"), (3, "mean", "memory"), (3, "sum", "stream")]
)
def test_mirrored_devices_reach_the_weights_of_one(
    single: dict, tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path, replicas: int, reduction: str, source: str
) -> None:
    arguments = [*JOB, "--strategy=mirrored", f"--replicas={replicas}", f"--input={source}"]
    finish(start(tiny_data_dir, tmp_path / "w.npz", *arguments, f"--loss_reduction={reduction}"))
    assert_same_weights([tmp_path / "w.npz"], expected(single, tiny_data_dir, tmp_path, reduction))


def test_the_steps_of_a_strategy_are_traced_once_for_each_batch_and_not_while_it_trains(
    tiny_dataset: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, traced = model.sgd_step, []
    monkeypatch.setattr(model, "sgd_step", lambda *given: traced.append(given[1].shape[0]) or step(*given))
    config = cluster.settled(flags.Config(strategy="mirrored", batch_size=64, epochs=4, eval_every=0))
    engine = strategies.Replicas(tf.distribute.MirroredStrategy(["CPU:0"]))
    state = train.start(config, tiny_dataset, Ledger(), engine)
    take, blocks = train.compiled(state, engine)
    assert sorted(traced) == [20, 64]
    train.train(state, take, blocks)
    assert sorted(traced) == [20, 64]


@pytest.mark.parametrize(("count", "source"), [(2, "stream"), (3, "memory")])
def test_workers_reach_the_weights_of_one_device_and_only_the_chief_writes(
    single: dict, tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path, count: int, source: str
) -> None:
    for worker in start_workers(tiny_data_dir, tmp_path, count, *JOB, f"--input={source}"):
        finish(worker)
    weights = expected(single, tiny_data_dir, tmp_path, "sum")
    assert_same_weights([tmp_path / f"{i}.npz" for i in range(count)], weights)
    assert [path.name for path in tmp_path.glob("*.json")] == ["0.json"]
    assert json.loads((tmp_path / "0.json").read_text())["examples"] == 2 * 660


def test_workers_go_on_together_from_the_checkpoint_of_the_chief(
    single: dict, tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    kept = [*JOB, f"--checkpoint_dir={tmp_path / 'kept'}"]
    for part in ("--max_steps=17", "--max_steps=42", "--target_accuracy=0.01"):  # the last finds nothing left to do
        for worker in start_workers(tiny_data_dir, tmp_path, 2, *kept, part):
            finish(worker)
        resumed = json.loads((tmp_path / "0.json").read_text())["resumed_at_step"]
        assert resumed == {"--max_steps=17": 0, "--max_steps=42": 17}.get(part, 42)
    assert_same_weights([tmp_path / f"{i}.npz" for i in range(2)], expected(single, tiny_data_dir, tmp_path, "sum"))


def test_a_killed_worker_ends_the_others_with_one_line_and_all_go_on_from_the_checkpoint(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    endless = ["--batch_size=32", "--lr=0.002", "--epochs=100000", "--eval_every=15", "--eval_first=0", "--timeout=20"]
    kept = [f"--checkpoint_dir={tmp_path / 'kept'}", "--checkpoint_every=10"]
    chief, killed = start_workers(tiny_data_dir, tmp_path, 2, *endless, *kept)
    while not killed.stdout.readline().startswith("step "):
        assert killed.poll() is None, killed.communicate()
    killed.kill()
    killed.communicate()
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


def test_a_worker_that_never_comes_is_named(tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = tf_configs(2)[0]
    worker = start(tiny_data_dir, tmp_path / "w", "--strategy=multi_worker", "--timeout=1", TF_CONFIG=config)
    _, errors = worker.communicate(timeout=100)
    assert worker.returncode == 1
    absent = json.loads(config)["cluster"]["worker"][1]
    assert f"error: --timeout=1: no worker came in 1 s at {absent}\n" in errors
    assert "Traceback" not in errors


def test_waiting_for_workers_is_charged_to_no_part(
    tiny_data_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []
    monkeypatch.setattr(strategies, "start", lambda config: (waited.append(1000.0) or strategies.OneDevice(), config))
    ledger = Ledger(clock=lambda: time.perf_counter() + sum(waited))
    config = flags.Config(data_dir=str(tiny_data_dir), epochs=1, eval_every=0)
    seconds = train.run(config, ledger)["seconds"]
    assert seconds["import"] < 1000 <= seconds["other"]


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
def test_a_malformed_tf_config_is_one_line(monkeypatch: pytest.MonkeyPatch, text: str, words: str) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=words) as refused:
        cluster.settled(flags.Config(strategy="multi_worker"))
    assert str(refused.value).startswith("--strategy=multi_worker: TF_CONFIG must be like")
    assert "\n" not in str(refused.value)


def test_a_chief_comes_before_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = {"chief": ["c:1"], "worker": ["a:1", "b:1"]}
    for kind, index, place in (("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}}))
        assert Cluster.from_environment() == Cluster(("c:1", "a:1", "b:1"), place, has_chief=True)
        asked = flags.Config(strategy="multi_worker", record="run.json")
        assert cluster.settled(asked).record == ("run.json" if place == 0 else None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--strategy=mirrored", "--replicas=3", "--batch_size=2"), "--batch_size=2: 3 replicas cannot share it"),
        (("--replicas=3",), "--replicas=3: needs --strategy=mirrored"),
    ],
)
def test_what_replicas_cannot_do_is_refused(run_train: Command, arguments: tuple[str, ...], words: str) -> None:
    done = run_train(*arguments)
    assert done.returncode == 2
    assert f"error: {words}" in done.stderr
    assert "Traceback" not in done.stderr
