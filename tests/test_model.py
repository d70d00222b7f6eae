"""The maths, against an oracle in NumPy."""

import math

import numpy as np
import pytest
import tensorflow as tf

import flags
import model
from tests import oracle

Batch = tuple[np.ndarray, np.ndarray]  # images [7, 5] uint8, labels [7]


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(3)
    return rng.integers(256, size=(7, 5), dtype=np.uint8), rng.integers(3, size=7).astype(np.int32)


def with_weights(W: np.ndarray, b: np.ndarray) -> model.SoftmaxRegression:
    made = model.SoftmaxRegression(*W.shape)
    made.W.assign(W)
    made.b.assign(b)
    return made


@pytest.fixture
def softmax_regression() -> model.SoftmaxRegression:
    rng = np.random.default_rng(4)
    return with_weights(rng.normal(size=(5, 3)), rng.normal(size=3))


def test_starts_at_zero_with_the_articles_shapes() -> None:
    made = model.SoftmaxRegression(784, 10)
    assert made.W.shape == (784, 10) and made.b.shape == (10,)
    assert not made.W.numpy().any() and not made.b.numpy().any()


def test_call_is_softmax_of_the_affine_map(
    softmax_regression: model.SoftmaxRegression, batch: Batch
) -> None:
    x = batch[0] / np.float32(255)
    expected = oracle.softmax(x @ softmax_regression.W.numpy() + softmax_regression.b.numpy())
    np.testing.assert_allclose(softmax_regression(x), expected, rtol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(softmax_regression(x), axis=1), np.ones(7), rtol=1e-6)


def test_cross_entropy_is_summed_and_blind_to_a_shift(batch: Batch) -> None:
    logits = np.random.default_rng(6).normal(size=(7, 3)).astype(np.float32)
    expected = -np.log(oracle.softmax(logits)[np.arange(7), batch[1]]).sum()
    np.testing.assert_allclose(model.cross_entropy(logits, batch[1]), expected, rtol=1e-5)
    np.testing.assert_allclose(model.cross_entropy(logits + 100, batch[1]), expected, rtol=1e-4)


def test_cross_entropy_is_finite_where_the_articles_form_is_nan() -> None:
    logits, labels = tf.constant([[1e4, -1e4, 0.0]]), tf.constant([1])
    articles = -tf.reduce_sum(tf.one_hot(labels, 3) * tf.math.log(tf.nn.softmax(logits)))
    assert math.isnan(articles)
    assert float(model.cross_entropy(logits, labels)) == 2e4


def test_gradient_of_a_step_is_the_oracles_and_the_finite_difference(
    softmax_regression: model.SoftmaxRegression, batch: Batch
) -> None:
    W, b = softmax_regression.W.numpy().astype(float), softmax_regression.b.numpy().astype(float)
    x = batch[0] / 255
    config = flags.training_config(lr=1.0)
    model.sgd_step(softmax_regression, *map(tf.constant, batch), config)
    step_W, step_b = W - softmax_regression.W.numpy(), b - softmax_regression.b.numpy()
    expected_W, expected_b = oracle.gradients(W, b, x, batch[1])
    np.testing.assert_allclose(step_W, expected_W, atol=1e-5)
    np.testing.assert_allclose(step_b, expected_b, atol=1e-5)
    for row, column in ((0, 0), (2, 1), (4, 2)):
        nudge = np.zeros_like(W)
        nudge[row, column] = 1e-6
        slope = (
            oracle.loss(W + nudge, b, x, batch[1]) - oracle.loss(W - nudge, b, x, batch[1])
        ) / 2e-6
        assert step_W[row, column] == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("times", [1, 500])
def test_num_correct_counts_every_example(
    softmax_regression: model.SoftmaxRegression, batch: Batch, times: int
) -> None:
    images, labels = np.tile(batch[0], (times, 1)), np.tile(batch[1], times)
    logits = images / 255 @ softmax_regression.W.numpy() + softmax_regression.b.numpy()
    predictions = logits.argmax(axis=1).astype(np.int32)
    for given, right in ((labels, (predictions == labels).sum()), (predictions, 7 * times)):
        assert (
            int(model.num_correct(softmax_regression, tf.constant(images), tf.constant(given)))
            == right
        )
