"""The commands and the Python of every page: a command's flags parse, and Python prints what stands
below it."""

import contextlib
import io
import json
import re
import shlex

import pytest

import compare
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
    r"(?:TF_CONFIG='([^']+)' +)?python (?:-m )?((?:\w+\.py|benchmarks|pip|pytest)\b[^`\n|&]*)"
)
# A block of Python, and the text right below it.
PYTHON = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.M | re.S)
# What reads the flags of a program; it raises where the program would refuse.
READERS = {
    "train.py": lambda argv: cluster.checked(commandline.parse(flags.train_flags(), argv, None)),
    "sweep.py": lambda argv: sweep_options.parse(argv, None),
    "compare.py": lambda argv: commandline.parse(compare.compare_flags(), argv, None),
    "predict.py": lambda argv: commandline.parse(predict.predict_flags(), argv, None, "images"),
}
# All that a page gives to a module; the file of a requirement stands behind -r.
ARGUMENTS = {
    "benchmarks": {"--render", *benchmarks.MEASUREMENTS},
    "pytest": {"-m", "faults", "gpu", "--kills"},
    "pip": {"install", "-r"},
}


def read_command(command):
    program, *arguments = shlex.split(command)
    files = {each for each in arguments if re.match(r"requirements|\w+/", each)}
    assert all((PROJECT / file).is_file() for file in files), command
    if program in READERS:
        READERS[program]([program, *arguments])
    else:
        assert {each.partition("=")[0] for each in arguments} - files <= ARGUMENTS[program], command


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_each_command_of_a_page_can_be_given(page, tmp_path, monkeypatch):
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
    page, tiny_dataset, tiny_data_dir, tmp_path, monkeypatch
):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tiny_data_dir))  # where a page's code finds mnist
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    # A page's commands made it.
    export.write(model.SoftmaxRegression(784, 10), tiny_dataset, tmp_path / "run" / "model")
    names = {}
    for code, shown in PYTHON.findall((PROJECT / page).read_text()):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        # what the made data give is another accuracy than MNIST's
        accuracy = r"[01]\.\d+(?=\n)" if "data.load" in code else r"\Z"
        assert re.sub(accuracy, "#", printed.getvalue()) == re.sub(accuracy, "#", shown), code
