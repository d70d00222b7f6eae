"""How well predict.py reads real pictures: test digits drawn large in six ways, and how long one picture takes.

python -m benchmarks.pictures --write
"""

import pathlib
import tempfile
from collections.abc import Callable

import numpy as np
from PIL import Image

import predict
from benchmarks import runs
from common import pictures
from runtime import startup

COUNT, MOST_LOST = 500, 0.04  # digits, and of them what a way of drawing may cost
ORIGINAL = "the originals, 28 x 28"
PAPER = (420, 560)  # rows and columns of a picture
LARGE = 10  # pixels of a picture for one of MNIST
Config = runs.Config
Draw = Callable[[np.ndarray, np.random.Generator], Image.Image]


def on_paper(
    digit: np.ndarray, side: int = 28 * LARGE, at: tuple[int, int] | None = None
) -> np.ndarray:
    """Returns a digit [28, 28] uint8 drawn `side` large on a paper, in the middle or `at` (row, column); ink is 1."""
    top, left = at or ((PAPER[0] - side) // 2, (PAPER[1] - side) // 2)
    paper = np.zeros(PAPER)
    drawn = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    paper[top : top + side, left : left + side] = np.asarray(drawn)
    return paper / 255


def grey(values: np.ndarray) -> Image.Image:
    """Returns grey levels as a picture; what is beyond black and white is cut."""
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def off_centre(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A third as high as the paper, anywhere on it, dark on light."""
    side = PAPER[0] // 3 * 28 // 20
    top, left = (int(rng.integers(most - side)) for most in PAPER)
    return grey(255 - 255 * on_paper(digit, side, (top, left)))


def blue_on_yellow(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    ink = on_paper(digit)[..., None]
    return Image.fromarray((ink * (0, 0, 255) + (1 - ink) * (255, 255, 0)).astype(np.uint8))


def transparent(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    ink = grey(255 * on_paper(digit))
    return Image.merge("LA", (Image.new("L", ink.size), ink))


def photograph(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """The light falls by 120 levels across the paper, in any direction; ink sends back a seventh of what paper does."""
    angle = rng.uniform(0, 2 * np.pi)
    fall = np.tensordot(
        [np.sin(angle), np.cos(angle)], np.indices(PAPER) / np.reshape(PAPER, (2, 1, 1)), 1
    )
    light = 235 - 120 * (fall - fall.min()) / np.ptp(fall)
    return grey(light * (1 - 6 / 7 * on_paper(digit)))


def noisy(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    return grey(255 - 255 * on_paper(digit) + rng.normal(0, 8, PAPER))


WAYS: dict[str, tuple[str, Draw]] = {
    ORIGINAL: ("png", lambda digit, _: Image.fromarray(digit)),
    "dark on light": ("png", lambda digit, _: grey(255 - 255 * on_paper(digit))),
    "off-centre, a third of the size": ("png", off_centre),
    "blue on yellow": ("png", blue_on_yellow),
    "transparent PNG": ("png", transparent),
    "JPEG photograph, light falling by 120 levels": ("jpg", photograph),
    "noise of sigma 8": ("png", noisy),
}


def read_all(
    model: predict.Model, digits: np.ndarray, way: str, folder: pathlib.Path
) -> tuple[np.ndarray, int]:
    """Returns what `model` takes each of `digits` [n, 28, 28] for, drawn in a `way`, and how many stay the same."""
    rng, answers, same = np.random.default_rng(0), [], 0
    suffix, draw = WAYS[way]
    for digit in digits:
        path = folder / f"digit.{suffix}"
        draw(digit, rng).save(path)
        pixels = pictures.prepare(str(path), model.image_shape, model.box).pixels
        answers.append(int(model.probabilities(pixels).argmax()))
        same += bool((pixels[:, :, 0] == digit).all())
    return np.array(answers), same


def test_digits(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Returns COUNT test images [n, 28, 28] of MNIST, drawn by lot, and their labels."""
    with startup.quiet():
        import data

    test = data.load("mnist", config.data_dir).test
    some = np.sort(np.random.default_rng(0).choice(len(test), COUNT, replace=False))
    return np.asarray(test.images[:])[some].reshape(-1, 28, 28), test.labels[some]


def measure(config: Config) -> int:
    """Trains for an epoch, reads every picture, and returns 1 if a way of drawing costs more than MOST_LOST."""
    digits, labels = test_digits(config)
    right, lines = {}, [f"| {COUNT} test digits | read right | left as they are |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as place:
        exported, picture = f"{place}/exported", pathlib.Path(place, "photograph.jpg")
        runs.train(config, "--eval_every=0", f"--export_dir={exported}")
        model = predict.load(pathlib.Path(exported))
        for way in WAYS:
            answers, same = read_all(model, digits, way, pathlib.Path(place))
            right[way] = float((answers == labels).mean())
            lines.append(f"| {way} | {right[way]:.1%} | {same} |")
        photograph(digits[0], np.random.default_rng(0)).save(picture)
        command = ["predict.py", f"--model={exported}", str(picture)]
        taken = [runs.run(config, *command).seconds for _ in range(config.rounds)]
    lines += ["", f"One photograph, from the command to its answer: {runs.middle(taken)} s."]
    runs.publish("pictures", config, lines, "docs/predict.md")
    return int(min(right.values()) < right[ORIGINAL] - MOST_LOST)


if __name__ == "__main__":
    runs.main(Config, measure, __doc__)
