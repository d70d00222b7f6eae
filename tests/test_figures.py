"""--figures: what is drawn is what happened, in files another reader can open."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

import data
from callbacks import figures
from common import plots


@pytest.fixture(autouse=True)
def look():
    with plots.look("--figures"):
        yield


def test_a_run_is_drawn(run_here, tmp_path):
    run_here(f"--figures={tmp_path}", "--eval_every=0", "--max_steps=7", "--mode=graph")
    for name in figures.NAMES:
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.width == int(plots.WIDTH * plots.DPI)
            assert len(image.convert("RGB").getcolors(2**24)) > 50  # something is drawn


def test_accuracy_draws_each_evaluation():
    evaluations = [[1, 0.1, 0.2, 2.5], [2, 0.2, 0.4, 2.0], [300, 0.3, 0.9, 0.5]]
    above, below = figures.accuracy(evaluations).axes
    assert above.lines[0].get_xydata().tolist() == [[1, 0.2], [2, 0.4], [300, 0.9]]
    assert below.lines[0].get_xydata().tolist() == [[1, 2.5], [2, 2.0], [300, 0.5]]


def test_weights_share_one_scale_that_is_symmetric_about_zero(tiny_dataset):
    W = np.random.default_rng(0).normal(size=(784, 10)).astype(np.float32)
    W[5, 3] = -9.0
    panels = [axes for axes in figures.weights(W, tiny_dataset).axes if axes.images]
    assert [axes.get_title() for axes in panels] == [str(digit) for digit in range(10)]
    for digit, axes in enumerate(panels):
        assert axes.images[0].get_clim() == (-9.0, 9.0)
        np.testing.assert_array_equal(axes.images[0].get_array(), W[:, digit].reshape(28, 28))


@pytest.mark.parametrize(("classes", "wrong"), [(3, True), (10, False), (100, True)])
def test_confusion_counts_every_image_and_all_is_drawn(tiny_dataset, classes, wrong):
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=500).astype(np.int32)
    answers = rng.integers(classes, size=500) if wrong else labels
    split = data.Split(rng.integers(256, size=(500, 12), dtype=np.uint8), labels)
    names = [f"class {number}" for number in range(classes)]
    dataset = dataclasses.replace(
        tiny_dataset, test=split, class_names=names, image_shape=(2, 2, 3)
    )
    shares = np.eye(classes)[answers]
    axes = figures.confusion(shares, dataset).axes[0]
    counts = np.array(
        [
            [np.sum((labels == row) & (answers == n)) for n in range(classes)]
            for row in range(classes)
        ]
    )
    np.testing.assert_array_equal(axes.images[0].get_array().data, counts)
    # the diagonal has no colour
    np.testing.assert_array_equal(axes.images[0].get_array().mask, np.eye(classes, dtype=bool))
    drawn = {text.get_position(): int(text.get_text()) for text in axes.texts}
    few = classes <= figures.MAX_CLASSES
    assert drawn == {
        (column, row): counts[row, column] for row, column in np.argwhere(counts) if few
    }
    figures.predictions(shares, dataset)
    figures.weights(rng.normal(size=(12, classes)), dataset)


def test_pick_finds_the_surest_the_closest_and_the_worst():
    rng = np.random.default_rng(0)
    shares = rng.random((400, 10)) ** 4
    shares /= shares.sum(axis=1, keepdims=True)
    labels = rng.integers(10, size=400)
    sure, unsure, wrongest = figures.pick(shares, labels).values()
    answers, tops = shares.argmax(axis=1), shares.max(axis=1)
    right, wrong = np.flatnonzero(answers == labels), np.flatnonzero(answers != labels)
    assert sure[0] == max(right, key=lambda index: tops[index])
    assert wrongest[0] == max(wrong, key=lambda index: tops[index])
    assert unsure[0] == min(right, key=lambda index: tops[index] - np.sort(shares[index])[-2])
    for group, among in ((sure, right), (unsure, right), (wrongest, wrong)):
        assert set(group) <= set(among)
        assert len(set(labels[group])) == len(group) == figures.EXAMPLES
