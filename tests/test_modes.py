"""The modes: each ends at the oracle's weights, and compiles no more than it must."""

import itertools
import re

import numpy as np
import pytest
import tensorflow as tf

import data
import flags
import model
from runtime import devices, modes, plan
from runtime.clock import Ledger
from runtime.state import State
from tests import oracle
from tests.conftest import trained

# Each batch size has another place: a row, one of few, a smaller last one, and all of an epoch.
JOBS = [*itertools.product(["eager", "graph", "xla"], [7, 64, 500]), ("xla", 1), ("xla", 660)]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize(("mode", "batch_size"), JOBS)
def test_every_mode_ends_at_the_oracles_weights(tiny_dataset, mode, batch_size, reduction):
    lr = {"sum": 0.1 / batch_size, "mean": 0.1}[reduction]
    changes = {"mode": mode, "batch_size": batch_size, "loss_reduction": reduction}
    ran = trained(tiny_dataset, **changes, epochs=2, seed=3, lr=lr, eval_first=2, eval_every=9)
    split, orders = tiny_dataset.train, [data.epoch_order(660, 3, epoch) for epoch in range(2)]
    W, b, losses = oracle.train(
        split.images, split.labels, orders, batch_size, lr, mean=reduction == "mean"
    )
    np.testing.assert_allclose(ran.model.W, W, atol=1e-5)
    np.testing.assert_allclose(ran.model.b, b, atol=1e-5)
    assert (ran.step, ran.examples) == (len(losses), 1320)


@pytest.mark.parametrize(
    ("cores", "batch_size"), [(1, 2), (3, 2), (1, 1003), (2, 500), (2, 1003), (3, 250)]
)
def test_cores_share_a_batch_and_leave_no_row_out(monkeypatch, cores, batch_size):
    rng = np.random.default_rng(7)
    images = rng.integers(256, size=(2 * batch_size, 20), dtype=np.uint8)
    labels = rng.integers(3, size=2 * batch_size).astype(np.int32)
    order = rng.permutation(2 * batch_size).astype(np.int32)
    monkeypatch.setattr(devices, "cores", lambda: cores)
    monkeypatch.setattr(modes, "SHARED_BATCH", 1)
    config = flags.training_config(batch_size=batch_size, lr=0.1, loss_reduction="mean")
    net = model.SoftmaxRegression(20, 3)
    inputs = [tf.constant(array) for array in (images, labels, order)]
    losses = modes.InXla(net, 2, on_gpu=False)(
        data.Block(*inputs, first=0, steps=2, batch_size=batch_size, evaluate=False), config
    )
    W, b, expected = oracle.train(images, labels, [order], batch_size, 0.1, mean=True)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(net.W, W, atol=1e-6)
    np.testing.assert_allclose(net.b, b, atol=1e-6)


@pytest.mark.parametrize(("mode", "batch_size"), [("xla", 10), ("graph", 10), ("xla", 500)])
def test_blocks_of_any_length_end_at_the_same_bits(tiny_dataset, mode, batch_size):
    job = {"mode": mode, "batch_size": batch_size, "epochs": 2, "lr": 0.001}
    runs = [
        trained(tiny_dataset, **job, eval_every=every, eval_first=first)
        for every, first in ((0, 0), (7, 3))
    ]
    assert len({run.model.W.numpy().tobytes() for run in runs}) == 1


@pytest.mark.parametrize("mode", ["xla", "graph"])
def test_rows_gathered_at_a_time_do_not_change_a_bit(tiny_dataset, mode, monkeypatch):
    plain = trained(tiny_dataset, mode=mode, epochs=2, eval_every=0)
    monkeypatch.setattr(model, "BATCHES_PER_GATHER", 7)
    monkeypatch.setattr(data, "ROWS_PER_GATHER", 70)
    in_parts = trained(tiny_dataset, mode=mode, epochs=2, eval_every=0)
    assert in_parts.model.W.numpy().tobytes() == plain.model.W.numpy().tobytes()


@pytest.mark.parametrize(("epochs", "eval_first", "eval_every"), [(3, 0, 0), (2, 3, 4)])
def test_where_xla_must_know_the_steps_two_programs_serve_and_the_bits_are_the_same(
    tiny_dataset, monkeypatch, epochs, eval_first, eval_every
):
    monkeypatch.setattr(model, "GPU_BYTES_PER_GATHER", 2 * 64 * 784)
    config = flags.training_config(
        batch_size=64, epochs=epochs, eval_first=eval_first, eval_every=eval_every
    )
    ends = []
    for on_gpu, programs in ((True, 4), (False, 2)):
        net = model.SoftmaxRegression(784, 10)
        mode = modes.InXla(net, plan.longest(config, 660, 11), on_gpu)
        modes.warm_up(mode, State(config, tiny_dataset, net, Ledger()))
        assert len(mode.programs) == programs and not net.W.numpy().any()
        blocks = mode.blocks(tiny_dataset.train, config, plan.spans(config, 660, 11))
        losses = np.concatenate([mode(block, config) for block in blocks])
        assert len(mode.programs) == programs and len(losses) == 11 * epochs
        ends.append((net.W.numpy(), net.b.numpy(), losses / 64))
    for masked, plain in zip(*ends, strict=True):
        np.testing.assert_allclose(masked, plain, rtol=1e-4, atol=1e-6)


def test_a_graph_is_traced_once_whatever_the_batches(tiny_dataset, monkeypatch):
    seen, update = [], model.update
    monkeypatch.setattr(model, "update", lambda *given: seen.append(given) or update(*given))
    trained(tiny_dataset, mode="graph", batch_size=64, epochs=4)
    assert len(seen) == 1


def test_the_rows_of_mode_xla_are_those_of_the_pipeline(tiny_dataset):
    split = tiny_dataset.train
    config = flags.training_config(batch_size=64, epochs=3, eval_every=7, seed=5)
    spans = list(plan.spans(config, 660, data.steps_per_buffer(split, 64), start=2))
    in_rows = []
    for block in data.blocks(split, 64, 5, True, spans):
        first = block.first
        for _ in range(block.steps):
            rows = block.order.numpy()[first : first + block.batch_size]
            in_rows.append((block.images.numpy()[rows], block.labels.numpy()[rows]))
            first += block.batch_size
    in_batches = [
        tuple(part.numpy() for part in batch)
        for block in data.pipeline_blocks(split, 64, 5, True, spans)
        for batch in itertools.islice(block.batches, block.steps)
    ]
    assert len(in_rows) == len(in_batches) == 3 * 11 - 2
    for (images, labels), (same_images, same_labels) in zip(in_rows, in_batches, strict=True):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(labels, same_labels)


def test_loops_with_a_known_number_of_steps_compare_one_counter_with_a_constant(monkeypatch):
    """A GPU then runs a loop without asking the host in each round."""
    monkeypatch.setattr(model, "GPU_BYTES_PER_GATHER", 20 * 8 * 784)
    images, labels = tf.zeros([800, 784], tf.uint8), tf.zeros([800], tf.int32)
    rows = model.Rows(images, labels, tf.range(800), tf.constant(0))
    inputs = rows, tf.constant(93), modes.floats(flags.training_config())
    program = model.compiled_block(
        model.SoftmaxRegression(784, 10),
        flags.training_config(),
        8,
        max_steps=100,
        known_steps=True,
    )
    hlo = program.experimental_get_compiler_ir(*inputs)(stage="optimized_hlo")
    limits = []
    for name in re.findall(r" while\(.*condition=%([\w.]+),", hlo):
        condition = computation(hlo, name)
        for called in re.findall(r"calls=%([\w.]+)", condition):
            condition += computation(hlo, called)
        assert len(re.findall(r"compare\(.*direction=LT", condition)) == 1
        limits += re.findall(r"s32\[\] constant\((\d+)\)", condition)
    assert sorted(limits) == ["20", "5"]
    assert sorted(re.findall(r'known_trip_count":{"n":"(\d+)"', hlo)) == ["20", "5"]


def computation(hlo, name):
    return hlo.split(f"\n%{name} (", 1)[1].split("\n}", 1)[0]
