"""--figures: what is drawn is what happened, in files another reader can open."""

import collections
import re

import numpy as np
import pytest
from PIL import Image

import data
import flags
import model
from callbacks import figures
from common import plots
from runtime.clock import Ledger
from runtime.state import State


@pytest.fixture
def state(tiny_dataset):
    net = model.SoftmaxRegression(784, 10)
    net.W.assign(np.random.default_rng(0).normal(size=(784, 10)))
    with plots.look():
        yield State(flags.training_config(), tiny_dataset, net, Ledger())


def test_a_run_is_drawn(run_here, tmp_path):
    folder = tmp_path / "figures"
    run_here(f"--figures={folder}", "--eval_every=0", "--max_steps=7", "--mode=graph")
    names = {path.stem for path in folder.iterdir()}
    assert names == {"accuracy", "weights", "confusion", "predictions"}
    for path in folder.iterdir():
        with Image.open(path) as image:
            assert len(image.convert("RGB").getcolors(2**24)) > 50  # something is drawn


def test_accuracy_draws_each_evaluation(state):
    state.evaluations = [[1, 0.1, 0.2, 2.5], [2, 0.2, 0.4, 2.0], [300, 0.3, 0.9, 0.5]]
    drawn = [axes.lines[0].get_xydata().tolist() for axes in figures.accuracy(state, None).axes]
    assert drawn == [[[1, 0.2], [2, 0.4], [300, 0.9]], [[1, 2.5], [2, 2.0], [300, 0.5]]]


def test_weights_share_one_scale_that_is_symmetric_about_zero(state):
    state.model.W[5, 3].assign(-9.0)
    W, panels = state.model.W.numpy(), figures.weights(state, None).axes
    for digit, axes in enumerate(panels):
        assert axes.get_title() == str(digit) and axes.images[0].get_clim() == (0, 1)
        shown, expected = axes.images[0].get_array(), 0.5 + W[:, digit].reshape(28, 28) / 18
        np.testing.assert_allclose(shown, expected, atol=1e-6)
    assert len(panels) == 10


@pytest.mark.parametrize("classes", [3, 100])
def test_confusion_counts_every_image(state, classes):
    rng = np.random.default_rng(0)
    labels, answers = rng.integers(classes, size=(2, 500))
    split = data.Split(rng.integers(256, size=(500, 12), dtype=np.uint8), labels)
    names = [f"class {number}" for number in range(classes)]
    state.dataset = data.Dataset("made", split, split, split, names, (2, 2, 3))
    shares = np.eye(classes)[answers]
    axes = figures.confusion(state, shares).axes[0]
    cells = collections.Counter(zip(answers, labels, strict=True))
    drawn = {text.get_position(): int(text.get_text()) for text in axes.texts}
    assert drawn == (cells if classes <= figures.MAX_CLASSES else {})
    for (column, row), colour in np.ndenumerate(axes.images[0].get_array().T):
        assert colour == cells[column, row] * (column != row)
    title = figures.predictions(state, shares).axes[0].get_title()
    assert re.fullmatch(r"class \d+: 100%\nis class \d+", title)


def test_pick_finds_the_surest_the_closest_and_the_worst():
    rng = np.random.default_rng(0)
    shares, labels = rng.dirichlet(np.ones(10), size=400), rng.integers(10, size=400)
    groups = figures.pick(shares, labels).reshape(3, figures.COLUMNS)
    true = np.choose(labels, shares.T)
    assert groups[:, 0].tolist() == [true.argmax(), abs(true - 0.5).argmin(), true.argmin()]
