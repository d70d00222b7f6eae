"""How pictures become what a model takes: drawings of every kind, and a line for what is none."""

import numpy as np
import pytest
from PIL import Image

from common import pictures
from common.errors import InputError
from tests.drawn import STANDING, STROKES, frame, grey, grid, save, template, written

SIZE = (640, 820)
TEMPLATES = {digit: template(digit) for digit in STROKES}
NOISE = np.random.default_rng(0).normal(0, 1, SIZE[::-1])
FALL = np.indices(SIZE[::-1]).sum(axis=0) / sum(SIZE)  # of the light, across the paper
COLUMNS = np.arange(SIZE[0])


def prepare(path, **flags):
    return pictures.prepare(path, (28, 28, 1), (20, 20), **flags)


def on(cover, colour=(150, 175, 230)):
    """Returns how a digit is drawn on white paper with a layer of colour below its ink."""
    paper = 250 + cover[..., None] * np.subtract(colour, [250] * 3)
    return lambda ink: grey(paper * (1 - 0.88 * ink[..., None]))


def plain(ink):
    return grey(240 - 200 * ink)


KINDS = {  # name: how it is drawn
    "plain": plain,
    "light on dark": lambda ink: grey(20 + 210 * ink),
    "small": lambda ink: plain(ink).resize((140, 180)),
    "of one grey": lambda ink: grey((44, 124, 60) + ink[..., None] * (156, -64, 0)),
    "transparent": lambda ink: Image.merge("LA", [grey(0 * ink), grey(255 * ink)]),
    "photo": lambda ink: grey((235 - 120 * FALL) * (1 - 0.85 * ink) + 3 * NOISE),
    "chalk": lambda ink: grey(40 + 160 * ink * (NOISE > -0.7) + 5 * NOISE),
    "squares": on(grid(SIZE, 41, 0, True)),
    "tilted": on(grid(SIZE, 47, 0.05, True)),
    "ruled": on(grid(SIZE, 67, 0, False)),
    "boxed": on(frame(SIZE, (0.2, 0.1, 0.9, 0.9), 4), 0),
    "crossed": on(frame(SIZE, (0.5, 0.3, 0.9, 0.6), 4), 90),
    "framed": on(frame(SIZE, (0, 0, 0.998, 0.998), 7), 0),
    "rim": on(COLUMNS + 0 * NOISE < 24, 20),
    "cropped": lambda ink: plain(ink).crop(grey(255 * ink).getbbox()),
    "12 bits": lambda ink: Image.fromarray((900 - 800 * ink).astype(np.uint16)),
    "shadow": lambda ink: grey(230 * np.where(COLUMNS > 320, 1, 0.55) * (1 - 0.85 * ink)),
}
PENS = {"thin pen": 3, "broad pen": 80}


@pytest.mark.parametrize("kind", [*KINDS, *PENS])
def test_digit_of_each_kind_becomes_what_mnist_has(kind, tmp_path):
    right = 0
    for digit in STROKES:
        ink = written(digit, SIZE, 420, PENS.get(kind, 50))
        path = save(tmp_path / f"{digit}.png", KINDS.get(kind, plain)(ink))
        image = prepare(path).pixels[:, :, 0]
        apart = {each: np.square(image - found).sum() for each, found in TEMPLATES.items()}
        right += min(apart, key=apart.get) == digit
        mass = [np.average(each, weights=image) for each in np.indices(image.shape)]
        np.testing.assert_allclose(mass, 14, atol=0.7)
    assert right >= 4 - (kind == "shadow")


@pytest.mark.parametrize(
    "suffix, mode",
    [
        *(("png", mode) for mode in ("1", "P", "RGBA")),
        *((suffix, "L") for suffix in ("png", "tiff", "bmp", "gif", "webp")),
    ],
)
def test_what_stands_as_mnist_stays_as_it_is(suffix, mode, tmp_path):
    standing = Image.fromarray(STANDING).convert(mode)
    image, done, doubt = prepare(save(tmp_path / f"a.{suffix}", standing, lossless=True))
    np.testing.assert_array_equal(image[:, :, 0], STANDING)
    assert (image.dtype, done, doubt) == (np.uint8, [], None)


@pytest.mark.parametrize("tag", [b"\x1a\1", b"\xbc\2"], ids=["XResolution", "700"])
def test_orientation_is_followed_beside_a_tag_that_should_not_be_ascii(tag, tmp_path):
    orientation = b"\x12\1\3\0\1\0\0\0\6\0\0\0"
    entries = orientation + tag + b"\2\0\4\0\0\0" + b"72\0\0"
    exif = b"Exif\0\0II*\0\x08\0\0\0\2\0" + entries + bytes(4)
    turned = Image.fromarray(np.rot90(STANDING))
    path = save(tmp_path / "a.jpg", turned, exif=exif, quality=100)
    image = prepare(path, invert=False, center=False).pixels[:, :, 0]
    np.testing.assert_allclose(image, STANDING, atol=40)


@pytest.mark.parametrize(("invert", "inverted"), [(None, True), (True, True), (False, False)])
def test_flags_override_what_is_found(invert, inverted, tmp_path):
    path = save(tmp_path / "dark.png", Image.fromarray(255 - STANDING))
    image, done, _ = prepare(path, invert=invert, center=False)
    np.testing.assert_array_equal(image[:, :, 0] == STANDING, inverted)
    assert done == ["inverted"] * inverted


TWO = written(2, SIZE, 300, 30, 0.1) + written(2, SIZE, 300, 30, 0.6)


@pytest.mark.parametrize(
    "picture, says",
    [
        (grey(np.full((1, 1), 255)), "nothing"),
        (grey(np.zeros((1, 900))), "nothing"),
        (grey(200 - 100 * FALL), "nothing"),
        (grey(200 + 20 * NOISE), "nothing"),
        (Image.fromarray((40_000 + 4_000 * FALL + 3 * NOISE).astype(np.uint16)), "nothing"),
        (grey(255 - 255 * TWO), "2 shapes"),
        (grey(255 - 255 * frame(SIZE, (0.1, 0.45, 0.9, 0.55), 40)), "wider than a digit"),
    ],
    ids=["one pixel", "one row", "only light", "only noise", "blank", "two digits", "bar"],
)
def test_what_is_no_single_digit_is_said(picture, says, tmp_path):
    image, _, doubt = prepare(save(tmp_path / "a.png", picture))
    assert says in doubt and (image.max() == 0) == (says == "nothing")


def test_colour_model_gets_colour_and_no_doubt(tmp_path):
    path = save(tmp_path / "red.png", Image.new("RGB", (32, 32), (250, 240, 230)))
    image, done, doubt = pictures.prepare(path, (32, 32, 3), (32, 32))
    assert (image == (250, 240, 230)).all() and (done, doubt) == ([], None)


def test_jpeg_of_108_megapixels_is_read(tmp_path):
    large = Image.fromarray(255 - STANDING).resize((12000, 9000), Image.Resampling.NEAREST)
    assert prepare(save(tmp_path / "large.jpg", large)).pixels.max() > 200


@pytest.mark.parametrize(
    "size, part, says",
    [
        ((10_000, 5_001), None, "is 10,000 x 5,001 pixels: must be at most 50,000,000"),
        ((50, 50), -30, "must be an image, PNG, "),
        ((50, 50), 0, "must be an image, PNG, "),
    ],
)
def test_what_is_no_image_is_one_line(size, part, says, tmp_path):
    path = tmp_path / "file.png"
    save(path, Image.new("1", size))
    path.write_bytes(path.read_bytes()[:part])
    with pytest.raises(InputError) as refused:
        prepare(path)
    assert str(refused.value).startswith(says) and "\n" not in str(refused.value)
