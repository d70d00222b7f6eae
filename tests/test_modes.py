"""The modes: each ends at the oracle's weights, and compiles no more than it must."""

import re

import numpy as np
import pytest
import tensorflow as tf

import data
import flags
import model
import train
from runtime import modes
from runtime.clock import Ledger
from tests import oracle, recipe
from tests.conftest import trained


def assert_oracles_weights(dataset, **changes):
    """Trains with these flags, and compares."""
    job = {"epochs": 2, "seed": 3, "loss_reduction": "mean", "lr": 0.1} | changes
    ran = trained(dataset, **job)
    orders = [data.epoch_order(len(dataset.train), 3, epoch) for epoch in range(2)]
    arrays, mean = (dataset.train.images, dataset.train.labels), job["loss_reduction"] == "mean"
    W, b, losses = oracle.train(*arrays, orders, job["batch_size"], job["lr"], mean)
    oracle.assert_weights(vars(ran.model), W, b)
    assert (ran.step, ran.examples) == (len(losses), 1320)


# Each batch size has another place: a row, one of few, a smaller last one, and all of an epoch.
JOBS = [
    ("eager", 64, "mean"),
    ("graph", 7, "sum"),
    ("graph", 660, "mean"),
    ("xla", 64, "mean"),
    ("xla", 500, "sum"),
    *(pytest.param("xla", *job, marks=pytest.mark.slow) for job in [(1, "mean"), (64, "sum")]),
]


@pytest.mark.parametrize(("mode", "batch_size", "reduction"), JOBS)
def test_every_mode_ends_at_the_oracles_weights(tiny_dataset, mode, batch_size, reduction):
    job = {"mode": mode, "batch_size": batch_size, "loss_reduction": reduction}
    lr = 0.1 / batch_size if reduction == "sum" else 0.1
    assert_oracles_weights(tiny_dataset, **job, lr=lr, eval_first=2, eval_every=9)


@pytest.mark.parametrize("batch_size", [200, 655])
def test_the_pieces_of_a_large_batch_leave_no_row_out(tiny_dataset, monkeypatch, batch_size):
    monkeypatch.setattr(model, "ROWS_PER_PIECE", 100)
    assert_oracles_weights(tiny_dataset, mode="xla", batch_size=batch_size)


@pytest.mark.parametrize("mode", [pytest.param("xla", marks=pytest.mark.slow), "graph"])
def test_neither_blocks_nor_rows_gathered_at_a_time_change_a_bit(tiny_dataset, monkeypatch, mode):
    def bits(eval_every, eval_first):
        cadence = {"eval_every": eval_every, "eval_first": eval_first}
        return trained(tiny_dataset, mode=mode, epochs=2, **cadence).model.W.numpy().tobytes()

    expected = bits(0, 0)
    assert bits(7, 3) == expected
    monkeypatch.setattr(model, "BATCHES_PER_GATHER", 7)
    monkeypatch.setattr(data, "ROWS_PER_GATHER", 70)
    assert bits(0, 0) == expected


@pytest.mark.slow
def test_where_xla_must_know_the_steps_all_is_compiled_first_and_the_weights_are_the_same(
    tiny_dataset, monkeypatch
):
    monkeypatch.setattr(model, "GPU_BYTES_PER_GATHER", 2 * 64 * 784)
    job = {"batch_size": 64, "lr": 1e-3, "epochs": 2, "eval_first": 3, "eval_every": 4}
    engine = recipe.KnownSteps()
    state = train.start(flags.training_config(**job), tiny_dataset, Ledger(), engine)
    mode = train.compiled(state, engine)
    before = list(mode.programs)
    train.train(state, mode)
    assert list(mode.programs) == before and len(before) == 4 and state.step == 22
    plain = trained(tiny_dataset, **job)
    np.testing.assert_allclose(state.model.W, plain.model.W, rtol=1e-4, atol=1e-6)
    assert state.loss == pytest.approx(plain.loss, rel=1e-4)


def test_a_graph_is_traced_once_whatever_the_batches(tiny_dataset, monkeypatch):
    seen, update = [], model.update
    monkeypatch.setattr(model, "update", lambda *given: seen.append(given) or update(*given))
    trained(tiny_dataset, mode="graph", batch_size=64, epochs=4)
    assert len(seen) == 1


def test_xla_knows_how_often_the_loops_of_known_steps_go_round(monkeypatch):
    """A GPU then runs a loop without asking the host in each round."""
    monkeypatch.setattr(model, "GPU_BYTES_PER_GATHER", 20 * 8 * 784)
    config, net = flags.training_config(), model.SoftmaxRegression(784, 10)
    images, labels = tf.zeros([800, 784], tf.uint8), tf.zeros([800], tf.int32)
    rows = model.Rows(images, labels, tf.range(800), tf.constant(0))
    program = model.compiled_block(net, config, 8, max_steps=100, known_steps=True)
    compiled = program.experimental_get_compiler_ir(rows, tf.constant(93), modes.floats(config))
    rounds = re.findall(r'known_trip_count":{"n":"(\d+)"', compiled(stage="optimized_hlo"))
    assert sorted(rounds) == ["20", "5"]
