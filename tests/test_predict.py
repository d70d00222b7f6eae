"""predict.py: the right class from plain weights and the SavedModel; one line for what is wrong."""

import json
import os
import pathlib
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import data
import model
import predict
from callbacks import export
from common.errors import InputError
from tests.conftest import python, spoilt
from tests.drawn import STANDING, save

NAMES = ["A", "é", "c d", "D"]
PIXELS = np.random.default_rng(0).integers(100, size=(20, 16, 1), dtype=np.uint8)


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


def test_command_answers_without_tensorflow_on_any_terminal(exported, tmp_path):
    """What cannot be read is named."""
    path = save(tmp_path / "a.png", Image.fromarray(PIXELS[:, :, 0]))
    for name in ("tensorflow", "tensorflow_datasets"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('it was imported')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONIOENCODING": "ascii"}
    done = python("predict.py", f"--model={exported}", "gone", path, env=environment)
    assert re.match("error: gone: must be an image, .*: No such file or directory\n", done.stderr)
    first, *rows = done.stdout.splitlines()
    expected = predict.load(exported).probabilities(PIXELS)
    assert first == f"{path}: {NAMES[expected.argmax()].replace('é', '?')}"
    shares = [float(row[6:12]) for row in rows]
    np.testing.assert_allclose(shares, expected, atol=6e-5)
    np.testing.assert_allclose([len(row[13:]) for row in rows], expected * 40, atol=1.01)
    assert done.returncode == 2


def test_json_says_what_was_done_and_that_it_is_not_sure(tmp_path, monkeypatch, capsys):
    path = save(tmp_path / "a.png", Image.fromarray(255 - STANDING))
    answer = lambda _: np.array([0.5, 0.1, 0.4])  # noqa: E731
    by_hand = predict.Model(answer, ["d", "e", "f"], (28, 28, 1), (20, 20))
    monkeypatch.setattr(predict, "load", lambda folder: by_hand)
    monkeypatch.setattr(sys, "argv", ["predict.py", "--model=m", "--json", path, "gone"])
    assert predict.main() == 2
    output, errors = capsys.readouterr()
    assert errors.splitlines()[0] == f"{path}: inverted; not sure: d or f"
    said = json.loads(output)
    answer = {"file": path, "class": 0, "name": "d", "probabilities": [0.5, 0.1, 0.4]}
    assert said["images"] == [answer | {"prepared": "inverted", "hint": "not sure: d or f"}]
    assert said["errors"][0]["file"] == "gone"


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "--model: name the folder"),
        (["--model=nowhere", "a.png"], "--model=nowhere: must be a folder"),
        (["--model=nowhere"], "no image"),
    ],
)
def test_bad_command_is_refused(monkeypatch, arguments, says):
    monkeypatch.setattr(sys, "argv", ["predict.py", *arguments])
    with pytest.raises(InputError, match=f"^{says}"):
        predict.main()


DAMAGES = {  # of weights.npz
    "gone": pathlib.Path.unlink,
    "flipped": lambda file: next(spoilt(file, [8000], [])),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_tensorflow_answers_the_same_where_plain_weights_are_no_good(
    damage, exported, tmp_path, capfd
):
    copy = shutil.copytree(exported, tmp_path / "lr=[0.1]*")
    file = copy / "weights.npz"
    DAMAGES[damage](file)
    found, expected = predict.load(copy), predict.load(exported)
    said = capfd.readouterr().err
    assert said.startswith(f"{file}: ") and said.count("\n") == 1
    assert found[1:] == expected[1:] == (NAMES, (20, 16, 1), (20, 16))
    answers = found.probabilities(PIXELS), expected.probabilities(PIXELS)
    np.testing.assert_allclose(*answers, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "name, content",
    [
        ("assets/images.json", "[]"),
        ("assets/images.json", '{"shape": [9, 9, 1], "box": [9, 9]}'),
        ("assets/class_names.txt", "one\n"),
        ("saved_model.pb", ""),
    ],
)
def test_damaged_model_is_one_line(name, content, exported, tmp_path):
    copy = shutil.copytree(exported, tmp_path / "copy")
    (copy / "weights.npz").unlink()
    (copy / name).write_text(content)
    with pytest.raises(InputError, match=r"^--model=.* must be a folder that .+$"):
        predict.load(copy)
