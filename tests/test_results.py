"""benchmarks.results: the figures in the pages are those of the records, and nothing else changes."""

import importlib
import json
import pathlib
import re
import statistics

import pytest

import flags
from benchmarks import pages, replicas, results, runs, speed
from common import flagging
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
    lines = results.sweep_table(ROWS, ("epochs", "lr", "seeds", "test")).splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert lines[2] == "| 1 | 0.01 | 2 | 0.9150 ± 0.0071 (0.9100-0.9200) |"


def test_the_seeds_are_those_of_the_default_learning_rate() -> None:
    others = [each | {"lr": lr} for each in ROWS for lr in (0.001, 0.1)]
    assert results.at_default([*others, *ROWS]) == ROWS


def test_where_and_when_is_said() -> None:
    said = results.conditions(ENVIRONMENT, ROWS)
    for fact in (
        "2026-01-02",
        "A CPU",
        "4 cores",
        "Python 3.12.1",
        "TensorFlow 2.21.0",
        "0123456789ab",
        "--seeds=2",
    ):
        assert fact in said


def test_a_long_text_is_shown_by_its_ends() -> None:
    text = "".join(f"line {number}\n" for number in range(9))
    assert results.quoted(text, 1, 2) == "```text\nline 0\n...\nline 7\nline 8\n```"
    assert results.quoted(text).count("line") == 9


def test_a_written_block_changes_and_nothing_else(tmp_path: pathlib.Path) -> None:
    page = (
        "before\n<!-- results -->\nold\nlines\n<!-- /results -->\n<!-- flags -->\n<!-- /flags -->\n"
    )
    path = tmp_path / "page.md"
    path.write_text(page)
    pages.rewrite_blocks(path, {"results": r"new \1 | line"})
    once = path.read_text()
    assert once == page.replace("old\nlines", r"new \1 | line")
    assert pages.with_block(once, "results", "new\n") == pages.with_block(page, "results", "new")
    with pytest.raises(RunError, match="absent"):
        pages.rewrite_blocks(path, {"results": "newer", "absent": "new"})
    assert path.read_text() == once


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '{"sweep": {}}\n{}', '{"samples": 1}', '{"samples": {}}', "\udcff"]
)
@pytest.mark.parametrize("name", ["accuracy", "seeds", "rates", "replicas", "stream"])
def test_what_is_no_record_is_refused(name: str, content: str, tmp_path: pathlib.Path) -> None:
    file, _, command = results.SOURCES[name]
    (tmp_path / file).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=f"--records=.*{file} is damaged: .*{command}"):
        results.block(tmp_path, name)


@pytest.mark.parametrize("name", results.SOURCES)
def test_a_missing_record_leaves_a_sentence_with_the_command_that_makes_it(
    name: str, tmp_path: pathlib.Path
) -> None:
    found = re.fullmatch(
        r"Not measured yet: `python -m (\S+) (.*)` does it\.", results.block(tmp_path, name)
    )
    flagging.parse(importlib.import_module(found[1]).Config, ["", *found[2].split()], None)


def test_records_are_read_as_a_sweep_writes_them(tmp_path: pathlib.Path) -> None:
    lines = [json.dumps({"sweep": 1, "environment": ENVIRONMENT}), *map(json.dumps, ROWS)]
    (tmp_path / "rates.jsonl").write_text("\n".join(lines) + "\n")
    assert results.block(tmp_path, "accuracy") == results.accuracy(ROWS)
    for name in ("seeds", "rates"):
        table, _, where = results.block(tmp_path, name).partition("\n\n")
        assert len(table.splitlines()) == 4 and where == results.conditions(ENVIRONMENT, ROWS)


@pytest.mark.parametrize(
    ("name", "samples", "line"),
    [
        ("replicas", {"one device": {"batch 10": [3.0, 9.0, 4.0]}}, "| one device | 4 (3-9) |"),
        (
            "stream",
            {"stream over memory": [0.5, 0.75]},
            "| stream over memory | 0.62 (0.50-0.75) |",
        ),
    ],
)
def test_what_a_benchmark_keeps_is_what_the_page_gets(
    name: str, samples: object, line: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"<!-- {name} -->\n<!-- /{name} -->\n")
    monkeypatch.setattr(runs, "RECORDS", tmp_path)
    environment = ENVIRONMENT | {"cpu_model": "A CPU"}
    monkeypatch.setattr(runs, "train", lambda *_: runs.Run(0.0, 0.0, {"environment": environment}))
    table = {"replicas": replicas.table, "stream": speed.table}[name]
    runs.publish(name, runs.Config(rounds=2, write=True), table(samples), str(page), samples)
    assert (
        page.read_text() == f"<!-- {name} -->\n{results.block(tmp_path, name)}\n<!-- /{name} -->\n"
    )
    assert line in page.read_text() and "--rounds=2 --write`" in page.read_text()


def test_no_committed_file_holds_a_path_of_a_machine() -> None:
    for path in (pages.PROJECT / "benchmarks" / "records").iterdir():
        assert not re.search(r"/(tmp|home|work)/", path.read_text()), path
    for path in (pages.PROJECT / "docs").rglob("*.md"):
        assert not re.search(r"/(tmp|home|work)/", path.read_text()), path


def test_flags_table_has_every_flag_once() -> None:
    names = re.findall(r"^\| `--(?:\[no\])?(\w+)`", results.flags_table(), re.M)
    assert names == list(flags.train_flags())
