"""predict.py: the right class from plain weights and from any SavedModel, and one line for what is
wrong."""

import contextlib
import io
import json
import os
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
from callbacks import export
from common.commandline import Config
from common.errors import InputError
from tests import forked
from tests.conftest import PROJECT
from tests.drawn import B, W, digit_image, save, softmax_by_hand

NAMES = ["A", "é", "c d", "D"]


def write_model(folder, shape=(28, 28, 1)):
    """Writes a SavedModel as another program would, without this project; a shape of None is
    any."""
    module = tf.Module()
    module.W_transposed = tf.Variable(W.T)

    @tf.function(input_signature=[tf.TensorSpec(shape and [None, *shape], tf.uint8)])
    def serve(images):
        x = tf.cast(tf.reshape(images, [-1, 784]), tf.float32) / 255
        logits = tf.matmul(x, module.W_transposed, transpose_b=True) + B
        return {"probabilities": tf.nn.softmax(logits)}

    tf.saved_model.save(module, folder, signatures=serve)
    return folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """What an export writes, with random weights, images of 20 x 16 and names of classes."""
    rng = np.random.default_rng(0)
    split = data.Split(rng.integers(256, size=(7, 320), dtype=np.uint8), np.arange(7) % 4)
    net = model.SoftmaxRegression(320, 4)
    net.W.assign(rng.normal(0, 0.3, net.W.shape))
    folder = tmp_path_factory.mktemp("export")
    export.write(net, data.Dataset("letters", split, split, split, NAMES, (20, 16, 1)), folder)
    return folder


def test_command_serves_good_images_and_names_bad_ones(tmp_path):
    """A terminal without block characters is served too."""
    folder = write_model(tmp_path / "lr=[0.1]*")
    files = [save(tmp_path / f"{n}.png", Image.fromarray(digit_image(n))) for n in (3, 7)]
    gone = tmp_path / "gone.png"
    command = [PROJECT / "predict.py", files[0], gone, files[1], f"--model={folder}"]
    done = forked.run(command, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert done.stderr == f"error: {gone}: cannot be read: No such file or directory\n"
    lines = done.stdout.splitlines()
    assert (lines[0], lines[11], len(lines)) == (f"{files[0]}: 3", f"{files[1]}: 7", 22)
    for first, digit in ((1, 3), (12, 7)):
        rows = [line.split() for line in lines[first : first + 10]]
        shares = [float(row[1]) for row in rows]
        np.testing.assert_allclose(shares, softmax_by_hand(digit_image(digit)), atol=6e-5)
        bars = [len("".join(row[2:])) for row in rows]
        np.testing.assert_allclose(bars, np.array(shares) * 40, atol=1.01)


def test_export_is_answered_without_tensorflow_or_tfds(exported, tmp_path):
    """Its images are not square, and one of their size stays as it is."""
    pixels = np.random.default_rng(2).integers(100, size=(20, 16), dtype=np.uint8)
    path = save(tmp_path / "a.png", Image.fromarray(pixels))
    for name in ("tensorflow", "tensorflow_datasets"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('it was imported')")
    command = [
        sys.executable,
        PROJECT / "predict.py",
        "--json",
        f"--model={exported}",
        path,
        "gone",
    ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    said = json.loads(done.stdout)
    (found,) = said["images"]
    expected = predict.load(exported).probabilities(pixels[..., None])
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-12)
    assert (found["prepared"], found["name"]) == ("as it is", NAMES[expected.argmax()])
    assert (said["errors"][0]["file"], done.returncode) == ("gone", 2)


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "--model: name the folder"),
        (["--model=nowhere", "a.png"], "--model=nowhere: must be a folder"),
        (["--model=nowhere"], "no image"),
        (["--model=nowhere", "--inverse", "a.png"], "inverse"),
    ],
)
def test_bad_command_is_one_line(arguments, says):
    done = forked.run([PROJECT / "predict.py", *arguments])
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("shape", [(28, 28, 1), (784,), None])
def test_model_of_each_signature_answers(shape, tmp_path):
    loaded = predict.load(write_model(tmp_path, shape))
    assert (loaded.image_shape, loaded.box) == ((28, 28, 1), (20, 20))
    image = digit_image(6)[..., None]
    np.testing.assert_allclose(loaded.probabilities(image), softmax_by_hand(image), atol=1e-6)


@pytest.mark.parametrize("features, shape", [(784, (28, 28, 1)), (3072, (32, 32, 3))])
def test_features_in_a_row_are_a_square(features, shape):
    assert predict.image_shape([features]) == shape


def test_what_was_done_and_that_it_is_not_sure_is_one_line(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(255 - (digit_image(3) | digit_image(4))))
    by_hand = predict.Model(softmax_by_hand, list("abcdefghij"), (28, 28, 1), (20, 20))
    with contextlib.redirect_stderr(io.StringIO()) as said:
        predict.answered(by_hand, Config(json=True, invert=None, center=None), path)
    assert said.getvalue() == f"{path}: inverted; not sure: e or d\n"


DAMAGES = {  # of weights.npz
    "gone": lambda content: None,
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "flipped": lambda content: content[:999] + bytes([content[999] ^ 1]) + content[1000:],
    "another's": lambda content: content,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_tensorflow_answers_the_same_where_plain_weights_are_no_good(
    damage, exported, tmp_path, capfd
):
    copy = shutil.copytree(exported, tmp_path / "copy")
    file = copy / "weights.npz"
    content = DAMAGES[damage](file.read_bytes())
    file.unlink() if content is None else file.write_bytes(content)
    if damage == "another's":
        (copy / "fingerprint.pb").write_bytes(b"of another model")
    found, expected = predict.load(copy), predict.load(exported)
    said = capfd.readouterr().err
    assert said.startswith(f"{file}: ") == (damage != "gone") == said.count("\n")
    assert found[1:] == expected[1:] == (NAMES, (20, 16, 1), (20, 16))
    image = np.random.default_rng(1).integers(256, size=(20, 16, 1), dtype=np.uint8)
    probabilities = found.probabilities(image)
    np.testing.assert_allclose(probabilities, expected.probabilities(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "name, content",
    [
        ("assets/images.json", ""),
        ("assets/images.json", "[]"),
        ("assets/images.json", '{"shape": [9, 9, 1], "box": [9, 9]}'),
        ("assets/images.json", '{"shape": 3, "box": 3}'),
        ("assets/class_names.txt", "one\n"),
    ],
)
def test_damaged_description_is_one_line(name, content, exported, tmp_path):
    copy = shutil.copytree(exported, tmp_path / "copy")
    (copy / name).write_text(content)
    with pytest.raises(InputError, match=r"^--model=.*cannot answer .+$"):
        predict.load(copy)


def test_what_is_no_model_of_images_is_one_line(tmp_path):
    module = tf.Module()
    module.serve = tf.function(lambda x: {"y": x}, [tf.TensorSpec([None, 784], tf.float32)])
    tf.saved_model.save(module, tmp_path / "foreign", signatures=module.serve)
    (tmp_path / "saved_model.pb").touch()
    for folder in (tmp_path, tmp_path / "foreign"):
        with pytest.raises(InputError, match=r"^--model=.*cannot answer .+$"):
            predict.load(folder)
