"""The READMEs and the docs: what a script writes is what its records say, both languages agree, nothing is left out."""

import re

import pytest

from benchmarks import pages, results
from tests.conftest import PROJECT

READMES = {path.name: path.read_text() for path in pages.READMES.values()}
DOCS = sorted(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md"))


def test_both_languages_run_the_same_code() -> None:
    bare = {page: re.findall(r"```python\n(.*?)```", text, re.S) for page, text in READMES.items()}
    for english, spanish in zip(*bare.values(), strict=True):
        shapes = [re.sub(r'#.*|"[^"]*"', "", code) for code in (english, spanish)]
        assert re.sub(r"\s+", " ", shapes[0]) == re.sub(r"\s+", " ", shapes[1])


def test_the_core_is_quoted_from_the_source() -> None:
    core = re.search(r"<!-- core -->\n```py\n(.*?)```", READMES["README.md"], re.S)
    lines, source = core[1].splitlines(), iter((PROJECT / "model.py").read_text().splitlines())
    assert all(line in source for line in lines), "a line that is not there, or not in this order"
    assert (
        all(f"def {name}(" in core[1] for name in results.CORE)
        and '"""' not in core[1]
        and len(lines) <= 28
    )


def test_both_readmes_have_the_same_sections() -> None:
    english, spanish = (re.findall(r"^## (.+)$", text, re.M) for text in READMES.values())
    assert len(english) == len(spanish)


def test_the_spanish_readme_holds_no_figure_of_a_table() -> None:
    assert "|" not in READMES["README.es.md"]


def test_both_languages_show_the_same_commands() -> None:
    english, spanish = (re.findall(r"^\$ (.+)$", text, re.M) for text in READMES.values())
    assert english == spanish and len(english) >= 6


def test_what_a_script_writes_from_the_records_is_in_its_page() -> None:
    for page, of_page in results.blocks(pages.RECORDS).items():
        text = (PROJECT / page).read_text()
        for name, content in of_page.items():
            assert pages.with_block(text, name, content) == text, (
                f"{page}, {name}: run python -m benchmarks.results"
            )


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_one_command_writes_every_table_of_the_results(page: str) -> None:
    text = (PROJECT / page).read_text()
    names = re.findall(r"^<!-- (\w+) -->$", text, re.M)
    assert sorted(names) == sorted(results.PAGES[page])
    for name in names:
        text = pages.with_block(text, name, "")
    assert not re.search(r"^\|", text, re.M)


def test_the_accuracy_of_the_loop_is_that_of_the_main_job() -> None:
    found = re.search(
        r"^test accuracy (\S+) of", (pages.RECORDS / "main_job.txt").read_text(), re.M
    )
    for page, text in READMES.items():
        assert re.findall(r"```text\n[^\n]* (0\.\d+)\n```", text) == [found[1]], page


def test_every_room_has_its_phrase() -> None:
    text = (PROJECT / "docs" / "architecture.md").read_text()
    for folder in PROJECT.iterdir():
        if folder.is_dir() and not folder.name.startswith((".", "_")) and any(folder.glob("*.py")):
            assert f"`{folder.name}/`" in text, folder.name


@pytest.mark.parametrize("page", [*READMES, *DOCS])
def test_links_lead_somewhere(page: str) -> None:
    path = PROJECT / page
    prose = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", prose):
        there = path.parent / target if target else path
        assert there.exists(), f"{page} links to {target}"
        headings = re.findall(r"^#+ (.+)$", there.read_text().lower(), re.M) if anchor else ()
        anchors = [re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in anchors, f"{page} links to {target}#{anchor}"
