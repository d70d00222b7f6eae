"""The parts of a comparison: statistics on known samples, rows, results files, merging, the
guard."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pyperf
import pytest

from common.errors import InputError
from comparison import charts, guard, report, stats, system, work

JOB = {
    **{"dataset": "mnist", "data_sha256": "0" * 64, "num_examples": 55_000, "num_features": 784},
    **{"num_classes": 10, "batch_size": 10, "steps": 5500, "lr": 0.01, "seed": 0},
}
COMMON = {
    **{"device": "cpu", "precision": "float32", "device_name": "A CPU", "cpu_count": 2},
    **{"python_version": "3.11.7", "tensorflow": "2.21.0", "date": "2026-11-23 10:00:00"},
    **{"arguments": "--contenders=xla,graph", "relative_error": 1e-6, "unit": "second"},
}
STEADY = (10.0, 10.1, 9.9, 10.05, 9.95, 10.02, 10.08, 9.97, 10.04)


def benchmark(contender, us, cores=1, again=0, **changes):
    """A benchmark of one run a round, of so many microseconds a step."""
    name = f"{contender}{' again' * again} on cpu, {cores} cores, {changes}"
    metadata = COMMON | JOB | {"contender": contender, "cores": cores, "again": again}
    runs = [
        pyperf.Run(
            [1e-6 * time],
            metadata=metadata | {"name": name, "round": number} | changes,
            collect_metadata=False,
        )
        for number, time in enumerate(us, 1)
    ]
    return pyperf.Benchmark(runs)


def suite(factor=1.0, graph=30.0, times=STEADY, **changes):
    """Rounds in which the machine slows down by 40 %, and both contenders with it."""
    us = [factor * time * slow for time, slow in zip(times, np.linspace(1, 1.4, 9), strict=True)]
    again = [time * (1.02 if number % 2 else 0.99) for number, time in enumerate(us)]
    others = benchmark("graph", [graph * time for time in us], **changes)
    twin = benchmark("xla", again, again=1, **changes)
    return pyperf.BenchmarkSuite([benchmark("xla", us, **changes), twin, others])


@pytest.mark.parametrize(
    ("n", "kind", "low", "high"),
    [
        (2, "min-max, 50 %", 1, 2),
        (6, "min-max, 97 %", 1, 6),
        (7, "min-max, 98 %", 1, 7),
        (9, "2 from either end, 96 %", 2, 8),  # the binomial table: 1 - 2 * 10 / 512
        (20, "6 from either end, 96 %", 6, 15),
    ],
)
def test_interval_is_of_order_statistics_and_says_its_coverage(n, kind, low, high):
    found = stats.estimate([float(value) for value in range(1, n + 1)][::-1])
    assert (found.low, found.high, found.kind) == (low, high, kind)


@pytest.mark.parametrize("n", [5, 9, 25])
def test_interval_covers_the_true_median_as_often_as_it_says(n):
    rng, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        found = stats.estimate(rng.lognormal(size=n).tolist())
        inside += found.low <= 1.0 <= found.high  # the median of exp(N(0, 1))
    assert inside / 2000 == pytest.approx(found.coverage, abs=0.015)


def test_equal_contenders_are_called_different_once_in_twenty_at_most():
    rng, called = np.random.default_rng(1), 0
    for _ in range(1000):
        base, other = np.exp(rng.normal(scale=0.05, size=(2, 9)))
        called += stats.differs(stats.paired_ratio(other, base))
    assert called <= 50
    assert stats.differs(stats.paired_ratio(other * 1.5, base))


@pytest.mark.parametrize("samples", [(5, 1, 4, 6, 2, 3), (1, 2, 3, 4, 5, 6), (2, 2, 1, 2, 3, 1)])
def test_rank_sum_is_exact_with_ties_too(samples):
    now, before = samples[:3], samples[3:]
    ranks = [sum(a > b for b in samples) + sum(a == b for b in samples) / 2 for a in samples]
    sums = [sum(chosen) for chosen in itertools.combinations(ranks, 3)]
    expected = np.mean([total >= sum(ranks[:3]) for total in sums])
    assert stats.p_slower(now, before) == pytest.approx(expected)


def test_rows_are_paired_within_a_round_and_a_tie_is_said():
    found = suite(graph=1.0)
    rows = report.shown_rows(found, 10)
    assert {row.task.contender for row in rows} == {"xla", "graph"}
    base = report.baseline(found, 10)
    assert (base.task.contender, base.task.again) == ("xla", False)
    graph = next(row for row in rows if row.task.contender == "graph")
    assert graph.ratio_to(base).median == pytest.approx(1)
    assert report.note(graph, base) == "no sure difference"
    slower = report.shown_rows(suite(), 10)[-1]
    assert slower.ratio_to(report.baseline(suite(), 10)).high == pytest.approx(30)  # not 42
    assert report.note(base, base) == "baseline"


@pytest.mark.parametrize(("on_all", "shown"), [(0.9, 2), (1.0, 1), (1.1, 1)])
def test_all_cores_are_shown_only_where_they_are_surely_faster(on_all, shown):
    wobble = [1, 1.01, 0.99] * 3
    all_cores = [time * on_all * w for time, w in zip(STEADY, wobble, strict=True)]
    found = pyperf.BenchmarkSuite([benchmark("xla", STEADY), benchmark("xla", all_cores, cores=2)])
    assert len(report.shown_rows(found, 10)) == shown


def test_a_file_read_back_says_the_same_and_pyperf_compares_two(tmp_path):
    report.save(suite(), tmp_path / "a.json")
    report.save(suite(factor=2.0), tmp_path / "b.json")
    assert report.notes(report.load(tmp_path / "a.json")) == report.notes(suite())
    command = [sys.executable, "-m", "pyperf", "compare_to", "a.json", "b.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2.00x slower" in done.stdout


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"version": "1.0", "bench', '{"softmax_regression_comparison": {}}']
)
def test_a_file_of_another_kind_is_refused_in_one_line(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json: .* must be a results file") as refused:
        report.load(tmp_path / "a.json")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 1000), ("dataset", "kmnist"), ("data_sha256", "1" * 64), ("lr", 0.1), ("seed", 1)],
)
def test_merge_refuses_another_job_and_names_what_differs(name, value, tmp_path):
    report.save(suite(), tmp_path / "a.json")
    report.save(suite(**{name: value}), tmp_path / "b.json")
    with pytest.raises(InputError, match=f"{name} {JOB[name]} and {value}"):
        report.merge([tmp_path / "a.json", tmp_path / "b.json"])


def test_merge_says_that_ratios_of_two_machines_are_not_paired(tmp_path):
    for name in ("a", "b"):
        report.save(suite(), tmp_path / f"{name}.json")
    merged = report.merge([tmp_path / "a.json", tmp_path / "b.json"])
    base = report.baseline(merged, 10)
    rows = {(row.machine, row.task.contender): row for row in report.shown_rows(merged, 10)}
    assert base.machine == "a"
    other = rows["b", "graph"].ratio_to(base)
    assert other.median == pytest.approx(rows["a", "graph"].ratio_to(base).median)
    assert other.high > rows["a", "graph"].ratio_to(base).high
    assert other.coverage == pytest.approx(2 * base.time.coverage - 1)
    assert "unpaired: 92 % at least" in report.notes(merged)[0]
    again = report.merge([tmp_path / "a.json"])
    assert {row.machine for row in report.rows_of(again)} == {"a"}


def test_who_failed_and_a_busy_machine_are_told():
    found = suite(**{"failed: torch on cpu": "no memory", "other_cores": 1.3, "stolen": 0.25})
    said = "\n".join(report.notes(found))
    assert "Failed: torch on cpu: no memory." in said
    assert "1.3 cores busy" in said and "25%" in said
    assert "cores busy" not in "\n".join(report.notes(suite()))


def test_tables_fit_a_terminal_of_80_columns(capsys):
    from rich.console import Console

    report.show(suite(times=[1e3 * time for time in STEADY]), Console(width=80))
    table = capsys.readouterr().out.partition("\n\n")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table and "noisy" not in table


def test_charts_are_of_a_light_and_a_dark_page(tmp_path):
    sizes = [*suite(), *suite(batch_size=100, steps=550)]
    drawn = charts.draw(pyperf.BenchmarkSuite(sizes), tmp_path / "a")
    assert sorted(drawn) == sorted(charts.files(tmp_path / "a"))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def verdicts(base, now, max_slowdown=1.05, ratios=False):
    found = guard.verdicts(base, now, max_slowdown, ratios)
    return {verdict.name.split()[0]: verdict.slower for verdict in found}


def test_guard_tells_a_slowdown_from_noise_and_by_ratios_from_the_machine():
    wild = [10.0, 14.0, 9.0, 13.0, 9.5, 12.0, 10.8, 9.2, 13.5]
    assert verdicts(suite(), suite(times=STEADY[::-1])) == {"xla": False, "graph": False}
    assert verdicts(suite(), suite(factor=1.7)) == {"xla": True, "graph": True}
    assert verdicts(suite(), suite(factor=1.7), max_slowdown=2) == {"xla": False, "graph": False}
    assert not any(verdicts(suite(times=wild), suite(times=wild)).values())
    assert verdicts(suite(), suite(factor=2), ratios=True) == {"graph": False}
    assert verdicts(suite(), suite(factor=2, graph=33.0), ratios=True) == {"graph": True}


def test_guard_refuses_another_job_another_machine_and_too_few_rounds():
    base, jobs = suite(), report.jobs_of(suite())
    same = report.rows_of(base)[0].metadata
    assert guard.check(base, jobs, same, "--against=a", False) == []
    shorter = [work.Job(**JOB | {"steps": 1000})]
    with pytest.raises(InputError, match="another job: steps 5500 and 1000"):
        guard.check(base, shorter, same, "--against=a", False)
    newer = same | {"tensorflow": "2.22.0"}
    with pytest.raises(InputError, match=r"tensorflow 2.21.0 there, 2.22.0 here.*--ratios"):
        guard.check(base, jobs, newer, "--against=a", False)
    assert "2.22.0 here" in guard.check(base, jobs, newer, "--against=a", True)[0]
    assert guard.arguments_of(base, "--against=a", False)[-1] == "--rounds=9"
    few = pyperf.BenchmarkSuite([benchmark("xla", STEADY[:2])])
    with pytest.raises(InputError, match="2 rounds are too few"):
        guard.arguments_of(few, "--against=a", False)


def test_a_contender_sees_only_what_is_allowed(monkeypatch, tmp_path):
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_CORETYPE",
        "XLA_FLAGS",
        "LD_PRELOAD",
        "KERAS_BACKEND",
    ):
        monkeypatch.setenv(name, "1")
    seen = system.environment("cpu", 0, tmp_path, ["XLA_FLAGS"])
    assert {"PATH", "XLA_FLAGS"} <= seen.keys()
    assert not {"OMP_NUM_THREADS", "OPENBLAS_CORETYPE", "LD_PRELOAD"} & seen.keys()
    assert (seen["KERAS_BACKEND"], seen["KERAS_HOME"]) == ("tensorflow", str(tmp_path))
    assert system.facts(["XLA_FLAGS"])["kept"] == "XLA_FLAGS=1"


def test_the_watch_sees_another_process():
    spin = "import sys\nprint('on', flush=True)\nwhile True: pass"
    other = subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        watch = system.Watch()
        subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)
        assert watch.seen()["other_cores"] > system.BUSY
    finally:
        other.kill()
        other.communicate()


def test_one_sample_has_no_interval():
    found = stats.estimate([4.0])
    assert math.isnan(found.low) and report.with_interval(found) == "4.00"
    assert not stats.differs(found)


def test_rounds_are_whole_epochs_and_long_enough():
    assert work.steps_of(10, 55_000, 0) == 5_500
    assert work.steps_of(10_000, 55_000, 0) == 50 * 6
    assert work.steps_of(10, 55_000, 100) == 100
