"""benchmarks.results: the figures in the pages are those of the records, and nothing else changes."""

import json
import pathlib
import re
import statistics

import pytest

import flags
from benchmarks import pages, results
from common.errors import InputError, RunError

ENVIRONMENT = {
    "date": "2026-01-02", "python": "3.12.1", "tensorflow": "2.21.0", "device_name": "A CPU", "cores": 4,
    "git_commit": "0123456789abcdef",
}  # fmt: skip


def row(seed: int, epochs: int, accuracy: float) -> dict:
    return {
        "batch_size": 10, "loss_reduction": "sum", "epochs": epochs, "lr": 0.01, "seed": seed, "us_per_step": 12.0,
        "test_accuracy": accuracy, "validation_accuracy": [[5500, accuracy + 0.01]], "seconds": {"train": 0.1},
    }  # fmt: skip


ROWS = [row(0, 10, 0.925), row(1, 10, 0.935), row(0, 1, 0.91), row(1, 1, 0.92)]


def test_accuracy_is_mean_and_deviation_over_the_seeds() -> None:
    one, ten = ([0.91, 0.92], [0.925, 0.935])
    parts = [f"{sum(values) / 2:.4f} ± {statistics.stdev(values):.4f}" for values in (one, ten)]
    expected = f"over 2 seeds: {parts[0]} after 1 epoch, {parts[1]} after 10 epochs."
    assert results.accuracy(ROWS).endswith(expected)


def test_the_table_has_a_row_for_each_combination() -> None:
    lines = results.seeds_table(ROWS).splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:5] == ["10", "sum", "1", "0.01", "2"] and cells[6].startswith("0.9150 ± 0.0071 (0.9100-0.9200)")


def test_where_and_when_is_said() -> None:
    said = results.conditions(ENVIRONMENT, 2)
    for fact in ("2026-01-02", "A CPU", "4 cores", "Python 3.12.1", "TensorFlow 2.21.0", "0123456789ab", "--seeds=2"):
        assert fact in said


def test_a_long_text_is_shown_by_its_ends() -> None:
    text = "".join(f"line {number}\n" for number in range(9))
    assert results.quoted(text, 1, 2) == "```text\nline 0\n...\nline 7\nline 8\n```"
    assert results.quoted(text).count("line") == 9


def test_a_written_block_changes_and_nothing_else(tmp_path: pathlib.Path) -> None:
    page = "before\n<!-- results -->\nold\nlines\n<!-- /results -->\n<!-- flags -->\n<!-- /flags -->\n"
    path = tmp_path / "page.md"
    path.write_text(page)
    pages.rewrite_blocks(path, {"results": r"new \1 | line"})
    once = path.read_text()
    assert once == page.replace("old\nlines", r"new \1 | line")
    assert pages.with_block(once, "results", "new\n") == pages.with_block(page, "results", "new")
    with pytest.raises(RunError, match="absent"):
        pages.rewrite_blocks(path, {"results": "newer", "absent": "new"})
    assert path.read_text() == once


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"sweep": {}}\n{}'])
def test_what_is_no_record_is_refused(content: str | None, tmp_path: pathlib.Path) -> None:
    if content is not None:
        (tmp_path / results.SEEDS).write_text(content)
    with pytest.raises(InputError, match="--records="):
        results.read_seeds(tmp_path)


def test_records_are_read_as_a_sweep_writes_them(tmp_path: pathlib.Path) -> None:
    lines = [json.dumps({"sweep": 1, "environment": ENVIRONMENT}), *map(json.dumps, ROWS)]
    (tmp_path / results.SEEDS).write_text("\n".join(lines) + "\n")
    assert results.read_seeds(tmp_path) == (ENVIRONMENT, ROWS)


def test_no_committed_file_holds_a_path_of_a_machine() -> None:
    for path in (pages.PROJECT / "benchmarks" / "records").iterdir():
        assert not re.search(r"/(tmp|home|work)/", path.read_text()), path
    for path in (pages.PROJECT / "docs").rglob("*.md"):
        assert not re.search(r"/(tmp|home|work)/", path.read_text()), path


def test_flags_table_has_every_flag_once() -> None:
    names = re.findall(r"^\| `--(?:\[no\])?(\w+)`", results.flags_table(), re.M)
    assert names == list(flags.Config.__dataclass_fields__)
