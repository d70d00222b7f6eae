"""The READMEs and the docs: what a script writes is what its records say, and links lead somewhere."""

import re

import pytest

from benchmarks import pages, results
from tests.conftest import PROJECT

PAGES = [
    *(path.name for path in pages.READMES.values()),
    *sorted(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md")),
]


def test_what_a_script_writes_from_the_records_is_in_its_page() -> None:
    for page, of_page in results.blocks(pages.RECORDS).items():
        text = (PROJECT / page).read_text()
        for name, content in of_page.items():
            assert pages.with_block(text, name, content) == text, (
                f"{page}, {name}: run python -m benchmarks.results"
            )


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = PROJECT / page
    prose = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", prose):
        there = path.parent / target if target else path
        assert there.exists(), f"{page} links to {target}"
        headings = re.findall(r"^#+ (.+)$", there.read_text().lower(), re.M) if anchor else ()
        anchors = [re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in anchors, f"{page} links to {target}#{anchor}"
