"""The maths, against an oracle in NumPy."""

import math

import numpy as np
import pytest
import tensorflow as tf

import flags
import model
from tests import oracle

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(256, size=(7, 5), dtype=np.uint8)
LABELS = RNG.integers(3, size=7).astype(np.int32)
W, B = RNG.normal(size=(5, 3)), RNG.normal(size=3)


@pytest.fixture
def net():
    made = model.SoftmaxRegression(5, 3)
    made.W.assign(W)
    made.b.assign(B)
    return made


def test_it_starts_at_zero_with_the_articles_shapes():
    made = model.SoftmaxRegression(784, 10)
    np.testing.assert_array_equal(made.W, np.zeros((784, 10)))
    np.testing.assert_array_equal(made.b, np.zeros(10))


@pytest.mark.parametrize("x", [IMAGES, IMAGES / np.float32(255)], ids=["uint8", "float32"])
def test_a_call_is_the_softmax_of_the_affine_map(net, x):
    np.testing.assert_allclose(net(x), oracle.softmax(IMAGES / 255 @ W + B), rtol=1e-5)


@pytest.mark.parametrize("shift", [0, 100])
def test_cross_entropy_is_summed_and_blind_to_a_shift(shift):
    logits = RNG.normal(size=(7, 3)).astype(np.float32)
    expected = -np.log(oracle.softmax(logits)[np.arange(7), LABELS]).sum()
    np.testing.assert_allclose(model.cross_entropy(logits + shift, LABELS), expected, rtol=1e-4)


def test_cross_entropy_is_finite_where_the_articles_form_is_nan():
    logits, labels = tf.constant([[1e4, -1e4, 0.0]]), tf.constant([1])
    articles = -tf.reduce_sum(tf.one_hot(labels, 3) * tf.math.log(tf.nn.softmax(logits)))
    assert math.isnan(articles)
    assert float(model.cross_entropy(logits, labels)) == 2e4


def test_the_gradient_of_a_step_is_the_oracles_and_the_finite_difference(net):
    before = net.W.numpy(), net.b.numpy()
    model.sgd_step(net, tf.constant(IMAGES), tf.constant(LABELS), flags.training_config(lr=1.0))
    step_W, step_b = before[0] - net.W.numpy(), before[1] - net.b.numpy()
    expected_W, expected_b = oracle.gradients(W, B, IMAGES / 255, LABELS)
    np.testing.assert_allclose(step_W, expected_W, atol=1e-5)
    np.testing.assert_allclose(step_b, expected_b, atol=1e-5)
    nudge = np.zeros_like(W)
    nudge[2, 1] = 1e-6
    up, down = (oracle.loss(W + sign * nudge, B, IMAGES / 255, LABELS) for sign in (1, -1))
    assert step_W[2, 1] == pytest.approx((up - down) / 2e-6, abs=1e-4)


@pytest.mark.parametrize("times", [1, 500])
def test_num_correct_counts_every_example(net, times):
    images = np.tile(IMAGES, (times, 1))
    predictions = np.argmax(images / 255 @ W + B, axis=1).astype(np.int32)
    labels = np.tile(LABELS, times)
    assert model.num_correct(net, images, labels) == (predictions == labels).sum()
    assert model.num_correct(net, images, predictions) == 7 * times
