"""The parts of a comparison: statistics on known samples, rows, files, merging, the guard."""

import dataclasses
import subprocess
import sys
from unittest import mock

import numpy as np
import pyperf
import pytest

import compare
from common import stats
from common.commandline import Config
from common.errors import InputError
from comparison import charts, guard, report, work, worker
from tests import jobs

TASK = worker.Task(**jobs.SMALL | {"batch_size": 10, "steps": 5500})
SAID = {"unit": "second", "tensorflow": "2.21.0", "kept": "none", "arguments": "--devices=cpu"}
STEADY = np.array([10.0, 10.1, 9.9, 10.05, 9.95, 10.02, 10.08, 9.97, 10.04])
WILD = 10 * (STEADY / 10) ** 25  # from 8 to 13


def benchmark(contender, us, **changes):
    """A benchmark of one run a round, of so many microseconds a step."""
    name = {"contender": contender, "name": f"{contender}, {changes}"}
    metadata = dataclasses.asdict(TASK) | SAID | name | changes
    runs = [pyperf.Run([1e-6 * t], metadata=metadata, collect_metadata=False) for t in us]
    return pyperf.Benchmark(runs)


def suite(factor=1.0, graph=30.0, times=STEADY, **changes):
    """Rows of rounds in which the machine slows down by 40 %, and both contenders with it."""
    us = factor * times * np.linspace(1, 1.4, len(times))
    again = benchmark("xla", us * np.resize([0.99, 1.02], len(us)), again=1, **changes)
    others = benchmark("xla", us, **changes), benchmark("graph", graph * us, **changes)
    return report.rows_of([*others, again])


def saved(folder, *suites):
    """The paths of two files with these suites."""
    paths = [folder / "a.json", folder / "b.json"]
    for path, each in zip(paths, suites, strict=True):
        report.save(each, path)
    return paths


@pytest.mark.parametrize(
    ("n", "percent", "low", "high"),
    [
        (6, 97, 1, 6),
        (9, 96, 2, 8),  # the binomial table: 1 - 2 * 10 / 512
    ],
)
def test_interval_is_of_order_statistics_and_says_its_coverage(n, percent, low, high):
    found = stats.estimate(range(n, 0, -1))
    assert (found.low, found.high, round(100 * found.coverage)) == (low, high, percent)


def shown(found):
    """The rows of the table at batch 10, by name."""
    return {row.name: row for row in report.shown_rows(found)[10]}


def test_ratios_are_paired_within_a_round():
    rows = shown(suite())
    assert rows["graph"].ratio.high == pytest.approx(30)  # not 42
    assert (rows["xla"].ratio.median, rows["xla"].note) == (1, "baseline")


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, ""),
        ({"graph": 1.0}, "unsure"),
        ({"times": STEADY[:5]}, "unsure"),
        ({"times": WILD}, "noisy"),
        ({"other_cores": 1.3}, "busy"),
    ],
)
def test_a_row_says_what_is_not_sure(changes, note):
    assert shown(suite(**changes))["graph"].note == note


@pytest.mark.parametrize(("on_all", "lines"), [(0.9, 2), (1.0, 1)])
def test_all_cores_are_shown_only_where_they_are_surely_faster(on_all, lines):
    on_all = benchmark("xla", on_all * STEADY * ([1, 1.01, 0.99] * 3), cores=2)
    found = report.rows_of([benchmark("xla", STEADY), on_all])
    assert len(report.shown_rows(found)[10]) == lines


def test_a_file_read_back_says_the_same_and_pyperf_compares_two(tmp_path):
    paths = saved(tmp_path, suite(), suite(factor=2.0))
    assert report.markdown(report.load(paths[0])) == report.markdown(suite())
    command = [sys.executable, "-m", "pyperf", "compare_to", *paths]
    assert "2.00x slower" in subprocess.check_output(command, text=True)


OLD = '{"version": "1.0", "benchmarks": [{"runs": [{"metadata": {"name": "a"}, "values": [1]}]}]}'


@pytest.mark.parametrize("content", ["", "[1]", '{"version": "1.0", "bench', "{}", OLD])
def test_a_file_of_another_kind_is_refused_in_one_line(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json: .* must be a results file[^\n]*$"):
        report.load(tmp_path / "a.json")


def test_merge_refuses_another_job_and_names_both(tmp_path):
    with pytest.raises(InputError) as refused:
        report.merge(saved(tmp_path, suite(), suite(seed=1)))
    assert f"{dataclasses.replace(TASK, seed=1).job}, not {TASK.job}" in str(refused.value)


def test_merged_machines_are_rows_of_one_table_with_ratios_and_notes_of_their_own(tmp_path):
    paths = saved(tmp_path, suite(), suite(factor=2.0, **{"failed: torch": "no memory"}))
    merged = report.merge(paths)
    rows = shown(merged)
    assert len(rows) == 6 and rows["graph, on a"].ratio == rows["graph, on b"].ratio
    assert rows["xla, on a"].time.high < rows["xla, on b"].time.low
    failed = [line for line in report.notes(merged) if "failed" in line]
    assert failed == ["b failed: torch: `no memory`"]
    with pytest.raises(InputError, match="a is in two files"):
        report.merge([paths[0], paths[0]])


def test_tables_fit_a_terminal_of_80_columns(capsys):
    wide = suite(times=1e3 * STEADY, peak_mib=959.0)
    compare.show(wide, None)
    shown = capsys.readouterr().out
    assert (
        "30.0 [30.0, 30.0]" in shown and "959" not in shown and "| 959 |" in report.markdown(wide)
    )


@pytest.mark.parametrize("sizes", [[10], [10, 100]])
def test_the_chart_is_for_a_light_and_a_dark_page(sizes, tmp_path):
    found = [each for size in sizes for each in suite(batch_size=size)]
    charts.draw(found, tmp_path / "a")
    light, dark = (path.read_bytes() for path in charts.files(tmp_path / "a"))
    assert light != dark and light[:4] == dark[:4] == b"\x89PNG"


def slower(base, now, max_slowdown=1.05, ratios=False):
    found = guard.verdicts(base, now, max_slowdown, ratios)
    return {line.partition(",")[0] for line, slower in found.items() if slower}


def test_guard_tells_a_slowdown_from_noise_and_by_ratios_from_the_machine():
    assert not slower(suite(), suite(times=STEADY[::-1]))
    assert not slower(suite(times=WILD), suite(times=WILD[::-1]))
    assert slower(suite(), suite(factor=1.7)) == {"xla", "graph"}
    assert not slower(suite(), suite(factor=1.7), max_slowdown=2)
    assert not slower(suite(), suite(factor=2), ratios=True)
    assert slower(suite(), suite(factor=2, graph=33.0), ratios=True) == {"graph"}


def check(tensorflow="2.21.0", ratios=False, rounds=9, names=None, **there):
    base, facts = suite(**there), {"tensorflow": tensorflow, "kept": "none"}
    config = Config(against="a", ratios=ratios, rounds=rounds)
    guard.check(base, names or {row.metadata["name"] for row in base}, facts, config)


def test_guard_refuses_another_job_another_machine_and_merged_files(tmp_path):
    check()
    with pytest.raises(InputError, match=r"another job: it has graph, .*, this run xla, other"):
        check(names={"xla, other"})
    with pytest.raises(InputError, match=r"tensorflow 2.21.0 there, 2.22.0 here.*--ratios"):
        check("2.22.0")
    check("2.22.0", ratios=True)
    with pytest.raises(InputError, match="kept XLA_FLAGS there, none here"):
        check(kept="XLA_FLAGS")
    merged = report.merge(saved(tmp_path, suite(), suite()))
    config = Config(against="a", ratios=True, rounds=9)
    with pytest.raises(InputError, match=r"another job: it has graph, .*, a, this run graph"):
        guard.check(merged, {"graph"}, {}, config)
    check(rounds=3)
    with pytest.raises(InputError, match="2 rounds against its 9 are too few"):
        check(rounds=2)


@pytest.mark.parametrize(("missing", "code"), [("graph", 1), ("c", 0)])
def test_the_guard_misses_who_has_a_result_in_the_file(tmp_path, monkeypatch, missing, code):
    path, _ = saved(tmp_path, suite(), suite())
    here = [row for row in suite() if row.task.contender != missing]
    here[0].metadata[f"left out: {missing}"] = "no cc"
    monkeypatch.setattr(sys, "argv", ["compare.py"])
    monkeypatch.setattr(compare, "measured", lambda *_: [here])
    assert compare.run(Config(against=path, merge=[], output=None)) == code


def test_ctrl_c_before_the_first_round_shows_no_table(monkeypatch):
    monkeypatch.setattr(compare, "measured", mock.Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # one line and 130
        compare.run(Config(against=None, merge=[]))


def test_tf32_has_the_range_of_float32_and_10_bits_behind_the_point():
    exponents = np.arange(-120, 120)
    mantissas = np.random.default_rng(0).uniform(1, 2, len(exponents)).astype(np.float32)
    expected = np.ldexp(np.round(mantissas * 2**10) / 2**10, exponents)
    np.testing.assert_array_equal(work.as_tf32(np.ldexp(mantissas, exponents)), expected)
