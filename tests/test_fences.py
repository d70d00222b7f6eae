"""The commands and the Python of every page: a command's flags parse, and Python prints what stands
below it."""

import contextlib
import io
import json
import pathlib
import re
import shlex

import pytest

import compare
import data
import flags
import model
import predict
from benchmarks import __main__ as benchmarks
from callbacks import export
from common import commandline
from runtime import cluster
from sweeps import options as sweep_options
from tests.conftest import PROJECT

PAGES = sorted(
    path.relative_to(PROJECT) for path in [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")]
)
# The value of TF_CONFIG, which multi_worker needs, and the command.
COMMAND = re.compile(
    r"(?:TF_CONFIG='([^']+)' +)?(python (?:\w+\.py|-m (?:benchmarks|pip|pytest)\b)[^`\n|&]*)"
)
# A block of Python, and the text right below it.
PYTHON = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.M | re.S)


def read_command(command: str) -> None:
    """Reads a command with the flags of its program, as the program does; raises where that would
    refuse."""
    program, *arguments = shlex.split(command.removeprefix("python ").removeprefix("-m "))
    argv = [program, *arguments]
    if program == "pytest":
        assert {each.partition("=")[0] for each in arguments} <= {"-m", "faults", "gpu", "--kills"}
    elif program == "benchmarks":
        assert set(arguments) <= {"--render", *benchmarks.MEASUREMENTS}
    elif program == "pip":
        assert arguments[0] == "install"
        assert all((PROJECT / file).is_file() for file in arguments[2::2])
    elif program == "train.py":
        cluster.checked(commandline.parse(flags.train_flags(), argv, None))
    elif program == "sweep.py":
        sweep_options.parse(argv, None)
    elif program == "compare.py":
        commandline.parse(compare.compare_flags(), argv, None)
    elif program == "predict.py":
        images = commandline.parse(predict.predict_flags(), argv, None, "images").images
        assert all((PROJECT / image).is_file() for image in images if "/" in image)
    else:
        pytest.fail(f"no program of this project: {program}")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_each_command_of_a_page_can_be_given(
    page: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a command's folders are made here
    text = (PROJECT / page).read_text()
    for tf_config, command in COMMAND.findall(text.replace("\\\n", " ")):
        monkeypatch.setenv("TF_CONFIG", tf_config)
        read_command(command)
    for block in re.findall(r"^```json\n(.*?)^```", text, re.M | re.S):
        json.loads(block)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in (PROJECT / page).read_text()], ids=str
)
def test_python_prints_what_stands_below_it(
    page: pathlib.Path,
    tiny_dataset: data.Dataset,
    tiny_data_dir: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tiny_data_dir))  # where a page's code finds mnist
    (tmp_path / "run").mkdir()
    # A page's commands made it.
    export.write(model.SoftmaxRegression(784, 10), tiny_dataset, tmp_path / "run" / "model")
    monkeypatch.chdir(tmp_path)
    names = dict[str, object]()
    for code, shown in PYTHON.findall((PROJECT / page).read_text()):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        found = printed.getvalue()
        # what the made data give is another accuracy than MNIST's
        if "data.load" in code:
            found, shown = (re.sub(r"[01]\.\d+(?=\n)", "#", text) for text in (found, shown))
        assert found == shown, code
