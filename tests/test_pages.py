"""The pages: commands parse, Python prints what stands below it, links and records are right."""

import contextlib
import io
import json
import operator
import re
import shlex

import pytest

import compare
import flags
import model
import predict
from benchmarks import __main__ as benchmarks
from benchmarks import render
from callbacks import export
from common import commandline
from runtime import cluster
from sweeps import options as sweep_options
from tests.conftest import PROJECT

NAME = operator.attrgetter("name")
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
# The value of TF_CONFIG, which multi_worker needs, and the command.
COMMAND = re.compile(
    r"(?:TF_CONFIG='([^']+)' +)?python (?:-m )?((?:\w+\.py|benchmarks)\b[^`\n|&]*)"
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


def read_command(command):
    program, *arguments = shlex.split(command)
    files = {each for each in arguments if re.match(r"requirements|\w+/", each)}
    assert all((PROJECT / file).is_file() for file in files), command
    if program == "benchmarks":
        assert {*arguments} <= {"--render", *benchmarks.MEASUREMENTS}, command
    else:
        READERS[program]([program, *arguments])


@pytest.mark.parametrize("page", PAGES, ids=NAME)
def test_each_command_of_a_page_can_be_given(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a command's folders are made here
    text = page.read_text()
    for tf_config, command in COMMAND.findall(text.replace("\\\n", " ")):
        monkeypatch.setenv("TF_CONFIG", tf_config)
        read_command(command)
    for block in re.findall(r"^```json\n(.*?)^```", text, re.M | re.S):
        json.loads(block)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=NAME
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
    for code, shown in PYTHON.findall(page.read_text()):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        # what the made data give is another accuracy than MNIST's
        accuracy = r"[01]\.\d+(?=\n)" if "data.load" in code else r"\Z"
        assert re.sub(accuracy, "#", printed.getvalue()) == re.sub(accuracy, "#", shown), code


@pytest.mark.parametrize("page", render.PAGES, ids=NAME)
def test_each_block_is_what_its_record_renders_to(page):
    text = page.read_text()
    assert text == render.rendered(text), "run python -m benchmarks --render"


def test_the_core_is_quoted_from_the_source():
    for page in PROJECT.glob("README*.md"):
        (core,) = re.findall(r"<!-- model.py -->\n```py\n(.*?)```", page.read_text(), re.S)
        source = iter((PROJECT / "model.py").read_text().splitlines())
        assert all(line in source for line in core.splitlines()), f"{page}: not in that order"


@pytest.mark.parametrize("page", PAGES, ids=NAME)
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", prose):
        there = page.parent / target if target else page
        assert there.exists(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text().lower(), re.M)
            anchors = [re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings]
            assert anchor in anchors, f"{page} links to {target}#{anchor}"
