"""The modes: each ends at the oracle's weights, and compiles no more than it must."""

import re
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

import data
import flags
import model
import train
from runtime import modes
from runtime.clock import Ledger
from tests import oracle
from tests.conftest import trained


class KnownSteps(modes.InXla):
    """Mode xla as on a GPU."""

    def __init__(self, net):
        super().__init__(net)
        self.on_gpu = True


# Each batch size has another place: a row, one of few, a smaller last one, and all of an epoch.
# That of 450 has four whole pieces and one of 50 rows.
JOBS = [
    ("eager", 64, "mean"),
    ("graph", 7, "sum"),
    ("graph", 660, "mean"),
    ("xla", 64, "mean"),
    ("xla", 450, "sum"),
    pytest.param("xla", 1, "mean", marks=pytest.mark.slow),
    pytest.param("known", 64, "mean", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("mode", "batch_size", "reduction"), JOBS)
def test_every_mode_ends_at_the_oracles_weights_and_traces_nothing_in_training(
    tiny_dataset, monkeypatch, mode, batch_size, reduction
):
    monkeypatch.setattr(model, "ROWS_PER_PIECE", 100)
    monkeypatch.setattr(model, "update", mock.Mock(wraps=model.update))
    if mode == "known":  # mode xla as on a GPU
        monkeypatch.setattr(modes, "InXla", KnownSteps)
    config = flags.training_config(
        mode="xla" if mode == "known" else mode,
        batch_size=batch_size,
        loss_reduction=reduction,
        lr=0.02 / batch_size if reduction == "sum" else 0.02,
        epochs=2,
        seed=3,
        eval_first=2,
        eval_every=9,
    )
    state = train.start(config, tiny_dataset, Ledger())
    state.step = 660 // batch_size  # a resumed run may begin with a smaller last batch
    compiled = train.compiled(state)
    model.update.reset_mock()
    state.step = 0
    train.train(state, compiled)
    assert model.update.called == (mode == "eager")
    orders = [data.epoch_order(660, 3, epoch) for epoch in range(2)]
    arrays = tiny_dataset.train.images, tiny_dataset.train.labels
    # which tests/test_recipe.py adds to a copy
    terms = {name: getattr(config, name, 0.0) for name in ("l2", "momentum")}
    mean = reduction == "mean"
    W, b, losses = oracle.train(*arrays, orders, batch_size, config.lr, mean, **terms)
    oracle.assert_weights(vars(state.model), W, b)
    np.testing.assert_allclose(state.losses, losses[-100:], rtol=1e-4)
    assert (state.step, state.examples) == (len(losses), 1320)


@pytest.mark.parametrize("mode", [pytest.param("xla", marks=pytest.mark.slow), "graph"])
def test_neither_blocks_nor_rows_gathered_at_a_time_change_a_bit(tiny_dataset, monkeypatch, mode):
    job = {"mode": mode, "epochs": 2}
    whole = trained(tiny_dataset, **job, eval_every=0)
    monkeypatch.setattr(model, "BATCHES_PER_GATHER", 7)
    monkeypatch.setattr(data, "ROWS_PER_GATHER", 70)
    cut = trained(tiny_dataset, **job, eval_every=7, eval_first=3)
    assert cut.model.W.numpy().tobytes() == whole.model.W.numpy().tobytes()
    assert cut.loss == pytest.approx(whole.loss)


def test_xla_knows_how_often_the_loops_of_known_steps_go_round(monkeypatch):
    """A GPU then runs a loop without asking the host in each round."""
    monkeypatch.setattr(model, "BATCHES_PER_GATHER", 20)
    config, net = flags.training_config(), model.SoftmaxRegression(784, 10)
    images, labels = tf.zeros([800, 784], tf.uint8), tf.zeros([800], tf.int32)
    rows = model.Rows(images, labels, tf.range(800), tf.constant(0))
    program = model.compiled_block(net, config, 8, max_steps=100, known_steps=True)
    compiled = program.experimental_get_compiler_ir(rows, tf.constant(93), model.floats(config))
    rounds = re.findall(r'known_trip_count":{"n":"(\d+)"', compiled(stage="optimized_hlo"))
    assert sorted(rounds) == ["20", "5"]
