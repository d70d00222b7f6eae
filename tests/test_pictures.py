"""How pictures become what a model takes: drawings and photographs of every kind, and one line for what is none."""

import io
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from common import pictures
from common.errors import InputError
from tests.drawn import digit_image, save, softmax_by_hand

KINDS = {
    "grey": lambda image: image,
    "one bit": lambda image: image.convert("1"),
    "palette": lambda image: image.convert("P"),
    "RGB": lambda image: image.convert("RGB"),
    "RGBA": lambda image: image.convert("RGBA"),
    "grey and alpha": lambda image: image.convert("LA"),
    "light ink on nothing": lambda image: Image.merge(
        "LA", (Image.new("L", image.size, 255), image)
    ),
    "16 bits": lambda image: Image.fromarray(np.asarray(image).astype(np.uint16) * 257),
}


def prepare(path: str, **flags: bool) -> pictures.Prepared:
    return pictures.prepare(path, (28, 28, 1), (20, 20), **flags)


def sides(image: np.ndarray) -> list[int]:
    """Returns the height and width of what is bright."""
    return [side.stop - side.start for side in pictures.bounds(image[:, :, 0] > 127)]


@pytest.mark.parametrize("kind", KINDS)
def test_png_of_any_kind_that_stands_as_mnist_stays_as_it_is(
    kind: str, tmp_path: pathlib.Path
) -> None:
    path = save(tmp_path / "4.png", KINDS[kind](Image.fromarray(digit_image(4))))
    image, done, doubt = prepare(path)
    np.testing.assert_array_equal(image[:, :, 0], digit_image(4))
    assert (image.shape, str(image.dtype), done, doubt) == ((28, 28, 1), "uint8", [], None)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_read(mode: str, tmp_path: pathlib.Path) -> None:
    large = (
        Image.fromarray(digit_image(5)).resize((280, 280), Image.Resampling.NEAREST).convert(mode)
    )
    image = prepare(save(tmp_path / "5.jpg", large, quality=95)).pixels
    assert sides(image) == [20, 20] and softmax_by_hand(image).argmax() == 5


def test_camera_orientation_is_followed(tmp_path: pathlib.Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned: to be shown rotated by 90 degrees clockwise
    turned = Image.fromarray(digit_image(4)).transpose(Image.Transpose.ROTATE_90)
    image = prepare(save(tmp_path / "4.png", turned, exif=exif)).pixels
    np.testing.assert_array_equal(image[:, :, 0], digit_image(4))


def test_nocenter_takes_the_whole_picture_in_its_proportions(tmp_path: pathlib.Path) -> None:
    wide = save(tmp_path / "wide.png", Image.new("L", (400, 100), 255))
    image, done, _ = prepare(wide, center=False, invert=False)
    assert (image[:10] == 0).all() and (image[11:17] == 255).all() and (image[18:] == 0).all()
    assert done == ["scaled to fit"]
    assert prepare(wide, center=False).pixels.max() == 0  # seen as light ground
    small = save(tmp_path / "one.png", Image.new("L", (1, 1), 255))
    assert (prepare(small, center=False, invert=False).pixels == 255).all()


def test_dark_on_light_is_inverted_and_the_flag_overrides_it(tmp_path: pathlib.Path) -> None:
    path = save(tmp_path / "4.png", Image.fromarray(255 - digit_image(4)))
    for flags in ({}, {"invert": True}, {"center": False}):
        image, done, doubt = prepare(path, **flags)
        np.testing.assert_array_equal(image[:, :, 0], digit_image(4))
        assert (done, doubt) == (["inverted"], None)
    image, done, _ = prepare(path, invert=False, center=False)
    np.testing.assert_array_equal(image[:, :, 0], 255 - digit_image(4))
    assert done == []


def thick_l(side: int, left: int, top: int) -> np.ndarray:
    """A thick L, 16 x 20, whose centre of mass is not the middle of its box, `side` high on a paper; ink is 1."""
    ink = np.zeros((20, 16), np.uint8)
    ink[:, :5] = ink[15:] = 255
    paper = Image.new("L", (500, 400), 0)
    paper.paste(
        Image.fromarray(ink).resize((side * 16 // 20, side), Image.Resampling.NEAREST), (left, top)
    )
    return np.asarray(paper) / 255


def grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def in_colour(ink: np.ndarray, colour: tuple[int, ...], ground: tuple[int, ...]) -> Image.Image:
    return Image.fromarray(
        (ink[..., None] * colour + (1 - ink[..., None]) * ground).astype(np.uint8)
    )


NOISE = np.random.default_rng(0).normal(0, 1, (400, 500))
FALL = np.indices((400, 500)).sum(axis=0) / 900  # of the light, from a corner to the one across
DRAWINGS = {
    "dark on light": (lambda ink: grey(255 - 255 * ink), ["inverted"]),
    "light on dark": (lambda ink: grey(255 * ink), []),
    "photo": (lambda ink: grey(200 - 150 * ink + 3 * NOISE), ["inverted"]),
    "uneven light": (
        lambda ink: grey((235 - 120 * FALL) * (1 - 0.85 * ink)),
        ["inverted", "evened out"],
    ),
    "noise": (lambda ink: grey(255 - 255 * ink + 8 * NOISE), ["inverted"]),
    "pencil": (lambda ink: grey(220 - 50 * ink + 4 * NOISE), ["inverted"]),
    "blue on yellow": (lambda ink: in_colour(ink, (0, 0, 255), (255, 255, 0)), ["inverted"]),
    "colours of one grey": (lambda ink: in_colour(ink, (200, 60, 60), (44, 124, 60)), None),
    "transparent": (
        lambda ink: Image.merge("LA", (Image.new("L", (500, 400)), grey(255 * ink))),
        ["inverted"],
    ),
    "specks": (lambda ink: grey(255 - 255 * (ink + (NOISE > 4))), ["inverted"]),
}


@pytest.mark.parametrize("side, left, top", [(140, 30, 200), (260, 210, 10), (60, 400, 300)])
@pytest.mark.parametrize("drawing", DRAWINGS)
def test_drawing_anywhere_on_paper_is_centred_as_mnist_is(
    drawing: str, side: int, left: int, top: int, tmp_path: pathlib.Path
) -> None:
    draw, expected = DRAWINGS[drawing]
    picture = draw(thick_l(side, left, top))
    image, done, doubt = prepare(
        save(tmp_path / ("a.png" if picture.mode == "LA" else "a.jpg"), picture)
    )
    assert doubt is None and done[-1] == "cropped to its ink, centred"
    assert expected is None or done[:-1] == expected
    rows, columns = np.nonzero(image[:, :, 0] > 127)
    assert abs(np.ptp(rows) + 1 - 20) <= 1 and abs(np.ptp(columns) + 1 - 16) <= 1
    mass = image[:, :, 0].astype(float)
    centre = (np.indices((28, 28)) * mass).sum(axis=(1, 2)) / mass.sum()
    np.testing.assert_allclose(centre, 14, atol=0.6)
    assert mass.max() > 240 and np.median(mass) == 0


def test_small_digit_in_a_picture_of_the_right_size_is_enlarged(tmp_path: pathlib.Path) -> None:
    small = np.zeros((28, 28), np.uint8)
    small[2:12, 15:25] = digit_image(5)[4:24:2, 4:24:2]
    path = save(tmp_path / "5.png", Image.fromarray(small))
    assert sides(prepare(path).pixels) == [20, 20]
    np.testing.assert_array_equal(prepare(path, center=False).pixels[:, :, 0], small)


@pytest.mark.parametrize(
    "values, says",
    [
        (np.full((50, 40), 200), "nothing"),
        (np.full((28, 28), 0), "nothing"),
        (np.full((1, 1), 255), "nothing"),
        (200 - 100 * FALL, "nothing"),
        (200 + 8 * NOISE, "nothing"),
        (255 - 255 * (thick_l(150, 50, 100) + thick_l(150, 300, 100)), "2 shapes"),
        (255 - 255 * (FALL[:, :1] * 900 // 20 == 10) * np.ones(500), "wider than a digit"),
    ],
    ids=["blank", "black", "one pixel", "only light", "only noise", "two digits", "line"],
)
def test_what_is_no_single_digit_is_said(
    values: np.ndarray, says: str, tmp_path: pathlib.Path
) -> None:
    image, _, doubt = prepare(save(tmp_path / "a.png", grey(values)))
    assert says in doubt and (image.max() == 0) == (says == "nothing")


def test_digit_of_two_strokes_is_one_shape(tmp_path: pathlib.Path) -> None:
    ink = thick_l(200, 100, 100)
    ink[200:212] = 0  # below the stem's beginning: the larger part is the lower one
    image, _, doubt = prepare(save(tmp_path / "a.png", grey(255 - 255 * ink)))
    assert doubt is None and sides(image) == [20, 16]


def test_colour_model_gets_colour_and_no_doubt(tmp_path: pathlib.Path) -> None:
    path = save(tmp_path / "red.png", Image.new("RGB", (32, 32), (250, 240, 230)))
    image, done, doubt = pictures.prepare(path, (32, 32, 3), (32, 32))
    assert (
        image.shape == (32, 32, 3)
        and (image == (250, 240, 230)).all()
        and (done, doubt) == ([], None)
    )


def huge_png() -> bytes:
    """A PNG that says it has 100,000 x 100,000 pixels and holds none."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    body = b"IDAT" + zlib.compress(b"")
    chunks = [
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c))
        for c in (header, body, b"IEND")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def cut(kind: str) -> bytes:
    noise = Image.fromarray(np.random.default_rng(0).integers(256, size=(200, 200), dtype=np.uint8))
    file = io.BytesIO()
    noise.save(file, kind)
    return file.getvalue()[: len(file.getvalue()) // 2]


@pytest.mark.parametrize(
    "content, says",
    [
        (huge_png(), "is 100,000 x 100,000 pixels: must be at most 50,000,000"),
        (cut("PNG"), "is damaged: "),
        (cut("JPEG"), "is damaged: "),
        (cut("PNG")[:20], "is "),
        (b"", "is not a PNG or JPEG image"),
        (b"GIF89a" + bytes(100), "is not a PNG or JPEG image"),
        (None, "Is a directory"),
    ],
    ids=["huge", "cut PNG", "cut JPEG", "cut header", "empty", "GIF", "folder"],
)
def test_what_is_no_image_is_one_line(
    content: bytes | None, says: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "file.png"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        prepare(str(path))
    assert str(refused.value).startswith(f"{path}: {says}") and "\n" not in str(refused.value)
