"""The READMEs and the docs: what is rendered is what the records say, and links lead somewhere."""

import re

import pytest

from benchmarks import render
from tests.conftest import PROJECT

PAGES = [PROJECT / "README.md", PROJECT / "README.es.md", *sorted((PROJECT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", render.PAGES, ids=lambda page: page.name)
def test_each_block_is_what_its_record_renders_to(page):
    text = page.read_text()
    assert text == render.rendered(text), "run python -m benchmarks --render"


def test_each_record_is_on_a_page():
    names = re.findall(r"^<!-- (\w+) -->$", "".join(page.read_text() for page in PAGES), re.M)
    assert set(names) - {"core"} == render.BLOCKS.keys()


def test_the_core_is_quoted_from_the_source():
    for page in PAGES[:2]:
        (core,) = re.findall(r"<!-- core -->\n```py\n(.*?)```", page.read_text(), re.S)
        source = iter((PROJECT / "model.py").read_text().splitlines())
        assert all(line in source for line in core.splitlines()), f"{page}: not in that order"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", prose):
        there = page.parent / target if target else page
        assert there.exists(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text().lower(), re.M)
            anchors = [re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings]
            assert anchor in anchors, f"{page} links to {target}#{anchor}"
