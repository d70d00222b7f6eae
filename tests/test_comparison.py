"""The parts of a comparison: statistics on known samples, the work gate, result files, merging, verdicts."""

import dataclasses
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import noise
from common import flagging
from common.errors import InputError
from comparison import guard, machine, options, results, stats, summary, tables, work
from comparison.results import Results, Run, Sample

QUIET = {"other_cores": 0.0, "stolen": 0.0}
JOB = work.Job("mnist", "0" * 64, 784, 10, 55_000, 10, 2000, 0.01, seed=0)
ENVIRONMENT = {"python": "3.11.7", "tensorflow": "2.21.0", "cores": 2, "git_commit": "0123456789ab"}


def sample(contender: str, us: float | None, round_number: int, **more: object) -> Sample:
    seconds = {"start": 1.0, "compile": 0.5, "evaluate": 0.01}
    known = {
        "device": "cpu",
        "batch_size": 10,
        "again": False,
        "quiet": QUIET,
        "difference": 1e-6,
        "num_correct": 9000,
    }
    known |= {
        "contender": contender,
        "us_per_step": us,
        "round": round_number,
        "seconds": seconds,
        "cores": 1,
    }
    return Sample(**known | more)


def run_of(samples: list[Sample], **more: object) -> Run:
    known = {
        "devices": {"cpu": "A CPU"},
        "environment": ENVIRONMENT,
        "flags": {},
        "date": "2026-11-23",
    }
    return Run(**known | {"baseline": ["xla", "cpu"], "left_out": [], "samples": samples} | more)


def three_contenders(factor: float = 1.0) -> Results:
    """Seven rounds in which the machine slows down by half, and all contenders with it."""
    samples = []
    for number, slowed in enumerate([1.0, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5], 1):
        samples.append(sample("xla", 10 * slowed * factor, number))
        samples.append(
            sample("xla", 10 * slowed * factor * (1.02 if number % 2 else 0.99), number, again=True)
        )
        samples.append(sample("graph", 300 * slowed * factor, number))
        samples.append(sample("jax", 10.1 * slowed * factor, number))
    return Results([JOB], [run_of(samples)])


@pytest.mark.parametrize(
    ("n", "kind", "low", "high"),
    [
        (2, "min-max, 50 %", 0, 1),
        (5, "min-max, 94 %", 0, 4),
        (6, "min-max, 97 %", 0, 5),
        (7, "min-max, 98 %", 0, 6),
        (9, "2 from either end, 96 %", 1, 7),  # the table of binomial probabilities: 1 - 2 * 10/512
        (20, "6 from either end, 96 %", 5, 14),
    ],
)
def test_interval_is_of_order_statistics_and_says_its_coverage(n, kind, low, high):
    found = stats.estimate([float(value) for value in range(1, n + 1)][::-1])
    assert (found.low, found.high, found.kind) == (low + 1, high + 1, kind)


@pytest.mark.parametrize("n", [5, 7, 25])
def test_interval_covers_the_true_median_as_often_as_it_says(n):
    rng, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        found = stats.estimate(rng.lognormal(size=n).tolist())
        inside += found.low <= 1.0 <= found.high  # the median of exp(N(0, 1))
    assert inside / 2000 == pytest.approx(found.coverage, abs=0.015)


def test_equal_contenders_are_called_different_once_in_twenty_at_most():
    rng, called = np.random.default_rng(1), 0
    for _ in range(1000):
        base, again, other = np.exp(rng.normal(scale=0.05, size=(3, 7)))
        floor = stats.noise_floor(stats.paired_ratio(again, base))
        called += not stats.within_noise(stats.paired_ratio(other, base), floor)
    assert called <= 50
    assert not stats.within_noise(stats.paired_ratio(other * 1.5, base), floor)


def test_rank_sum_is_the_exact_test():
    now, before = [5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0]
    # 70 ways to choose 4 of 8
    assert stats.p_slower(now, before) == pytest.approx(1 / 70, rel=0.25)
    assert stats.p_slower(before, now) == 1


def test_one_sample_has_no_interval():
    found = stats.estimate([4.0])
    assert found.median == 4.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert tables.with_interval(found) == "4.00"
    assert not stats.within_noise(found, stats.noise_floor(found))


def test_pairing_cancels_what_slows_a_whole_round():
    base = [10.0, 20.0, 15.0, 12.0, 30.0]
    ratio = stats.paired_ratio([3 * time for time in base], base)
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((3.0, 3.0, 3.0))
    unpaired = stats.unpaired_ratio([3 * time for time in base], base)
    assert unpaired.low < 2 < 4 < unpaired.high


def test_noise_floor_is_the_farther_end():
    base = [10.0, 10.0, 10.0, 10.0, 10.0]
    against_itself = stats.paired_ratio([10.0, 10.2, 8.0, 10.1, 10.0], base)
    assert stats.noise_floor(against_itself) == pytest.approx(1 / 0.8)
    assert stats.within_noise(stats.estimate([1.2, 1.2]), 1.25)
    assert stats.within_noise(stats.estimate([0.81, 0.81]), 1.25)
    assert not stats.within_noise(stats.estimate([1.26, 1.26]), 1.25)
    # far off, but its interval has 1 in it
    assert stats.within_noise(stats.estimate([0.99, 1.5, 1.6]), 1.25)


def test_rows_are_paired_sorted_and_called_noise_where_they_are():
    rows = summary.rows(three_contenders(), JOB)
    assert [(row.label, row.words) for row in rows] == [
        ("xla cpu", "baseline"),
        ("jax cpu", "within noise"),
        ("graph cpu", ""),
    ]
    assert rows[2].ratio.median == pytest.approx(30)
    assert rows[2].ratio.high == pytest.approx(30)
    assert rows[0].time.median == pytest.approx(12)
    assert rows[0].first_result == pytest.approx(1.5 + 5500 * 12e-6)
    # Against itself between 0.99 and 1.02: farther from 1 is 1.02.
    assert summary.notes(three_contenders())[0].endswith("ratios up to 1.02 either way are noise.")
    assert rows[0].images_per_second == pytest.approx(10 / 12e-6)


def test_not_the_same_work_shows_words_and_no_time(tmp_path):
    found = three_contenders()
    cheating = [sample("graph", None, number, difference=0.3) for number in range(1, 8)]
    honest = [each for each in found.runs[0].samples if each.contender != "graph"]
    found = Results([JOB], [run_of(honest + cheating)])
    text = tables.markdown(found, [], ["time", "images", "ratio", "verdict", "off"])
    assert "| graph cpu |  |  |  | not the same work | 3e-01 |" in text
    assert "| contender | µs/step [min-max, 98 %] | images/s | × baseline [min-max, 98 %] |" in text
    assert "Outside the time of a step" not in text
    results.save(found, tmp_path / "a.json")
    names = [
        each["metadata"]["name"]
        for each in json.loads((tmp_path / "a.json").read_text())["benchmarks"]
    ]
    assert names == ["xla on cpu, batch 10", "jax on cpu, batch 10"]


def test_a_file_read_back_is_what_was_written(tmp_path):
    found = three_contenders()
    results.save(found, tmp_path / "a.json")
    assert results.load(tmp_path / "a.json") == found


def test_pyperf_reads_the_file(tmp_path):
    results.save(three_contenders(), tmp_path / "a.json")
    results.save(three_contenders(factor=2.0), tmp_path / "b.json")
    command = [sys.executable, "-m", "pyperf", "compare_to", "a.json", "b.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "graph on cpu, batch 10" in done.stdout
    assert "2.00x slower" in done.stdout


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"batch_size": 20}, "batch_size"),
        ({"steps": 1000}, "steps 2000 and 1000"),
        ({"loss": "mean"}, "loss sum and mean"),
        ({"dataset": "kmnist"}, "dataset mnist and kmnist"),
        ({"data_sha256": "1" * 64}, "data_sha256"),
        ({"dtype": "bfloat16"}, "dtype float32 and bfloat16"),
        ({"tf32": True}, "tf32 False and True"),
        ({"order": "as in the dataset"}, "order shuffled and as in the dataset"),
        ({"seed": 1}, "seed 0 and 1"),
        ({"lr": 0.1}, "lr 0.01 and 0.1"),
    ],
)
def test_merge_refuses_another_job_and_names_what_differs(tmp_path, change, told):
    found = three_contenders()
    results.save(found, tmp_path / "a.json")
    results.save(Results([dataclasses.replace(JOB, **change)], found.runs), tmp_path / "b.json")
    with pytest.raises(InputError, match=told):
        results.merge([tmp_path / "a.json", tmp_path / "b.json"])


def test_merge_puts_machines_side_by_side_against_the_first_baseline(tmp_path):
    results.save(three_contenders(), tmp_path / "a.json")
    results.save(three_contenders(factor=0.5), tmp_path / "b.json")
    merged = results.merge([tmp_path / "a.json", tmp_path / "b.json"])
    rows = summary.rows(merged, JOB)
    assert [row.label for row in rows[:3]] == ["xla cpu (b)", "jax cpu (b)", "xla cpu (a)"]
    assert rows[0].ratio.median == pytest.approx(0.5)
    assert rows[0].ratio.kind == "min-max, 97 %"  # both of 98.4 %
    assert rows[2].words == "baseline"
    lines = tables.machine_lines(merged)
    assert "it seems to be the machine of a once more" in lines[1]
    assert "once more" not in lines[0]
    results.save(merged, tmp_path / "c.json")
    names = [run.name for run in results.merge([tmp_path / "c.json", tmp_path / "a.json"]).runs]
    assert names == ["c/a", "c/b", "a"]


def test_batch_sizes_are_shown_side_by_side_in_images_per_second():
    times = {1: 2.0, 10: 10.0, 100: 90.0}
    samples = [
        sample("xla", us * wobble, number, batch_size=size)
        for size, us in times.items()
        for number, wobble in ((1, 0.99), (2, 1.01))
    ]
    jobs = [dataclasses.replace(JOB, batch_size=size) for size in times]
    header, body = tables.sweep_columns(Results(jobs, [run_of(samples)]))
    assert header[1:] == ["batch 1", "batch 10", "batch 100"]
    assert body == [["xla cpu", "500,000", "1,000,000", "1,111,111"]]


def test_a_busy_or_throttled_machine_is_told():
    assert machine.warnings([QUIET] * 4) == []
    busy, throttled = QUIET | {"other_cores": 1.3}, QUIET | {"stolen": 0.25}
    told = machine.warnings([QUIET, busy, throttled])
    assert [sentence.split(":")[0] for sentence in told] == ["Busy machine", "Throttled machine"]
    assert "1.3 cores" in told[0]
    assert "25%" in told[1]


def test_the_watch_sees_another_process():
    spin = "import sys\nprint('on', flush=True)\nwhile True: pass"
    other = subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        watch = machine.Watch()
        subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)
        assert watch.seen().other_cores > machine.BUSY
    finally:
        other.kill()
        other.communicate()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"version": "1.0", "bench', "not whole"),
        ('{"version": "1.0", "benchmarks": []}', "not a result file"),
        ("[1]", "not a result file"),
        ('{"softmax_regression_comparison": {"format": 1}}', "format 1"),
        ('{"softmax_regression_comparison": {"format": 2, "jobs": [{}], "runs": []}}', "damaged"),
        ('{"softmax_regression_comparison": {"format": 2, "jobs": [], "runs": [7]}}', "damaged"),
        ('{"softmax_regression_comparison": {"format": 2, "jobs": [], "runs": []}}', "no samples"),
    ],
)
def test_a_file_that_is_not_a_result_is_refused(tmp_path, content, told):
    path = pathlib.Path(tmp_path / "a.json")
    path.write_text(content)
    with pytest.raises(InputError, match=told):
        results.load(path)


def measured_by(us: list[float], **more: object) -> Run:
    """A run in which xla, the baseline, takes `us` and graph thirty times as long, times more[contender]."""
    samples = [
        sample("xla", time, number, again=again)
        for number, time in enumerate(us, 1)
        for again in (False, True)
    ]
    samples += [
        sample("graph", 30 * time * more.get("graph", 1), number)
        for number, time in enumerate(us, 1)
    ]
    return run_of(samples, environment=ENVIRONMENT | more.get("environment", {}))


STEADY = [10.0, 10.1, 9.9, 10.05, 9.95, 10.02, 10.08]


def test_guard_tells_a_slowdown_from_noise():
    base, again = measured_by(STEADY), measured_by(STEADY[::-1])
    assert not any(verdict.slower for verdict in guard.verdicts(base, again, 1.05, ratios=False))
    slow = guard.verdicts(base, measured_by([time * 1.1 for time in STEADY]), 1.05, ratios=False)
    assert [(verdict.task.contender, verdict.slower) for verdict in slow] == [
        ("xla", True),
        ("graph", True),
    ]
    assert not any(verdict.slower for verdict in guard.verdicts(base, again, 1.05, ratios=False))
    slow = guard.verdicts(base, measured_by([time * 1.1 for time in STEADY]), 1.2, ratios=False)
    assert not any(verdict.slower for verdict in slow)  # they are, but by less than is let pass
    wild = measured_by([10.0, 14.0, 9.0, 13.0, 9.5, 12.0, 10.8])
    assert not any(verdict.slower for verdict in guard.verdicts(wild, wild, 1.05, ratios=False))


def test_guard_by_ratios_is_blind_to_the_machine_and_not_to_a_contender():
    base = measured_by(STEADY)
    half = guard.verdicts(base, measured_by([time * 2 for time in STEADY]), 1.05, ratios=True)
    assert [(verdict.task.contender, verdict.slower) for verdict in half] == [("graph", False)]
    slow = guard.verdicts(
        base, measured_by([time * 2 for time in STEADY], graph=1.1), 1.05, ratios=True
    )
    assert [(verdict.task.contender, verdict.slower) for verdict in slow] == [("graph", True)]


def test_guard_refuses_another_job_and_for_times_another_machine():
    config = flagging.parse(options.Config, ["", "--against=base.json"], "")
    base = Results([JOB], [measured_by(STEADY)])
    assert guard.check(base, base, config) == []
    with pytest.raises(InputError, match="another job: steps 2000 and 1000"):
        guard.check(base, Results([dataclasses.replace(JOB, steps=1000)], base.runs), config)
    other = Results([JOB], [measured_by(STEADY, environment={"tensorflow": "2.22.0"})])
    with pytest.raises(InputError, match=r"tensorflow 2.21.0 there, 2.22.0 here.*--ratios"):
        guard.check(base, other, config)
    assert "2.22.0 here" in guard.check(base, other, dataclasses.replace(config, ratios=True))[0]


def test_noise_says_how_often_equal_contenders_are_told_apart():
    times = 10 * np.exp(np.random.default_rng(0).normal(scale=0.02, size=120))
    different, false_alarms, caught, deviation = noise.rates(times, resampled=200).values()
    assert different <= 5 and false_alarms <= 5 and caught >= 95
    assert deviation == pytest.approx(2, abs=0.3)
