"""benchmarks.results: the figures in the READMEs are those of the records, and nothing else changes."""

import json
import pathlib
import re
import statistics

import pytest

import flags
from benchmarks import pages, results
from common.errors import InputError, RunError
from runtime import cluster


def record_of(seed: int, accuracy: float, us_per_step: float, **changes: object) -> dict:
    config = {**vars(cluster.settled(flags.Config())), "seed": seed, "record": f"/somewhere/{seed}.json", **changes}
    environment = {
        "date": "2026-01-02", "python": "3.12.1", "tensorflow": "2.21.0", "tensorflow_datasets": "4.9.10",
        "device_name": "A CPU", "cores": 4, "os": "Linux", "git_commit": "0123456789abcdef",
    }  # fmt: skip
    return {
        "config": config, "environment": environment, "steps": 5500 * config["epochs"], "test_accuracy": accuracy,
        "us_per_step": us_per_step, "examples_per_second": 1e7 / us_per_step, "seconds": {"train": us_per_step / 100},
    }  # fmt: skip


RECORDS = [
    record_of(0, 0.91, 12.0),
    record_of(1, 0.92, 10.0),
    record_of(2, 0.915, 17.0),
    record_of(0, 0.925, 20.0, epochs=10, eval_every=0),
]


@pytest.mark.parametrize("language", results.TEXTS)
def test_table_has_mean_deviation_and_median_of_each_job(language: str) -> None:
    lines = results.results_table(RECORDS, language).splitlines()
    several, single = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:4])
    accuracies = [0.91, 0.92, 0.915]
    mean, deviation = sum(accuracies) / 3, statistics.stdev(accuracies)
    assert several[1:] == ["5,500", f"{mean:.4f} ± {deviation:.4f}", "0.12", "12.0 (10.0 to 17.0)", "833,333"]
    assert single[:3] == ["`--epochs=10 --eval_every=0`", "55,000", "0.9250"]
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    note = "\n".join(lines[4:])
    for fact in ("3", "2026-01-02", "A CPU", "Python 3.12.1", "TensorFlow 2.21.0", "0123456789ab", "--run --seeds=3"):
        assert fact in note


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


def write(folder: pathlib.Path, *records: dict) -> None:
    for number, record in enumerate(records):
        (folder / f"{number}.json").write_text(json.dumps(record))


def test_records_of_unlike_machines_are_refused(tmp_path: pathlib.Path) -> None:
    write(tmp_path, RECORDS[0], RECORDS[1])
    assert len(results.read_records(tmp_path)) == 2
    other = json.loads(json.dumps(RECORDS[1]))
    other["environment"] |= {"date": "2026-01-03", "cores": 8}
    write(tmp_path, RECORDS[0], other)
    with pytest.raises(InputError, match=r"differ in cores; make"):
        results.read_records(tmp_path)


def test_no_committed_file_holds_a_path_of_a_machine() -> None:
    for path in (pages.PROJECT / "benchmarks" / "records").iterdir():
        assert not re.search(r"/(tmp|home|work)/", path.read_text()), path
    for path in (pages.PROJECT / "docs").rglob("*.md"):
        assert not re.search(r"/(tmp|home|work)/", path.read_text()), path


@pytest.mark.parametrize("content", [None, "", "{}", "[1]"], ids=["none", "empty", "no record", "list"])
def test_what_is_no_record_is_refused(content: str | None, tmp_path: pathlib.Path) -> None:
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match="--records="):
        results.read_records(tmp_path)


def test_flags_table_has_every_flag_once() -> None:
    names = re.findall(r"^\| `--(?:\[no\])?(\w+)`", results.flags_table(), re.M)
    assert names == list(flags.Config.__dataclass_fields__)
