"""How pictures become what a model takes: drawings of every kind, and a line for what is none."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from common import pictures
from common.errors import InputError
from tests.drawn import digit_image, frame, grid, save, template, written

SIZE = (640, 820)
TEMPLATES = np.array([template(digit) for digit in range(10)])
NOISE = np.random.default_rng(0).normal(0, 1, SIZE[::-1])
FALL = np.indices(SIZE[::-1]).sum(axis=0) / sum(SIZE)  # of the light, across the paper


def prepare(path, **flags):
    return pictures.prepare(str(path), (28, 28, 1), (20, 20), **flags)


def grey(values):
    return Image.fromarray(np.asarray(values).clip(0, 255).astype(np.uint8))


def over(ink, *layers):
    """Returns white paper with layers of (coverage, colour) below the ink."""
    paper = np.full((*ink.shape, 3), 250.0)
    for cover, colour in [*layers, (ink, (30, 30, 40))]:
        paper += cover[..., None] * (np.array(colour) - paper)
    return grey(paper + NOISE[: len(ink), : ink.shape[1], None])


def in_colours(ink, colour, ground):
    return grey(ink[..., None] * colour + (1 - ink[..., None]) * ground)


def cropped(ink):
    rows, columns = np.nonzero(ink)
    return grey(250 - 230 * ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])


def hard_shadow(ink):
    lit = np.where(np.indices(ink.shape)[1] > 0.5 * ink.shape[1], 1, 0.55)
    return grey(230 * lit * (1 - 0.85 * ink) + 2 * NOISE)


BLUE, RED = (150, 175, 230), (225, 100, 110)
MARGIN = np.zeros(SIZE[::-1])
MARGIN[:, 60:63] = 1
RIM = np.maximum(np.indices(SIZE[::-1])[1] < 24, np.indices(SIZE[::-1])[0] > SIZE[1] - 31) * 1.0

KINDS = {  # name: (draw, height, pen, of ten at least)
    "plain": (lambda ink: grey(240 - 200 * ink), 420, 50, 10),
    "light on dark": (lambda ink: grey(20 + 210 * ink), 420, 50, 10),
    "small": (lambda ink: grey(240 - 200 * ink), 90, 11, 10),
    "pencil": (lambda ink: grey(220 - 60 * ink + 4 * NOISE), 420, 50, 10),
    "blue on yellow": (lambda ink: in_colours(ink, (0, 0, 255), (255, 255, 0)), 420, 50, 10),
    "of one grey": (lambda ink: in_colours(ink, (200, 60, 60), (44, 124, 60)), 420, 50, 10),
    "transparent": (lambda ink: Image.merge("LA", [grey(0 * ink), grey(255 * ink)]), 420, 50, 10),
    "photo": (lambda ink: grey((235 - 120 * FALL) * (1 - 0.85 * ink) + 3 * NOISE), 420, 50, 10),
    "chalk": (lambda ink: grey(40 + 160 * ink * (NOISE > -0.7) + 5 * NOISE), 420, 50, 10),
    "squares": (lambda ink: over(ink, (grid(SIZE, 41, 3, 0, True), BLUE)), 420, 50, 9),
    "tilted": (lambda ink: over(ink, (grid(SIZE, 47, 3, 3, True), BLUE)), 420, 50, 9),
    "ruled": (
        lambda ink: over(ink, (grid(SIZE, 67, 3, 0, False), BLUE), (MARGIN, RED)),
        420,
        50,
        9,
    ),
    "boxed": (lambda ink: over(ink, (frame(SIZE, (0.2, 0.1, 0.9, 0.9), 4), (0,))), 420, 50, 9),
    "crossed": (lambda ink: over(ink, (frame(SIZE, (0.5, 0.3, 0.9, 0.6), 4), (90,))), 420, 50, 9),
    "framed": (lambda ink: over(ink, (frame(SIZE, (0, 0, 0.998, 0.998), 7), (0,))), 420, 50, 9),
    "rim": (lambda ink: over(ink, (RIM, (20,))), 420, 50, 9),
    "cropped": (cropped, 420, 50, 9),
    "12 bits": (lambda ink: Image.fromarray((900 - 800 * ink).astype(np.uint16)), 420, 50, 10),
    "pen of 2": (lambda ink: grey(240 - 200 * ink), 420, 2, 10),
    "pen of 80": (lambda ink: grey(240 - 200 * ink), 500, 80, 9),
    "shadow": (hard_shadow, 420, 50, 7),
}


@pytest.mark.parametrize("kind", KINDS)
def test_digit_of_each_kind_becomes_what_mnist_has(kind, tmp_path):
    draw, height, pen, at_least = KINDS[kind]
    right = 0
    for digit in range(10):
        picture = draw(written(digit, SIZE, height, pen))
        suffix = "jpg" if picture.mode in ("L", "RGB") else "png"
        image = prepare(save(tmp_path / f"{digit}.{suffix}", picture)).pixels[:, :, 0]
        nearest = np.square(TEMPLATES - image).sum(axis=(1, 2)).argmin()
        right += bool(nearest == digit)
        mass = np.array([np.average(each, weights=image) for each in np.indices(image.shape)])
        assert (abs(mass - 14) <= 0.7).all()
    assert right >= at_least


MODES = {
    "grey": lambda image: image,
    "one bit": lambda image: image.convert("1"),
    "palette": lambda image: image.convert("P"),
    "RGBA": lambda image: image.convert("RGBA"),
    "light ink on nothing": lambda image: Image.merge(
        "LA", (grey(255 + 0 * NOISE[:28, :28]), image)
    ),
    "16 bits": lambda image: Image.fromarray(np.asarray(image).astype(np.uint16) * 257),
}


@pytest.mark.parametrize("mode", MODES)
def test_what_stands_as_mnist_stays_as_it_is(mode, tmp_path):
    path = save(tmp_path / "4.png", MODES[mode](Image.fromarray(digit_image(4))))
    image, done, doubt = prepare(path)
    np.testing.assert_array_equal(image[:, :, 0], digit_image(4))
    assert (image.dtype, done, doubt) == (np.uint8, [], None)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tiff", "webp"])
def test_each_format_is_read(suffix, tmp_path):
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"4.{suffix}", Image.fromarray(digit_image(4)), **options)
    np.testing.assert_array_equal(prepare(path).pixels[:, :, 0], digit_image(4))


# Tags (number, type, value) that stand beside the orientation; 2 is ASCII, as no camera should.
@pytest.mark.parametrize("tag", [None, (0x011A, 2, b"72\0\0"), (700, 2, b"abc\0")], ids=str)
def test_orientation_is_followed_whatever_stands_beside_it(tag, tmp_path):
    tags = sorted([(0x0112, 3, struct.pack("<HH", 6, 0)), *filter(None, [tag])])
    entries = b"".join(
        struct.pack("<HHI", number, kind, 4 if kind == 2 else 1) + value
        for number, kind, value in tags
    )
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    turned = Image.fromarray(digit_image(4)).transpose(Image.Transpose.ROTATE_90)
    path = save(tmp_path / "4.jpg", turned, exif=exif, quality=100)
    image = prepare(path, invert=False, center=False).pixels[:, :, 0]
    np.testing.assert_allclose(image, digit_image(4), atol=40)


def test_flags_override_what_is_found(tmp_path):
    dark = save(tmp_path / "dark.png", Image.fromarray(255 - digit_image(4)))
    for flags in ({}, {"invert": True}, {"center": False}):
        image, done, _ = prepare(dark, **flags)
        np.testing.assert_array_equal(image[:, :, 0], digit_image(4))
        assert done == ["inverted"]
    image, done, _ = prepare(dark, invert=False, center=False)
    np.testing.assert_array_equal(image[:, :, 0], 255 - digit_image(4))
    wide = save(tmp_path / "wide.png", Image.new("L", (400, 100), 255))
    image, done, _ = prepare(wide, center=False, invert=False)
    assert (image[11:17] == 255).all() and image.sum() < 255 * 28 * 9 and done == ["scaled to fit"]


@pytest.mark.parametrize(
    "values, says",
    [
        (np.full((50, 40), 200), "nothing"),
        (np.full((1, 1), 255), "nothing"),
        (np.zeros((1, 900)), "nothing"),
        (200 - 100 * FALL, "nothing"),
        (200 + 8 * NOISE, "nothing"),
        (
            255 - 255 * written(3, SIZE, 300, 30, 0.1) - 255 * written(3, SIZE, 300, 30, 0.6),
            "2 shapes",
        ),
        (255 - 255 * frame(SIZE, (0.1, 0.45, 0.9, 0.55), 40), "wider than a digit"),
    ],
    ids=["blank", "one pixel", "one row", "only light", "only noise", "two digits", "bar"],
)
def test_what_is_no_single_digit_is_said(values, says, tmp_path):
    image, _, doubt = prepare(save(tmp_path / "a.png", grey(values)))
    assert says in doubt and (image.max() == 0) == (says == "nothing")


def test_colour_model_gets_colour_and_no_doubt(tmp_path):
    path = save(tmp_path / "red.png", Image.new("RGB", (32, 32), (250, 240, 230)))
    image, done, doubt = pictures.prepare(path, (32, 32, 3), (32, 32))
    assert (image == (250, 240, 230)).all() and (done, doubt) == ([], None)


def test_jpeg_of_108_megapixels_is_read(tmp_path):
    large = Image.fromarray(255 - digit_image(4)).resize((12000, 9000), Image.Resampling.NEAREST)
    assert prepare(save(tmp_path / "large.jpg", large)).pixels.max() > 200


def huge_png():
    """Returns a PNG that says it has 100,000 x 100,000 pixels and holds none."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, b"IDAT" + zlib.compress(b""), b"IEND")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def cut(kind):
    file = io.BytesIO()
    grey(NOISE * 40 + 128).save(file, kind)
    return file.getvalue()[: len(file.getvalue()) // 2]


@pytest.mark.parametrize(
    "content, says",
    [
        (huge_png(), "is 100,000 x 100,000 pixels: must be at most 50,000,000"),
        (cut("PNG"), "is damaged: "),
        (cut("JPEG"), "is damaged: "),
        (cut("PNG")[:20], "is "),
        (b"", "is not an image"),
        (b"%PDF" + bytes(100), "is not an image"),
        (None, "Is a directory"),
    ],
    ids=["huge", "cut PNG", "cut JPEG", "cut header", "empty", "PDF", "folder"],
)
def test_what_is_no_image_is_one_line(content, says, tmp_path):
    path = tmp_path / "file.png"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        prepare(path)
    assert str(refused.value).startswith(f"{path}: {says}") and "\n" not in str(refused.value)
