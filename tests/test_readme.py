"""The READMEs and the docs: their code runs, their numbers are what it prints, and they leave nothing out."""

import contextlib
import dataclasses
import importlib
import io
import pathlib
import re
import textwrap

import pytest

import data
import flags
import model
import predict
from benchmarks import pages, results
from comparison import options
from outputs import export
from tests.conftest import PROJECT

READMES = {path.name: path.read_text() for path in pages.READMES.values()}
DOCS = sorted(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md"))
PAGES = [*READMES, "docs/softmax.md", "docs/training.md"]


def section(page: str, heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", READMES[page], re.M | re.S)
    assert found, f"{page} has no section {heading}"
    return found[1]


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_print_what_stands_below_them(
    page: str,
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
    blocks = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", (PROJECT / page).read_text(), re.S)
    assert blocks
    names: dict[str, object] = {}
    for code, shown in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        # What the made data give is another accuracy than MNIST's.
        found, expected = (re.sub(r"[01]\.\d+(?=\n)", "#", text) for text in (printed.getvalue(), shown))
        assert found == expected if "data.load" in code else printed.getvalue() == shown, code


def test_both_languages_run_the_same_code() -> None:
    bare = {page: re.findall(r"```python\n(.*?)```", text, re.S) for page, text in READMES.items()}
    for english, spanish in zip(*bare.values(), strict=True):
        shapes = [re.sub(r'#.*|"[^"]*"', "", code) for code in (english, spanish)]
        assert re.sub(r"\s+", " ", shapes[0]) == re.sub(r"\s+", " ", shapes[1])


def test_the_core_is_quoted_from_the_source() -> None:
    core = re.search(r"<!-- core -->\n```py\n(.*?)```", READMES["README.md"], re.S)
    assert core
    source, pieces = (PROJECT / "model.py").read_text(), re.split(r"\n\n+", core[1].strip("\n"))
    assert len(pieces) >= 3 and len(core[1].splitlines()) <= 24
    for piece in pieces:
        assert any(textwrap.indent(piece, " " * deep) in source for deep in (0, 4)), piece


def test_the_readme_is_a_page_and_both_say_the_same() -> None:
    english, spanish = (re.findall(r"^## (.+)$", text, re.M) for text in READMES.values())
    assert len(english) == len(spanish)
    assert len(READMES["README.md"].splitlines()) <= 180


def test_the_spanish_readme_holds_no_figure_of_a_table() -> None:
    assert "|" not in READMES["README.es.md"]


def test_both_languages_show_the_same_commands() -> None:
    english, spanish = (re.findall(r"^\$ (.+)$", text, re.M) for text in READMES.values())
    assert english == spanish and len(english) >= 6


def test_what_a_script_writes_from_the_records_is_in_its_page() -> None:
    folder = PROJECT / "benchmarks" / "records"
    _, rows = results.read_seeds(folder)
    expected = {
        "README.md": {
            "output": results.quoted((folder / "main_job.txt").read_text(), results.FIRST, results.LAST),
            "accuracy": results.accuracy(rows),
        },
        "docs/predict.md": {"predict": results.quoted((folder / "predict.txt").read_text())},
        "docs/training.md": {"flags": results.flags_table()},
    }
    for page, blocks in expected.items():
        text = (PROJECT / page).read_text()
        for name, content in blocks.items():
            assert pages.with_block(text, name, content) == text, "run python -m benchmarks.results"
    assert results.seeds_table(rows) in (PROJECT / "docs" / "results.md").read_text()


def config_of(program: str) -> type:
    """Returns the class of the flags of a program, as a page writes it: a file, or -m and a module."""
    if program.startswith("-m "):
        return importlib.import_module(program.removeprefix("-m ")).Config
    classes = {"train": flags.Config, "predict": predict.Config, "compare": options.Config}
    return classes[program.removesuffix(".py")]


def test_commands_have_flags_that_exist() -> None:
    seen = set()
    for page in (*READMES, *DOCS):
        text = (PROJECT / page).read_text().replace("\\\n", "")
        for program, arguments in re.findall(
            r"python (train\.py|predict\.py|compare\.py|-m benchmarks\.\w+)([^`\n]*)", text
        ):
            seen.add(program)
            names = {field.name for field in dataclasses.fields(config_of(program))}
            own = re.sub(r"\"[^\"]*\"|'[^']*'", "", arguments)  # not those of a program that takes part
            for name in re.findall(r"--(\w+)", own.split("&&")[0]):
                assert name in names or name.removeprefix("no") in names, f"{page}: {program} has no --{name}"
    assert {"train.py", "predict.py", "compare.py", "-m benchmarks.faults", "-m benchmarks.speed"} <= seen


def test_every_room_has_its_phrase() -> None:
    text = (PROJECT / "docs" / "architecture.md").read_text()
    for folder in PROJECT.iterdir():
        if folder.is_dir() and not folder.name.startswith((".", "_")) and any(folder.glob("*.py")):
            assert f"`{folder.name}/`" in text, folder.name


@pytest.mark.parametrize("page", [*READMES, *DOCS])
def test_links_lead_somewhere(page: str) -> None:
    path = PROJECT / page
    prose = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)#:]+)\)", prose)
    for target in targets:
        assert (path.parent / target).exists(), f"{page} links to {target}"
