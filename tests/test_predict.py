"""predict.py: the right class for every kind of file, and one line for what is none."""

import io
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import data
import predict
from common.errors import InputError
from tests.conftest import PROJECT, Command, learnable_split

W = np.zeros((784, 10), np.float32)
for digit in range(10):
    W.reshape(28, 28, 10)[2 * digit : 2 * digit + 2, :, digit] = 0.5
B = np.linspace(-0.5, 0.5, 10, dtype=np.float32)


def digit_image(digit: int) -> np.ndarray:
    image = np.zeros((28, 28), np.uint8)
    image[2 * digit : 2 * digit + 2, 2:-2] = 255
    return image


def softmax_by_hand(image: np.ndarray) -> np.ndarray:
    exponentials = np.exp(image.reshape(784).astype(np.float64) / 255 @ W.astype(np.float64) + B)
    return exponentials / exponentials.sum()


def write_model(
    folder: pathlib.Path, shape: tuple[int, ...] | None = (28, 28, 1), names: pathlib.Path | None = None
) -> str:
    """Writes a SavedModel as another program would: nothing of this project is in it. No shape: any."""
    module = tf.Module()
    if names:
        module.class_names = tf.saved_model.Asset(str(names))
    module.softmax = tf.Module()
    module.softmax.W_transposed = tf.Variable(W.T)

    @tf.function(input_signature=[tf.TensorSpec(shape and [None, *shape], tf.uint8, name="images")])
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        shares = tf.nn.softmax(tf.cast(tf.reshape(images, [-1, 784]), tf.float32) / 255 @ W + B)
        return {"probabilities": shares, "classes": tf.argmax(shares, axis=1)}

    tf.saved_model.save(module, folder, signatures={"serving_default": serve})
    return str(folder)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("export") / "model")


def run_predict(
    *arguments: object, script: pathlib.Path = PROJECT / "predict.py", **options: object
) -> subprocess.CompletedProcess:
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def save(path: pathlib.Path, image: Image.Image, **options: object) -> str:
    image.save(path, **options)
    return str(path)


def test_command_serves_good_images_and_names_bad_ones(model_dir: str, tmp_path: pathlib.Path) -> None:
    """Also: neither the training code nor tfds is there to be imported."""
    for name in ("predict.py", "flags.py", "errors.py", "devices.py", "stopping.py"):
        shutil.copy(PROJECT / name, tmp_path)
    (tmp_path / "tensorflow_datasets.py").write_text("raise SystemExit('tfds was imported')")
    good = [save(tmp_path / f"[b]{digit}.png", Image.fromarray(digit_image(digit))) for digit in (3, 7)]
    (tmp_path / "text.png").write_text("no image")
    done = run_predict(
        f"--model={model_dir}", good[0], tmp_path / "text.png", tmp_path / "gone.png", good[1],
        script=tmp_path / "predict.py",
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: {tmp_path}/text.png: is not a PNG or JPEG image",
        f"error: {tmp_path}/gone.png: No such file or directory",
    ]
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("/")] == [f"{good[0]}: 3", f"{good[1]}: 7"]
    assert len(lines) == 2 * 11
    for first, digit in ((1, 3), (12, 7)):
        shares = [float(line.split()[1]) for line in lines[first : first + 10]]
        np.testing.assert_allclose(shares, softmax_by_hand(digit_image(digit)), atol=6e-5)
        assert max(lines[first : first + 10], key=lambda line: line.count("█")).split()[0] == str(digit)


def test_json_is_whole_and_probabilities_sum_to_1(model_dir: str, tmp_path: pathlib.Path) -> None:
    path = save(tmp_path / "5.png", Image.fromarray(digit_image(5)))
    done = run_predict(path, "--json", tmp_path / "gone.png", f"--model={model_dir}")  # flags after images are flags
    assert done.returncode == 2
    said = json.loads(done.stdout)
    (found,) = said["images"]
    assert (found["file"], found["class"], found["name"], found["hint"]) == (path, 5, "5", None)
    assert sum(found["probabilities"]) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(found["probabilities"], softmax_by_hand(digit_image(5)), atol=1e-6)
    assert said["errors"][0]["file"] == str(tmp_path / "gone.png")


def test_what_train_exported_is_served(run_train: Command, tiny_dataset: data.Dataset, tmp_path: pathlib.Path) -> None:
    exported = tmp_path / "exported"
    assert run_train("--epochs=10", "--eval_every=0", f"--export_dir={exported}").returncode == 0
    images = [image.reshape(28, 28) for image in tiny_dataset.test.images[:20]]
    files = [save(tmp_path / f"{number}.png", Image.fromarray(image)) for number, image in enumerate(images)]
    done = run_predict("--json", f"--model={exported}", *files)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["images"]
    right = sum(int(one["name"]) == label for one, label in zip(found, tiny_dataset.test.labels[:20], strict=True))
    assert right >= 17
    for one in found:
        assert sum(one["probabilities"]) == pytest.approx(1, abs=1e-6)


def test_terminal_without_block_characters_is_served(model_dir: str, tmp_path: pathlib.Path) -> None:
    path = save(tmp_path / "5.png", Image.fromarray(digit_image(5)))
    done = run_predict(path, f"--model={model_dir}", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{path}: 5\n")


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "--model: name the folder"),
        (["--model=nowhere", "a.png"], "--model=nowhere: must be a folder"),
        (["--model=nowhere"], "no image"),
        (["--model=nowhere", "--inverse", "a.png"], "inverse"),
    ],
)
def test_bad_command_is_one_line(arguments: list[str], says: str) -> None:
    done = run_predict(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("damage", ["empty", "foreign"])
def test_folder_that_is_no_model_of_ours_is_refused(damage: str, tmp_path: pathlib.Path) -> None:
    if damage == "empty":
        (tmp_path / "saved_model.pb").touch()
    else:
        module = tf.Module()
        module.serve = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([None, 784], tf.float32)])
        tf.saved_model.save(module, tmp_path, signatures=module.serve)
    with pytest.raises(InputError, match=r"^--model=.*cannot be served: .+$"):
        predict.Model(tmp_path)


@pytest.mark.parametrize("shape", [(28, 28, 1), (784,), None])
def test_model_of_each_signature_answers_with_its_class_names(
    shape: tuple[int, ...] | None, tmp_path: pathlib.Path
) -> None:
    names = tmp_path / "class_names.txt"
    names.write_text("".join(f"clase ñ {number}\n" for number in range(10)), encoding="utf-8")
    written = write_model(tmp_path / "model", shape, names)
    names.unlink()
    model = predict.Model(pathlib.Path(written))
    assert model.image_shape == (28, 28, 1)
    assert model.class_names() == [f"clase ñ {number}" for number in range(10)]
    for image in learnable_split(5, seed=3).images:
        np.testing.assert_allclose(model.probabilities(image.reshape(28, 28, 1)), softmax_by_hand(image), atol=1e-6)


def test_image_shape_of_features_in_a_row() -> None:
    assert predict._image_shape([784]) == (28, 28, 1)
    assert predict._image_shape([3072]) == (32, 32, 3)
    with pytest.raises(ValueError, match="785 features"):
        predict._image_shape([785])


KINDS = {
    "grey": lambda image: image,
    "one bit": lambda image: image.convert("1"),
    "palette": lambda image: image.convert("P"),
    "RGB": lambda image: image.convert("RGB"),
    "RGBA": lambda image: image.convert("RGBA"),
    "grey and alpha": lambda image: image.convert("LA"),
    "light ink on nothing": lambda image: Image.merge("LA", (Image.new("L", image.size, 255), image)),
    "16 bits": lambda image: Image.fromarray(np.asarray(image).astype(np.uint16) * 257),
}


@pytest.mark.parametrize("kind", KINDS)
def test_png_of_any_kind_is_read_exactly(kind: str, tmp_path: pathlib.Path) -> None:
    path = save(tmp_path / "4.png", KINDS[kind](Image.fromarray(digit_image(4))))
    image, hint = predict.read_image(path, (28, 28, 1), invert=False)
    np.testing.assert_array_equal(image[:, :, 0], digit_image(4))
    assert (image.dtype, hint) == (np.uint8, None)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_read(mode: str, tmp_path: pathlib.Path) -> None:
    large = Image.fromarray(digit_image(4)).resize((280, 280), Image.Resampling.NEAREST).convert(mode)
    image, _ = predict.read_image(save(tmp_path / "4.jpg", large, quality=95), (28, 28, 1), invert=False)
    assert softmax_by_hand(image).argmax() == 4


def test_camera_orientation_is_followed(tmp_path: pathlib.Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned: to be shown rotated by 90 degrees clockwise
    turned = Image.fromarray(digit_image(4)).transpose(Image.Transpose.ROTATE_90)
    image, _ = predict.read_image(save(tmp_path / "4.png", turned, exif=exif), (28, 28, 1), invert=False)
    np.testing.assert_array_equal(image[:, :, 0], digit_image(4))


def test_other_sizes_keep_their_proportions(tmp_path: pathlib.Path) -> None:
    wide = Image.new("L", (400, 100), 255)
    image, _ = predict.read_image(save(tmp_path / "wide.png", wide), (28, 28, 1), invert=False)
    assert (image[:10] == 0).all() and (image[11:17] == 255).all() and (image[18:] == 0).all()
    small, _ = predict.read_image(save(tmp_path / "one.png", Image.new("L", (1, 1), 255)), (28, 28, 1), invert=False)
    assert (small == 255).all()


def test_dark_on_light_is_noticed_and_inverted(tmp_path: pathlib.Path) -> None:
    dark_on_light = save(tmp_path / "4.png", Image.fromarray(255 - digit_image(4)))
    _, hint = predict.read_image(dark_on_light, (28, 28, 1), invert=False)
    assert "try --invert" in hint
    image, hint = predict.read_image(dark_on_light, (28, 28, 1), invert=True)
    np.testing.assert_array_equal(image[:, :, 0], digit_image(4))
    assert hint is None
    light_on_dark = save(tmp_path / "light.png", Image.fromarray(digit_image(4)))
    assert "without --invert" in predict.read_image(light_on_dark, (28, 28, 1), invert=True)[1]


@pytest.mark.parametrize("side, left, top", [(140, 30, 200), (260, 210, 10), (60, 400, 300)])
def test_drawing_anywhere_on_paper_is_centred_as_mnist_is(
    side: int, left: int, top: int, tmp_path: pathlib.Path
) -> None:
    """A thick L, 16 x 20, whose centre of mass is not the middle of its box."""
    ink = np.zeros((20, 16), np.uint8)
    ink[:, :5] = ink[15:] = 255
    paper = Image.new("L", (500, 400), 0)
    paper.paste(Image.fromarray(ink).resize((side * 16 // 20, side), Image.Resampling.NEAREST), (left, top))
    noise = np.random.default_rng(0).normal(0, 3, (400, 500))
    photo = (200 - 0.6 * np.asarray(paper) + noise).clip(0, 255).astype(np.uint8)
    path = save(tmp_path / "photo.jpg", Image.fromarray(photo))
    image, hint = predict.read_image(path, (28, 28, 1), invert=True, center=True)
    assert hint is None
    rows, columns = np.nonzero(image[:, :, 0] > 127)
    assert abs(np.ptp(rows) + 1 - 20) <= 1 and abs(np.ptp(columns) + 1 - 16) <= 1
    mass = image[:, :, 0].astype(float)
    centre = (np.indices((28, 28)) * mass).sum(axis=(1, 2)) / mass.sum()
    np.testing.assert_allclose(centre, 13.5, atol=0.6)
    assert mass.max() > 240


def test_blank_paper_is_centred_too(tmp_path: pathlib.Path) -> None:
    path = save(tmp_path / "blank.png", Image.new("L", (50, 40), 200))
    assert predict.read_image(path, (28, 28, 1), invert=True, center=True)[0].max() == 0


def test_dark_ink_on_transparency_is_dark_on_light(tmp_path: pathlib.Path) -> None:
    ink = Image.merge("LA", (Image.new("L", (28, 28), 0), Image.fromarray(digit_image(4))))
    image, hint = predict.read_image(save(tmp_path / "4.png", ink), (28, 28, 1), invert=True)
    np.testing.assert_array_equal(image[:, :, 0], digit_image(4))
    assert hint is None


def test_colour_model_gets_colour_and_no_hint(tmp_path: pathlib.Path) -> None:
    path = save(tmp_path / "red.png", Image.new("RGB", (32, 32), (250, 240, 230)))
    image, hint = predict.read_image(path, (32, 32, 3), invert=False)
    assert image.shape == (32, 32, 3) and (image == (250, 240, 230)).all() and hint is None


def huge_png() -> bytes:
    """A PNG that says it has 100,000 x 100,000 pixels and holds none."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    body = b"IDAT" + zlib.compress(b"")
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, body, b"IEND")]
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
def test_what_is_no_image_is_one_line(content: bytes | None, says: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file.png"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        predict.read_image(str(path), (28, 28, 1), invert=False)
    assert str(refused.value).startswith(f"{path}: {says}") and "\n" not in str(refused.value)
