"""The parts of a comparison: statistics on known samples, rows, results files, merging, the
guard."""

import itertools
import subprocess
import sys

import numpy as np
import pyperf
import pytest

from common.errors import InputError
from comparison import charts, guard, report, stats, work

JOB = {
    **{"dataset": "mnist", "data_sha256": "0" * 64, "num_examples": 55_000, "num_features": 784},
    **{"num_classes": 10, "batch_size": 10, "steps": 5500, "lr": 0.01, "seed": 0},
}
COMMON = JOB | {
    **{"device": "cpu", "precision": "float32", "cpu_count": 2, "tensorflow": "2.21.0"},
    **{"arguments": "--contenders=xla,graph", "unit": "second"},
}
STEADY = (10.0, 10.1, 9.9, 10.05, 9.95, 10.02, 10.08, 9.97, 10.04)


def benchmark(contender, us, cores=1, again=0, **changes):
    """A benchmark of one run a round, of so many microseconds a step."""
    metadata = COMMON | {"contender": contender, "cores": cores, "again": again} | changes
    metadata |= {"name": f"{contender}, {cores}, {again}, {metadata['batch_size']}"}
    runs = [
        pyperf.Run([1e-6 * time], metadata=metadata | {"round": number}, collect_metadata=False)
        for number, time in enumerate(us)
    ]
    return pyperf.Benchmark(runs)


def suite(factor=1.0, graph=30.0, times=STEADY, **changes):
    """Rounds in which the machine slows down by 40 %, and both contenders with it."""
    us = factor * np.array(times) * np.linspace(1, 1.4, len(times))
    again = us * np.resize([0.99, 1.02], len(us))
    rows = {"xla": us, "graph": graph * us}
    found = [benchmark(name, each.tolist(), **changes) for name, each in rows.items()]
    return pyperf.BenchmarkSuite([*found, benchmark("xla", again.tolist(), again=1, **changes)])


@pytest.fixture
def saved(tmp_path):
    """Saves suites as a.json, b.json, ...; returns their paths."""

    def save(*suites):
        paths = [tmp_path / f"{name}.json" for name, _ in zip("ab", suites, strict=False)]
        for path, each in zip(paths, suites, strict=True):
            report.save(each, path)
        return paths

    return save


@pytest.mark.parametrize(
    ("n", "percent", "low", "high"),
    [
        (1, 0, 1, 1),
        (2, 50, 1, 2),
        (6, 97, 1, 6),
        (9, 96, 2, 8),  # the binomial table: 1 - 2 * 10 / 512
        (20, 96, 6, 15),
    ],
)
def test_interval_is_of_order_statistics_and_says_its_coverage(n, percent, low, high):
    found = stats.estimate([float(value) for value in range(1, n + 1)][::-1])
    assert (found.low, found.high, round(100 * found.coverage)) == (low, high, percent)


@pytest.mark.parametrize("n", [5, 9, 25])
def test_interval_covers_the_true_median_as_often_as_it_says(n):
    samples = np.random.default_rng(0).lognormal(size=(2000, n))  # the median of exp(N(0, 1)) is 1
    found = [stats.estimate(row) for row in samples.tolist()]
    inside = np.mean([each.low <= 1 <= each.high for each in found])
    assert inside == pytest.approx(found[0].coverage, abs=0.015)
    assert sum(map(stats.differs, found)) <= 0.05 * 2000


@pytest.mark.parametrize("samples", [(5, 1, 4, 6, 2, 3), (1, 2, 3, 4, 5, 6), (6, 5, 3, 4, 2, 1)])
def test_rank_sum_is_exact(samples):
    sums = [sum(chosen) for chosen in itertools.combinations(range(1, 7), 3)]
    expected = np.mean([total >= sum(samples[:3]) for total in sums])
    assert stats.p_slower(samples[:3], samples[3:]) == pytest.approx(expected)
    assert stats.p_slower(samples, samples) > 0.5


def test_rows_are_paired_within_a_round_and_a_tie_is_said():
    base, _, tie = sorted(report.shown_rows(suite(graph=1.0))[10], key=lambda row: row.name)[::-1]
    assert (tie.name, tie.note) == ("graph", "may be equal")
    assert (base.name, base.note) == ("xla, again", "may be equal")
    *_, slower = report.shown_rows(suite())[10]
    assert slower.ratio.low == pytest.approx(30) == pytest.approx(slower.ratio.high)  # not 42
    assert slower.note == ""


@pytest.mark.parametrize(("on_all", "shown"), [(0.9, 2), (1.0, 1), (1.1, 1)])
def test_all_cores_are_shown_only_where_they_are_surely_faster(on_all, shown):
    all_cores = (on_all * np.array(STEADY) * ([1, 1.01, 0.99] * 3)).tolist()
    found = pyperf.BenchmarkSuite([benchmark("xla", STEADY), benchmark("xla", all_cores, cores=2)])
    assert len(report.shown_rows(found)[10]) == shown


def test_a_file_read_back_says_the_same_and_pyperf_compares_two(saved):
    paths = saved(suite(), suite(factor=2.0))
    assert report.markdown(report.load(paths[0])) == report.markdown(suite())
    command = [sys.executable, "-m", "pyperf", "compare_to", *paths]
    assert "2.00x slower" in subprocess.check_output(command, text=True)


@pytest.mark.parametrize(
    "content",
    [
        *("", "[1]", '{"version": "1.0", "bench', '{"softmax_regression_comparison": {}}'),
        '{"version": "1.0", "benchmarks": [{"runs": [{"metadata": {"name": "a"}, "values": [1]}]}]}',
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json: .* must be a results file[^\n]*$"):
        report.load(tmp_path / "a.json")


@pytest.mark.parametrize(
    "changes", [{"steps": 1000}, {"data_sha256": "1" * 64}, {"lr": 0.1}, {"seed": 1}]
)
def test_merge_refuses_another_job_and_names_both(changes, saved):
    with pytest.raises(InputError) as refused:
        report.merge(saved(suite(), suite(**changes)))
    assert str(work.Job(**JOB)) in str(refused.value)
    assert str(work.Job(**JOB | changes)) in str(refused.value)


def test_merged_machines_are_rows_of_one_table_with_ratios_and_notes_of_their_own(saved, tmp_path):
    paths = saved(suite(), suite(factor=2.0, **{"failed: torch": "no memory"}))
    merged = report.merge(paths)
    rows = {row.name: row for row in report.shown_rows(merged)[10]}
    assert len(rows) == 6
    assert rows["graph, on a"].ratio == rows["graph, on b"].ratio
    assert 2 * rows["graph, on a"].time.median == pytest.approx(rows["graph, on b"].time.median)
    assert "b: failed: torch: `no memory`" in report.notes(merged)
    assert not any(line.startswith("a: failed") for line in report.notes(merged))
    with pytest.raises(InputError, match="a name of its own"):
        report.merge([paths[0], paths[0]])


def test_a_busy_machine_is_told_at_its_rows():
    busy, quiet = suite(other_cores=1.3, stolen=0.01), suite(other_cores=0.01, stolen=0.0)
    assert report.markdown(busy).count("not quiet") == 3
    assert "not quiet" not in report.markdown(quiet)


def test_tables_fit_a_terminal_of_80_columns(capsys):
    from rich.console import Console

    report.show(suite(times=[1e3 * time for time in STEADY]), Console(width=80))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "14,014 [14,000"


def test_charts_are_of_a_light_and_a_dark_page(tmp_path):
    for found in (suite(), pyperf.BenchmarkSuite([*suite(), *suite(batch_size=100)])):
        drawn = charts.draw(found, tmp_path / "a")
        light, dark = (path.read_bytes() for path in drawn)
        assert light.startswith(b"\x89PNG") and dark.startswith(b"\x89PNG") and light != dark


def slower(base, now, max_slowdown=1.05, ratios=False):
    found = guard.verdicts(base, now, max_slowdown, ratios)
    return {verdict.line.partition(",")[0] for verdict in found if verdict.slower}


def test_guard_tells_a_slowdown_from_noise_and_by_ratios_from_the_machine():
    wild = suite(times=[10.0, 14.0, 9.0, 13.0, 9.5, 12.0, 10.8, 9.2, 13.5])
    assert not slower(suite(), suite(times=STEADY[::-1])) and not slower(wild, wild)
    assert slower(suite(), suite(factor=1.7)) == {"xla", "graph"}
    assert not slower(suite(), suite(factor=1.7), max_slowdown=2)
    assert not slower(suite(), suite(factor=2), ratios=True)
    assert slower(suite(), suite(factor=2, graph=33.0), ratios=True) == {"graph"}


def test_guard_refuses_another_job_another_machine_and_too_few_rounds(saved):
    def check(base, ratios=False, tensorflow="2.21.0", **changes):
        facts = COMMON | {"tensorflow": tensorflow}
        return guard.check(base, [work.Job(**JOB | changes)], facts, "--against=a", ratios)

    assert check(suite()) == check(suite(steps=1000)) == []  # slow contenders alone
    with pytest.raises(InputError, match="another job: batch 10, 5,500 .* not batch 10, 1,000"):
        check(suite(), steps=1000)
    with pytest.raises(InputError, match=r"tensorflow 2.21.0 there, 2.22.0 here.*--ratios"):
        check(suite(), tensorflow="2.22.0")
    assert check(suite(), ratios=True, tensorflow="2.22.0")
    assert guard.arguments_of(suite(), "") == ["--contenders=xla,graph", "--rounds=9"]
    with pytest.raises(InputError, match="5 rounds are too few"):
        guard.arguments_of(suite(times=STEADY[:5]), "--against=a")
    with pytest.raises(InputError, match="merged"):
        guard.arguments_of(report.merge(saved(suite())), "--against=a")


def test_rounds_are_whole_epochs_and_long_enough():
    assert work.steps_of(10, 55_000, 0) == 5_500
    assert work.steps_of(10_000, 55_000, 0) == 50 * 6
    assert work.steps_of(10, 55_000, 100) == 100
