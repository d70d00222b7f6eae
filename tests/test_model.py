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


def test_it_starts_at_zero_with_the_articles_shapes():
    made = model.SoftmaxRegression(784, 10)
    assert (made.W.shape, made.b.shape) == ((784, 10), (10,))
    assert not made.W.numpy().any() and not made.b.numpy().any()


def test_a_call_is_the_softmax_of_the_affine_map(net):
    np.testing.assert_allclose(net(IMAGES), oracle.softmax(IMAGES / 255 @ W + B), rtol=1e-5)


def test_cross_entropy_is_summed():
    expected = oracle.loss(W, B, IMAGES / 255, LABELS)
    logits = IMAGES / np.float32(255) @ W.astype(np.float32) + B.astype(np.float32)
    np.testing.assert_allclose(model.cross_entropy(logits, LABELS), expected, rtol=1e-5)


def test_cross_entropy_is_finite_where_the_softmax_is_0():
    logits = tf.constant([[1e4, -1e4, 0.0]])
    assert tf.nn.softmax(logits)[0, 1] == 0
    assert model.cross_entropy(logits, [1]) == 2e4


def test_the_gradient_of_a_step_is_the_oracles_and_the_finite_difference(net):
    model.sgd_step(net, tf.constant(IMAGES), tf.constant(LABELS), flags.training_config(lr=1.0))
    step_W, (expected_W, expected_b) = (
        W - net.W.numpy(),
        oracle.gradients(W, B, IMAGES / 255, LABELS),
    )
    np.testing.assert_allclose(step_W, expected_W, atol=1e-5)
    np.testing.assert_allclose(B - net.b, expected_b, atol=1e-5)
    nudge = np.zeros_like(W)
    nudge[2, 1] = 1e-6
    up, down = (oracle.loss(W + sign * nudge, B, IMAGES / 255, LABELS) for sign in (1, -1))
    assert step_W[2, 1] == pytest.approx((up - down) / 2e-6, rel=1e-3)


def test_num_correct_counts_every_example(net):
    images, labels = np.tile(IMAGES, (500, 1)), np.tile(LABELS, 500)
    predictions = np.argmax(images / 255 @ W + B, axis=1).astype(np.int32)
    assert model.num_correct(net, images, labels) == (predictions == labels).sum()
    assert model.num_correct(net, images, predictions) == len(predictions)
