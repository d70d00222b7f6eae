"""The maths, against an oracle in NumPy."""

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


def test_a_call_is_the_softmax_of_the_affine_map(net):
    np.testing.assert_allclose(net(IMAGES), oracle.softmax(IMAGES / 255 @ W + B), rtol=1e-5)


def test_cross_entropy_is_summed_and_finite_where_the_softmax_is_0():
    expected = oracle.loss(W, B, IMAGES / 255, LABELS)
    logits = (IMAGES / 255 @ W + B).astype(np.float32)
    np.testing.assert_allclose(model.cross_entropy(logits, LABELS), expected, rtol=1e-5)
    assert model.cross_entropy(tf.constant([[1e4, -1e4, 0.0]]), [1]) == 2e4


def test_a_step_goes_down_the_oracles_gradient_which_is_the_finite_difference(net):
    model.sgd_step(net, tf.constant(IMAGES), tf.constant(LABELS), flags.training_config(lr=1.0))
    gradient_W, gradient_b = oracle.gradients(W, B, IMAGES / 255, LABELS)
    oracle.assert_weights(vars(net), W - gradient_W, B - gradient_b)
    nudge = np.zeros_like(W)
    nudge[2, 1] = 1e-6
    up, down = (oracle.loss(W + sign * nudge, B, IMAGES / 255, LABELS) for sign in (1, -1))
    assert gradient_W[2, 1] == pytest.approx((up - down) / 2e-6, rel=1e-3)


def test_num_correct_counts_every_example(net):
    images, labels = np.tile(IMAGES, (500, 1)), np.tile(LABELS, 500)
    predictions = np.argmax(images / 255 @ W + B, axis=1).astype(np.int32)
    assert model.num_correct(net, images, labels) == (predictions == labels).sum()


def test_a_compiled_function_gets_each_variable_of_a_model_whatever_its_name(monkeypatch):
    made = model.SoftmaxRegression.__init__

    def with_momentum(self, *shape):
        made(self, *shape)
        self.W_momentum = tf.Variable(tf.zeros_like(self.parameters[0]))  # between W, W_transposed

    monkeypatch.setattr(model.SoftmaxRegression, "__init__", with_momentum)
    net, inner = model.SoftmaxRegression(5, 3), model.Transposed(5, 3)
    net.W.assign(W)
    net.W_momentum.assign(W + 1)
    model.assign_transposed(inner, net)
    np.testing.assert_allclose(inner.W, W, rtol=1e-6)
    np.testing.assert_allclose(inner.W_momentum, (W + 1).T, rtol=1e-6)
