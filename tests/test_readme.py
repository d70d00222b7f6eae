"""The READMEs and the docs: their code runs, their numbers are what it prints, and they leave nothing out."""

import contextlib
import dataclasses
import importlib
import io
import pathlib
import re
import subprocess

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
PAGES = [*READMES, "docs/softmax.md"]


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
    assert len(blocks) >= 3
    names: dict[str, object] = {}
    for code, shown in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        assert printed.getvalue() == shown, code


def test_both_languages_run_the_same_code() -> None:
    bare = {page: re.findall(r"```python\n(.*?)```", text, re.S) for page, text in READMES.items()}
    for english, spanish in zip(*bare.values(), strict=True):
        shapes = [re.sub(r'#.*|"[^"]*"', "", code) for code in (english, spanish)]
        assert re.sub(r"\s+", " ", shapes[0]) == re.sub(r"\s+", " ", shapes[1])


def test_order_of_sections() -> None:
    headings = re.findall(r"^## (.+)$", READMES["README.md"], re.M)
    first = ["Run it", "Test it", "Results", "The lesson: what softmax does", "See what it learned", "Flags", "Files"]
    assert headings[: len(first)] == first
    assert headings[-1] == "Trouble and its cure"
    assert len(headings) == len(re.findall(r"^## ", READMES["README.es.md"], re.M))


def test_both_languages_show_the_same_commands() -> None:
    english, spanish = (re.findall(r"^\$ (.+)$", text, re.M) for text in READMES.values())
    assert english == spanish and len(english) >= 6


@pytest.mark.parametrize("language", results.TEXTS)
def test_written_blocks_are_what_the_script_writes(language: str) -> None:
    text, folder = pages.READMES[language].read_text(), PROJECT / "benchmarks" / "records"
    for name, content in results.blocks(folder, results.read_records(folder), language).items():
        assert pages.with_block(text, name, content) == text, "run python -m benchmarks.results"


def test_flags_are_those_of_the_program() -> None:
    assert results.flags_table() in section("README.md", "Flags"), "run python -m benchmarks.results"


def test_spanish_table_has_every_flag_with_its_default() -> None:
    rows = re.findall(
        r"^\| `--(?:\[no\])?(\w+)` \| (?:`(.*?)`)? *\| (.+) \|$", section("README.es.md", "Opciones"), re.M
    )
    expected = [
        (field.name, "" if field.default is None else str(field.default).lower())
        for field in dataclasses.fields(flags.Config)
    ]
    assert [(name, default) for name, default, _ in rows] == expected
    english = {field.metadata["help"] for field in dataclasses.fields(flags.Config)}
    assert not english & {text for _, _, text in rows}


def config_of(program: str) -> type:
    """Returns the class of the flags of a program, as a page writes it: a file, or -m and a module."""
    if program.startswith("-m "):
        return importlib.import_module(program.removeprefix("-m ")).Config
    classes = {"train": flags.Config, "predict": predict.Config, "compare": options.Config}
    return classes[program.removesuffix(".py")]


def test_commands_have_flags_that_exist() -> None:
    seen = set()
    for page in (*READMES, *sorted(path.relative_to(PROJECT) for path in (PROJECT / "docs").glob("*.md"))):
        text = (PROJECT / page).read_text().replace("\\\n", "")
        for program, arguments in re.findall(r"python ([\w/]+\.py|-m benchmarks\.\w+)([^`\n]*)", text):
            seen.add(program)
            names = {field.name for field in dataclasses.fields(config_of(program))}
            for name in re.findall(r"--(\w+)", arguments.split("&&")[0]):
                assert name in names or name.removeprefix("no") in names, f"{page}: {program} has no --{name}"
    assert {"train.py", "predict.py", "compare.py", "-m benchmarks.faults", "-m benchmarks.speed"} <= seen


@pytest.mark.parametrize("page, heading", [("README.md", "Files"), ("README.es.md", "Archivos")])
def test_every_file_at_the_top_has_its_phrase(page: str, heading: str) -> None:
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    lines = re.search(r"```text\n(.*?)```", section(page, heading), re.S)[1].splitlines()
    named = {name for line in lines for name in re.split(r", ", re.split(r"\s{2,}", line)[0])}
    patterns = [re.escape(name.rstrip("/")).replace(r"\*", ".*") for name in named]
    for top in sorted({path.split("/")[0] for path in listed.split()}):
        assert any(re.fullmatch(pattern, top) for pattern in patterns), f"{page} does not name {top}"
    assert all(re.search(r"\S\s{2,}\S", line) for line in lines)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = PROJECT / page
    prose = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)#:]+)\)", prose)
    assert targets
    for target in targets:
        assert (path.parent / target).exists(), f"{page} links to {target}"
