"""Every code block on every page is run or read: Python prints what stands below it, commands have flags that parse."""

import contextlib
import dataclasses
import importlib
import importlib.util
import io
import itertools
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.mathtext import MathTextParser

import data
import flags
import model
import predict
from benchmarks import pictures
from common import commandline, flagging
from common.errors import InputError
from common.pictures import prepare
from comparison import options
from outputs import export
from runtime import cluster
from sweeps import options as sweep_options
from tests.conftest import PROJECT
from tests.test_house import FLOOR_OF

PAGES = sorted(
    path.relative_to(PROJECT) for path in [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")]
)
FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.M | re.S)
COMMAND = re.compile(r"python (?:\w+\.py|-m (?:benchmarks\.\w+|pip|pytest)\b)[^`\n|&]*")


@dataclasses.dataclass(frozen=True)
class Fence:
    """A code block: its language, its text, and what it stands right below: a block's language, or `record`."""

    kind: str
    text: str
    above: str


def fences(page: str) -> list[Fence]:
    """Returns the code blocks of a page's text."""
    found, end, above = [], 0, ""
    for match in FENCE.finditer(page):
        between = page[end : match.start()].strip()
        # benchmarks.results writes it, and test_readme.py compares
        record = re.search(r"<!-- \w+ -->$", between)
        found.append(Fence(match[2], match[3], "record" if record else "" if between else above))
        end, above = match.end(), match[2]
    fences_there = re.findall("^ *(?:```|~~~)", page, re.M)
    assert 2 * len(found) == len(fences_there), "a code block that does not end, or one in tildes"
    return found


def read_command(command: str) -> None:
    """Reads a command with the flags of its program, as the program does; raises where that would refuse."""
    program, *arguments = shlex.split(command.removeprefix("python ").removeprefix("-m "))
    argv = [program, *arguments]
    if program == "pytest":
        assert not arguments
    elif program == "pip":
        assert arguments[0] == "install"
        assert all((PROJECT / file).is_file() for file in arguments[2::2]) and set(
            arguments[1::2]
        ) == {"-r"}
    elif program == "train.py":
        cluster.settled(commandline.parse(flags.train_flags(), argv, None))
    elif program == "sweep.py":
        sweep_options.parse(argv, None)
    elif program == "compare.py":
        flagging.parse(options.Config, options.joined_merge(argv), None)
    elif program == "predict.py":
        images = flagging.parse(predict.Config, argv, None).images
        assert all((PROJECT / image).is_file() for image in images if "/" in image)
    else:
        flagging.parse(importlib.import_module(program).Config, argv, None)


def read_console(text: str) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        assert line.startswith("$ "), line
        for command in line.removeprefix("$ ").split("&&"):
            words = shlex.split(command)
            settings = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
            rest = shlex.join(words[len(settings) :])
            with pytest.MonkeyPatch.context() as patch:
                for name, value in settings.items():
                    patch.setenv(name, value)
                assert COMMAND.match(rest), rest
                read_command(rest)


def read_yaml(text: str) -> None:
    if importlib.util.find_spec("yaml"):
        importlib.import_module("yaml").safe_load(text)
    assert re.search(r"^ *- +run: ", text, re.M), (
        "a step of a workflow; its commands are read with all others"
    )


def read_c(text: str) -> None:
    if compiler := shutil.which(os.environ.get("CC", "cc")):
        subprocess.run(
            [compiler, "-fsyntax-only", "-xc", "-"],
            input=text,
            text=True,
            check=True,
            capture_output=True,
        )


def read_mermaid(text: str) -> None:
    """The modules and rooms of the diagram are those of the house, and its arrows never lead to a lower floor."""
    first, *lines = text.splitlines()
    assert re.fullmatch(r"flowchart (LR|TD)", first)
    labels = dict(re.findall(r"(\w+)\[([^]]+)\]", text))
    for line in lines:
        names = [
            labels.get(word, word).split(", ")
            for word in re.sub(r"\[.*?\]", "", line).strip().split(" --> ")
        ]
        floors = [
            {FLOOR_OF.get(name, FLOOR_OF.get(name.partition(".")[0])) for name in each}
            for each in names
        ]
        assert len(floors) > 1 and all(None not in each for each in floors), line
        assert all(max(low) <= min(high) for low, high in itertools.pairwise(floors)), line


def read_math(text: str) -> None:
    MathTextParser("path").parse(f"${' '.join(text.split())}$")


READERS: dict[str, Callable[[str], object]] = {
    "console": read_console,
    "json": json.loads,
    "yaml": read_yaml,
    "c": read_c,
    "mermaid": read_mermaid,
    "math": read_math,
}


def check(fence: Fence) -> None:
    """Raises unless a reader accepts a code block; Python is run, with the text below it, by a test of its own."""
    if fence.kind == "text":
        assert fence.above in ("python", "console", "record"), (
            f"no code or command prints this: {fence.text}"
        )
    elif fence.kind == "py":
        assert fence.above == "record", "a quote that no script writes"
    elif fence.kind != "python":
        assert fence.kind in READERS, (
            f"a code block of the kind {fence.kind!r}, which no test reads"
        )
        READERS[fence.kind](fence.text)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_each_block_and_each_command_of_a_page_is_read(
    page: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a command's folders are made here
    text = (PROJECT / page).read_text()
    for fence in fences(text):
        check(fence)
    for command in COMMAND.findall(
        FENCE.sub(lambda fence: "" if fence[2] == "console" else fence[0], text)
    ):
        read_command(command)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("console", "$ python train.py --lr=0"),
        ("console", "$ python train.py --unknown"),
        ("console", "$ python train.py --replicas=2"),
        ("console", "$ python sweep.py --seed=9:0"),
        ("console", "$ python compare.py --contenders=nobody"),
        ("console", "$ python -m benchmarks.speed --only=nothing"),
        ("console", "$ python predict.py --model=exported docs/absent.png"),
        ("console", "$ python -m pip install -r requirements/absent.txt"),
        ("console", "$ python absent.py"),
        ("console", "no command"),
        ("json", "{"),
        ("yaml", "run"),
        ("mermaid", "flowchart LR\n    data --> common"),
        ("mermaid", "flowchart LR\n    data --> cellar"),
        ("math", r"\frac{1}{"),
        ("text", "printed by nobody"),
        ("", "of no kind"),
        ("fortran", "of a kind that nobody reads"),
    ],
)
def test_a_block_that_is_wrong_is_found(
    kind: str, text: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, ValueError, InputError, ModuleNotFoundError)):
        check(fences(f"Prose.\n\n```{kind}\n{text}\n```\n")[0])


@pytest.mark.skipif(not shutil.which(os.environ.get("CC", "cc")), reason="no C compiler")
def test_c_is_compiled() -> None:
    check(Fence("c", "int half(int n) { return n / 2; }", ""))
    with pytest.raises(subprocess.CalledProcessError):
        check(Fence("c", "int half(int n) { return n / 2 }", ""))


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
    blocks, names = fences((PROJECT / page).read_text()), dict[str, object]()
    for fence, below in zip(blocks, [*blocks[1:], Fence("", "", "")], strict=True):
        if fence.kind == "python":
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(fence.text, names)
            found, shown = (
                printed.getvalue(),
                below.text if (below.kind, below.above) == ("text", "python") else "",
            )
            # what the made data give is another accuracy than MNIST's
            if "data.load" in fence.text:
                found, shown = (re.sub(r"[01]\.\d+(?=\n)", "#", text) for text in (found, shown))
            assert found == shown, fence.text


def test_what_predict_says_of_a_photograph_is_what_its_page_shows(
    tmp_path: pathlib.Path,
) -> None:
    page = (PROJECT / "docs" / "predict.md").read_text()
    shown = next(fence.text for fence in fences(page) if fence.text.startswith("photograph.jpg: "))
    path = tmp_path / "photograph.jpg"
    digit = np.zeros((28, 28), np.uint8)
    digit[4:24, 12:15] = 255
    pictures.photograph(digit, np.random.default_rng(0)).save(path)
    assert shown == f"photograph.jpg: {', '.join(prepare(str(path), (28, 28, 1), (20, 20)).done)}\n"
