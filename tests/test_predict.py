"""predict.py: the right class from plain weights and from any SavedModel, and one line for what is wrong."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import data
import model
import predict
from common import commandline
from common.errors import InputError
from outputs import export
from tests import forked
from tests.conftest import PROJECT, Command, learnable_split
from tests.drawn import B, W, digit_image, save, softmax_by_hand

PREDICT = PROJECT / "predict.py"


def write_model(
    folder: pathlib.Path,
    shape: tuple[int, ...] | None = (28, 28, 1),
    names: pathlib.Path | None = None,
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


def run_predict(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(PREDICT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_command_serves_good_images_and_names_bad_ones(
    model_dir: str, tmp_path: pathlib.Path
) -> None:
    """Also: neither the training code nor tfds is there to be imported."""
    shutil.copy(PROJECT / "predict.py", tmp_path)
    for room in ("common", "runtime"):
        shutil.copytree(PROJECT / room, tmp_path / room)
    (tmp_path / "tensorflow_datasets.py").write_text("raise SystemExit('tfds was imported')")
    good = [
        save(tmp_path / f"[b]{digit}.png", Image.fromarray(digit_image(digit))) for digit in (3, 7)
    ]
    (tmp_path / "text.png").write_text("no image")
    files = good[0], tmp_path / "text.png", tmp_path / "gone.png", good[1]
    done = forked.run([tmp_path / "predict.py", f"--model={model_dir}", *files])
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: {tmp_path}/text.png: is not an image: must be PNG, JPEG, WEBP, GIF, BMP, TIFF",
        f"error: {tmp_path}/gone.png: No such file or directory",
    ]
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("/")] == [f"{good[0]}: 3", f"{good[1]}: 7"]
    assert len(lines) == 2 * 11 and all(line == line.rstrip() for line in lines)
    for first, digit in ((1, 3), (12, 7)):
        shares = [float(line.split()[1]) for line in lines[first : first + 10]]
        np.testing.assert_allclose(shares, softmax_by_hand(digit_image(digit)), atol=6e-5)
        assert max(lines[first : first + 10], key=lambda line: line.count("█")).split()[0] == str(
            digit
        )


def test_json_is_whole_and_probabilities_sum_to_1(model_dir: str, tmp_path: pathlib.Path) -> None:
    path = save(tmp_path / "5.png", Image.fromarray(digit_image(5)))
    done = forked.run(
        [PREDICT, path, "--json", tmp_path / "gone.png", f"--model={model_dir}"]
    )  # flags after images are flags
    assert done.returncode == 2
    said = json.loads(done.stdout)
    (found,) = said["images"]
    assert (found["file"], found["class"], found["name"], found["hint"]) == (path, 5, "5", None)
    assert sum(found["probabilities"]) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(found["probabilities"], softmax_by_hand(digit_image(5)), atol=1e-6)
    assert said["errors"][0]["file"] == str(tmp_path / "gone.png")


def test_what_train_exported_is_served(
    run_train: Command, tiny_dataset: data.Dataset, tmp_path: pathlib.Path
) -> None:
    exported = tmp_path / "exported"
    assert run_train("--epochs=10", "--eval_every=0", f"--export_dir={exported}").returncode == 0
    images = [image.reshape(28, 28) for image in tiny_dataset.test.images[:20]]
    files = [
        save(tmp_path / f"{number}.png", Image.fromarray(image))
        for number, image in enumerate(images)
    ]
    done = run_predict("--json", f"--model={exported}", *files)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["images"]
    right = sum(
        int(one["name"]) == label
        for one, label in zip(found, tiny_dataset.test.labels[:20], strict=True)
    )
    assert right >= 17
    for one in found:
        assert sum(one["probabilities"]) == pytest.approx(1, abs=1e-6)


def test_terminal_without_block_characters_is_served(
    model_dir: str, tmp_path: pathlib.Path
) -> None:
    path = save(tmp_path / "5.png", Image.fromarray(digit_image(5)))
    done = forked.run(
        [PREDICT, path, f"--model={model_dir}"], env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
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
        module.serve = tf.function(
            lambda x: {"y": x}, input_signature=[tf.TensorSpec([None, 784], tf.float32)]
        )
        tf.saved_model.save(module, tmp_path, signatures=module.serve)
    with pytest.raises(InputError, match=r"^--model=.*cannot be served: .+$"):
        predict.load(tmp_path)


@pytest.mark.parametrize("shape", [(28, 28, 1), (784,), None])
def test_model_of_each_signature_answers_with_its_class_names(
    shape: tuple[int, ...] | None, tmp_path: pathlib.Path
) -> None:
    names = tmp_path / "class_names.txt"
    names.write_text("".join(f"clase ñ {number}\n" for number in range(10)), encoding="utf-8")
    written = write_model(tmp_path / "model", shape, names)
    names.unlink()
    loaded = predict.load(pathlib.Path(written))
    assert (loaded.image_shape, loaded.box) == ((28, 28, 1), (20, 20))
    assert loaded.class_names == [f"clase ñ {number}" for number in range(10)]
    for image in learnable_split(5, seed=3).images:
        np.testing.assert_allclose(
            loaded.probabilities(image.reshape(28, 28, 1)), softmax_by_hand(image), atol=1e-6
        )


def test_image_shape_of_features_in_a_row() -> None:
    assert predict.image_shape([784]) == (28, 28, 1)
    assert predict.image_shape([3072]) == (32, 32, 3)
    with pytest.raises(ValueError, match="785 features"):
        predict.image_shape([785])


def test_what_was_done_and_that_it_is_not_sure_is_one_line(tmp_path: pathlib.Path) -> None:
    both = digit_image(3) | digit_image(4)
    path = save(tmp_path / "a.png", Image.fromarray(255 - both))
    answering = predict.Model(
        softmax_by_hand, [f"n{number}" for number in range(10)], (28, 28, 1), (20, 20)
    )
    with contextlib.redirect_stderr(io.StringIO()) as said:
        found = predict.answered(
            answering, commandline.Config(json=True, invert=None, center=None), path
        )
    assert said.getvalue() == f"{path}: inverted; not sure: n4 or n3\n"
    assert (found["name"], found["prepared"], found["hint"]) == (
        "n4",
        "inverted",
        "not sure: n4 or n3",
    )


@pytest.fixture(scope="session")
def exported(tiny_dataset: data.Dataset, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What an export writes, with random weights, images of 20 x 16 and names of classes."""
    rng, shape = np.random.default_rng(0), (20, 16, 1)
    images = rng.integers(256, size=(7, 320), dtype=np.uint8)
    split = data.Split(images, rng.integers(4, size=7).astype(np.int32))
    net = model.SoftmaxRegression(320, 4)
    for variable in (net.W, net.b):
        variable.assign(rng.normal(0, 0.3, variable.shape))
    folder = tmp_path_factory.mktemp("twenty") / "model"
    folder.mkdir()
    export.write(
        net, data.Dataset("letters", split, split, split, ["A", "é", "c d", "D"], shape), folder
    )
    return folder


def copy_of(folder: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return shutil.copytree(folder, tmp_path / "copy")


def test_plain_weights_and_tensorflow_give_the_same(
    exported: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    copy = copy_of(exported, tmp_path)
    (copy / "weights.npz").unlink()
    plain, served = predict.load(exported), predict.load(copy)
    for one in (plain, served):
        assert (one.image_shape, one.box, one.class_names) == (
            (20, 16, 1),
            (20, 16),
            ["A", "é", "c d", "D"],
        )
    seen, rng = set(), np.random.default_rng(1)
    for _ in range(20):
        image = (rng.integers(256, size=(20, 16, 1)) * (rng.random((20, 16, 1)) < 0.3)).astype(
            np.uint8
        )
        np.testing.assert_allclose(
            plain.probabilities(image), served.probabilities(image), rtol=0, atol=1e-6
        )
        seen.add(int(plain.probabilities(image).argmax()))
    assert len(seen) > 1


def test_export_is_answered_without_tensorflow(
    exported: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Its images are not square, and one of their size stays as it is."""
    pixels = np.random.default_rng(2).integers(100, size=(20, 16), dtype=np.uint8)
    path = save(tmp_path / "a.png", Image.fromarray(pixels))
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    done = run_predict(
        "--json", f"--model={exported}", path, env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["images"]
    expected = predict.load(exported).probabilities(pixels[..., None])
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-12)
    assert found["prepared"] == "as it is"


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "another", "foreign"])
def test_plain_weights_that_are_no_good_are_said_and_tensorflow_answers(
    damage: str, exported: pathlib.Path, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture
) -> None:
    copy = copy_of(exported, tmp_path)
    file = copy / "weights.npz"
    whole = file.read_bytes()
    middle = len(whole) // 2
    if damage == "another":
        (copy / "fingerprint.pb").write_bytes(b"of another model")
    elif damage == "foreign":
        np.savez(file, weights=np.zeros(3))
    else:
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        file.write_bytes({"cut": whole[:middle], "empty": b"", "flipped": flipped}[damage])
    image = np.full((20, 16, 1), 100, np.uint8)
    found = predict.load(copy).probabilities(image)
    said = capfd.readouterr().err
    assert said.startswith(f"{file}: ") and said.count("\n") == 1 and "TensorFlow answers" in said
    np.testing.assert_allclose(
        found, predict.load(exported).probabilities(image), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    "said", ["", "[]", "{}", '{"shape": [9, 9, 1], "box": [9, 9]}', '{"shape": 3, "box": 3}']
)
def test_damaged_description_is_one_line(
    said: str, exported: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    copy = copy_of(exported, tmp_path)
    (copy / "assets" / "images.json").write_text(said)
    with pytest.raises(InputError, match=r"^--model=.*cannot be served: .+$"):
        predict.load(copy)
