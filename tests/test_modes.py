"""The ways to take steps: each ends at the oracle's weights, and compiles no more than it must."""

import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

import data
import flags
import model
from runtime import modes, plan
from tests import oracle
from tests.conftest import trained


def known(net: model.SoftmaxRegression, mean: bool) -> modes.Take:
    """Returns mode xla as on a GPU, where it compiles a program for each number of steps."""
    take = modes.InXla(net, mean)
    take.known = True
    return take


TAKERS: dict[str, Callable[[model.SoftmaxRegression, bool], modes.Take]] = {
    "eager": lambda net, mean: modes.FromPipeline(net, mean, eager=True),
    "graph": lambda net, mean: modes.FromPipeline(net, mean, eager=False),
    "xla": modes.InXla,
    "xla, steps known": known,
    "1 core": lambda net, mean: modes.OnAllCores(net, mean, 1),
    "2 cores": lambda net, mean: modes.OnAllCores(net, mean, 2),
    "3 cores": lambda net, mean: modes.OnAllCores(net, mean, 3),
}


def block(
    examples: data.Split, order: np.ndarray, first: int, steps: int, batch_size: int
) -> data.Block:
    inputs = map(tf.constant, (examples.images, examples.labels, order))
    return data.Block(*inputs, first, steps, batch_size, evaluate=False)


# The mean of the others is that of one of these.
MEANS = [
    pytest.param(name, True, marks=[] if name in ("graph", "xla", "2 cores") else pytest.mark.slow)
    for name in TAKERS
]


@pytest.mark.parametrize(("name", "mean"), [*((name, False) for name in TAKERS), *MEANS])
def test_blocks_take_the_oracles_steps(name: str, mean: bool, tiny_dataset: data.Dataset) -> None:
    split, order = tiny_dataset.train, data.epoch_order(660, seed=4, epoch=0)
    net = model.SoftmaxRegression(784, 10)
    take = TAKERS[name](net, mean)
    cuts = ((16, 6), (64, 1), (72, 6))  # one behind the other, from row 16 on
    losses = [take(block(split, order, first, steps, 8), 0.01) for first, steps in cuts]
    assert [each.shape for each in losses] == [(6,), (1,), (6,)]
    W, b, expected = oracle.train(
        split.images, split.labels, [order[16:120]], batch=8, lr=0.01, mean=mean
    )
    np.testing.assert_allclose(np.concatenate(losses), expected, rtol=1e-5)
    np.testing.assert_allclose(net.W, W, atol=1e-6)
    np.testing.assert_allclose(net.b, b, atol=1e-6)


@pytest.mark.parametrize(
    ("cores", "batch_size"),
    [
        (1, 2),
        (3, 2),
        (1, 1003),
        (2, 500),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((2, 1003), (3, 500))),
    ],
)
def test_cores_share_a_large_batch_and_leave_no_row_out(cores: int, batch_size: int) -> None:
    rng = np.random.default_rng(7)
    images = rng.integers(256, size=(2 * batch_size, 20), dtype=np.uint8)
    split = data.Split(images, rng.integers(3, size=2 * batch_size).astype(np.int32))
    order = rng.permutation(2 * batch_size).astype(np.int32)
    net = model.SoftmaxRegression(20, 3)
    take = modes.OnAllCores(net, mean=True, cores=cores)
    losses = take(block(split, order, 0, 2, batch_size), 0.1)
    W, b, expected = oracle.train(images, split.labels, [order], batch_size, 0.1, mean=True)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(net.W, W, atol=1e-6)
    np.testing.assert_allclose(net.b, b, atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "batch_size"),
    [*itertools.product(["eager", "graph", "xla"], [10, 64, 500]), ("xla", 1), ("xla", 300)],
)
def test_every_mode_ends_at_the_oracles_weights(
    tiny_dataset: data.Dataset, mode: str, batch_size: int
) -> None:
    rate = 0.01 if batch_size < 300 else 0.001
    ran = trained(tiny_dataset, mode=mode, batch_size=batch_size, epochs=2, seed=3, lr=rate)
    epochs = [data.epoch_order(660, 3, epoch) for epoch in range(2)]
    W, b, losses = oracle.train(
        tiny_dataset.train.images, tiny_dataset.train.labels, epochs, batch_size, rate
    )
    np.testing.assert_allclose(ran.model.W, W, atol=1e-5)
    np.testing.assert_allclose(ran.model.b, b, atol=1e-5)
    assert (ran.step, ran.examples) == (len(losses), 1320)


def test_only_large_batches_on_a_cpu_are_shared_by_the_cores() -> None:
    net = model.SoftmaxRegression(784, 10)
    for batch_size, kind in ((10, modes.InXla), (modes.SHARED_BATCH, modes.OnAllCores)):
        assert type(modes.taker(net, flags.training_config(batch_size=batch_size))) is kind
    assert (
        type(modes.taker(net, flags.training_config(batch_size=modes.SHARED_BATCH, mode="graph")))
        is modes.FromPipeline
    )


@pytest.mark.parametrize(
    ("mode", "batch_size"),
    [
        pytest.param("xla", 10, marks=pytest.mark.slow),
        ("graph", 10),
        pytest.param("xla", 500, marks=pytest.mark.slow),
    ],
)
def test_blocks_of_any_length_end_at_the_same_bits(
    tiny_dataset: data.Dataset, mode: str, batch_size: int
) -> None:
    weights = {
        trained(
            tiny_dataset,
            mode=mode,
            batch_size=batch_size,
            epochs=2,
            eval_every=every,
            eval_first=first,
            lr=0.001,
        )
        .model.W.numpy()
        .tobytes()
        for every, first in ((0, 0), (7, 3))
    }
    assert len(weights) == 1


@pytest.mark.parametrize("mode", ["xla", "graph"])
def test_rows_gathered_at_a_time_do_not_change_a_bit(
    tiny_dataset: data.Dataset, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = trained(tiny_dataset, mode=mode, epochs=2, eval_every=0)
    monkeypatch.setattr(model, "GATHERED", (7, 500))
    monkeypatch.setattr(data, "GATHERED", 70)
    in_parts = trained(tiny_dataset, mode=mode, epochs=2, eval_every=0)
    assert in_parts.model.W.numpy().tobytes() == plain.model.W.numpy().tobytes()
    assert in_parts.loss == plain.loss


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int | None, int]]:
    """The steps, None where any number will do, and the batch size of each program of mode xla traced."""
    seen: list[tuple] = []
    take_steps = model.take_steps

    def counting(*inputs: object) -> tf.Tensor:
        seen.append((inputs[5] if isinstance(inputs[5], int) else None, inputs[7]))
        return take_steps(*inputs)

    monkeypatch.setattr(model, "take_steps", counting)
    return seen


def test_xla_has_one_program_for_each_batch_size(
    tiny_dataset: data.Dataset, traced: list[tuple[int | None, int]]
) -> None:
    trained(tiny_dataset, batch_size=64, epochs=4, eval_first=3, eval_every=7)
    assert sorted(traced) == [(None, 20), (None, 64)]


@pytest.mark.slow
def test_where_xla_must_know_the_steps_each_number_has_a_program_and_the_bits_are_the_same(
    tiny_dataset: data.Dataset,
    traced: list[tuple[int | None, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model, "GATHERED_BYTES", 2 * 64 * 784)
    config = flags.training_config(batch_size=64, epochs=2, eval_first=0, eval_every=4)
    spans = plan.spans(config, 660, data.steps_of_part(tiny_dataset.train, 64))
    blocks = list(data.blocks(tiny_dataset.train, 64, 0, True, spans))
    ends = []
    for make in (known, modes.InXla):
        net = model.SoftmaxRegression(784, 10)
        take = make(net, False)
        losses = np.concatenate([take(each, 0.01) for each in blocks])
        ends.append((net.W.numpy().tobytes(), net.b.numpy().tobytes(), losses.tobytes()))
    assert ends[0] == ends[1]
    assert sorted(traced[:-2]) == sorted({(each.steps, each.batch_size) for each in blocks})
    assert len(blocks) > len(traced[:-2]) > 3 and sorted(traced[-2:]) == [(None, 20), (None, 64)]


def test_a_graph_is_traced_once_whatever_the_batches(
    tiny_dataset: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, sgd_step = [], model.sgd_step
    monkeypatch.setattr(
        model, "sgd_step", lambda *inputs: seen.append(inputs[1].shape) or sgd_step(*inputs)
    )
    trained(tiny_dataset, mode="graph", batch_size=64, epochs=4)
    assert seen == [[None, 784]]


def hlo_of(net: model.SoftmaxRegression, steps: int) -> str:
    """Returns the optimised program of a block of so many steps of 8."""
    inputs = (
        tf.zeros([800, 784], tf.uint8),
        tf.zeros([800], tf.int32),
        tf.range(800),
        tf.constant(0),
        tf.constant(0.1),
    )

    def take(
        images: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, first: tf.Tensor, rate: tf.Tensor
    ) -> tf.Tensor:
        return model.take_steps(net, images, labels, order, first, steps, rate, 8, False, 100)

    program = tf.function(take, autograph=False, jit_compile=True)
    return program.experimental_get_compiler_ir(*inputs)(stage="optimized_hlo")


def test_xla_loops_over_a_known_number_of_steps_compare_one_counter_with_a_constant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the trip count known, a GPU runs a loop without asking the host in each round."""
    monkeypatch.setattr(model, "GATHERED_BYTES", 20 * 8 * 784)
    monkeypatch.setattr(model, "ROUND", 2)
    hlo = hlo_of(model.SoftmaxRegression(784, 10), 100)
    limits = []
    for name in re.findall(r" while\(.*condition=%([\w.]+),", hlo):
        condition = _computation(hlo, name)
        for called in re.findall(r"calls=%([\w.]+)", condition):
            condition += _computation(hlo, called)
        assert len(re.findall(r"compare\(.*direction=LT", condition)) == 1
        assert len(re.findall(r"s32\[\] get-tuple-element", condition)) == 1
        limits += re.findall(r"s32\[\] constant\((\d+)\)", condition)
    counts = re.findall(r'known_trip_count":{"n":"(\d+)"', hlo)
    assert sorted(limits) == ["20", "5"] and sorted(counts) == ["10", "5"]


def _computation(hlo: str, name: str) -> str:
    return hlo.split(f"\n%{name} (", 1)[1].split("\n}", 1)[0]
