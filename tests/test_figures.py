"""--figures: what is drawn is what happened, in files another reader can open."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

import data
import flags
import model
from common import plots
from outputs import figures
from runtime.clock import Ledger
from runtime.state import State
from tests.conftest import Command

NAMES = ("accuracy", "confusion", "predictions", "weights")


def probabilities_of(rng: np.random.Generator, num_examples: int) -> np.ndarray:
    shares = rng.random((num_examples, 10)) ** 4
    return shares / shares.sum(axis=1, keepdims=True)


def test_run_of_few_steps_without_cadence_is_drawn(
    run_here: Callable, tmp_path: pathlib.Path
) -> None:
    run_here(
        f"--figures={tmp_path}", "--eval_every=0", "--eval_first=0", "--max_steps=7", "--mode=graph"
    )
    for name in NAMES:
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.width == int(plots.WIDTH * plots.DPI)
            assert len(image.convert("RGB").getcolors(2**24)) > 50  # something is drawn


def test_without_matplotlib_one_line_names_the_requirements_file(
    run_train: Command, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not installed')\n")
    done = run_train(
        f"--figures={tmp_path / 'figures'}", env={"PYTHONPATH": str(tmp_path), "PATH": ""}
    )
    assert done.returncode == 2
    assert "requirements/plots.txt" in done.stderr and done.stderr.count("\n") == 1


def watched(
    dataset: data.Dataset, spans: list[tuple[int, int, float | None]], tmp_path: pathlib.Path
) -> figures.Figures:
    """What --figures keeps of steps [start, stop) of loss 3 / step an example, then evaluated or not."""
    net = model.SoftmaxRegression(784, 10)
    state = State(
        flags.training_config(figures=str(tmp_path)), dataset, net, Ledger(clock=lambda: 0.0)
    )
    watching = figures.Figures(state)
    for start, stop, accuracy in spans:
        state.step, state.examples_of_block = stop - 1, 10 * (stop - start)
        if accuracy:
            state.evaluated(accuracy)
        watching.after_block(30.0 / np.arange(start, stop), bool(accuracy))
    return watching


def test_accuracy_draws_each_evaluation_and_the_mean_loss_between_them(
    tiny_dataset: data.Dataset, tmp_path: pathlib.Path
) -> None:
    kept = watched(
        tiny_dataset, [(1, 2, 0.1), (2, 3, 0.3), (3, 201, None), (201, 301, 0.9)], tmp_path
    )
    with plots.look("--figures"):
        above, below = figures.accuracy(kept.evaluations, kept.dots.points, first=50).axes
    assert above.lines[0].get_xydata().tolist() == [[1, 0.1], [2, 0.3], [300, 0.9]]
    np.testing.assert_allclose(
        below.lines[0].get_xydata(), [[step, 3.0 / step] for step in range(1, 301)]
    )
    expected = [3.0, 1.5, sum(3.0 / step for step in range(3, 301)) / 298]
    np.testing.assert_allclose(below.lines[1].get_ydata(), expected)


def test_what_is_kept_is_bounded_whatever_the_steps() -> None:
    dots = figures.Dots(most=5_000, first=100)
    for start in range(1, 400_001, 2_000):
        dots.add(start, 1.0 / np.arange(start, start + 2_000))
        assert dots.points.shape[1] <= 5_000
    steps, losses = dots.points
    assert steps[:100].tolist() == [*range(1, 101)] and set(np.diff(steps[101:])) == {
        dots.stride
    } == {128}
    np.testing.assert_array_equal(losses, 1.0 / steps)
    assert steps[-1] > 399_000


def test_first_steps_have_half_the_width_and_are_logarithmic() -> None:
    with plots.look("--figures"):
        axes = figures.accuracy(
            [[300, 0.9, 1.0]], np.array([range(1, 301), [1.0] * 300]), first=50
        ).axes[0]
    places = axes.transScale.transform([[step, 0] for step in (1, 5, 25, 50, 175, 300)])[:, 0]
    # equal ratios, equal distances
    assert places[2] - places[1] == pytest.approx(places[1] - places[0])
    assert places[3] - places[0] == pytest.approx(places[5] - places[3])
    assert places[4] - places[3] == pytest.approx(places[5] - places[4])
    back = axes.transScale.inverted().transform(np.stack([places, np.zeros(6)], 1))[:, 0]
    np.testing.assert_allclose(back, [1, 5, 25, 50, 175, 300])


def test_resumed_run_draws_what_it_saw(tiny_dataset: data.Dataset, tmp_path: pathlib.Path) -> None:
    kept = watched(tiny_dataset, [(101, 151, 0.8), (151, 201, 0.9)], tmp_path)
    kept.state.evaluations.insert(0, [50, 0.0, 0.5, 1.0])
    with plots.look("--figures"):
        above, below = figures.accuracy(kept.evaluations, kept.dots.points, first=50).axes
    assert above.lines[0].get_xdata().tolist() == [150, 200]
    assert below.lines[0].get_xdata().tolist() == [*range(101, 201)]


def test_weights_share_one_scale_that_is_symmetric_about_zero(tiny_dataset: data.Dataset) -> None:
    W = np.random.default_rng(0).normal(size=(784, 10)).astype(np.float32)
    W[5, 3] = -9.0
    with plots.look("--figures"):
        panels = [axes for axes in figures.weights(W, tiny_dataset).axes if axes.images]
    assert len(panels) == 10
    for digit, axes in enumerate(panels):
        assert axes.get_title() == str(digit)
        assert axes.images[0].get_clim() == (-9.0, 9.0)
        np.testing.assert_array_equal(axes.images[0].get_array(), W[:, digit].reshape(28, 28))


def test_colour_images_and_many_classes_are_drawn(tiny_dataset: data.Dataset) -> None:
    names = [f"class {number}" for number in range(100)]
    images = np.zeros((4, 12), np.uint8)
    split = data.Split(images, np.array([0, 1, 2, 99], np.int32))
    dataset = dataclasses.replace(
        tiny_dataset, test=split, class_names=names, image_shape=(2, 2, 3)
    )
    shares = np.full((4, 100), 0.01)
    shares[:, 0] = 0.02
    with plots.look("--figures"):
        assert (
            len([axes for axes in figures.weights(np.ones((12, 100)), dataset).axes if axes.images])
            == 30
        )
        figures.confusion(split.labels, shares.argmax(axis=1), names)
        figures.predictions(shares, split.labels, dataset)


def test_confusion_counts_every_image() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(3, size=500), rng.integers(3, size=500)
    with plots.look("--figures"):
        axes = figures.confusion(labels, predicted, ["a", "b", "c"]).axes[0]
    drawn = {text.get_position(): int(text.get_text()) for text in axes.texts}
    for truth in range(3):
        for answer in range(3):
            assert drawn[answer, truth] == sum((labels == truth) & (predicted == answer))
    # the diagonal has no colour
    assert axes.images[0].get_array().mask.tolist() == np.eye(3, dtype=bool).tolist()


def test_pick_takes_the_surest_the_closest_and_the_worst() -> None:
    rng = np.random.default_rng(0)
    shares, labels = probabilities_of(rng, 400), rng.integers(10, size=400)
    chosen = figures.pick(shares, labels)
    answers, tops = shares.argmax(axis=1), shares.max(axis=1)
    right, wrong = np.flatnonzero(answers == labels), np.flatnonzero(answers != labels)
    assert chosen["sure"][0] == max(right, key=lambda index: tops[index])
    assert chosen["wrong"][0] == max(wrong, key=lambda index: tops[index])
    assert chosen["unsure"][0] == min(
        right, key=lambda index: tops[index] - np.sort(shares[index])[-2]
    )
    for group in figures.GROUPS:
        assert len(set(labels[chosen[group]])) == len(chosen[group]) == figures.EXAMPLES
    assert set(chosen["sure"]) <= set(right) and set(chosen["unsure"]) <= set(right)
    assert set(chosen["wrong"]) <= set(wrong)


def test_a_model_without_mistakes_is_drawn(tiny_dataset: data.Dataset) -> None:
    shares = np.eye(10)[tiny_dataset.test.labels]
    assert len(figures.pick(shares, tiny_dataset.test.labels)["wrong"]) == 0
    with plots.look("--figures"):
        figures.predictions(shares, tiny_dataset.test.labels, tiny_dataset)
        figures.confusion(tiny_dataset.test.labels, shares.argmax(axis=1), tiny_dataset.class_names)
