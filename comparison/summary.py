"""What the samples say: one row for each contender, device and batch size, and the verdicts in words."""

import dataclasses
import statistics

from comparison import machine, stats
from comparison.results import Results, Run, Sample

NOT_THE_SAME = "not the same work"


@dataclasses.dataclass(frozen=True)
class Row:
    """What is shown of a contender. `time`, `ratio` are None, and `words` say why, if it has no time."""

    label: str
    time: stats.Estimate | None  # us a step
    ratio: stats.Estimate | None  # to the baseline
    words: str
    batch_size: int
    difference: float
    num_correct: int | None
    seconds: dict[str, float]

    @property
    def images_per_second(self) -> float:
        return self.batch_size / self.time.median * 1e6


def samples_of(run: Run, contender: str, device: str, batch_size: int, again: bool = False) -> list[Sample]:
    """Returns the samples of a contender in the order of their rounds."""
    key = (contender, device, batch_size, again)
    found = [each for each in run.samples if (each.contender, each.device, each.batch_size, each.again) == key]
    return sorted(found, key=lambda sample: sample.round)


def times(samples: list[Sample]) -> list[float]:
    """Returns us a step of each sample; [] if one of them did not do the work."""
    found = [sample.us_per_step for sample in samples]
    return [] if None in found else found


def rows(results: Results, batch_size: int) -> list[Row]:
    """Returns the rows of a batch size over all machines, fastest first, those without a time last."""
    found = []
    for index, run in enumerate(results.runs):
        pairs = dict.fromkeys((s.contender, s.device) for s in run.samples if s.batch_size == batch_size)
        found += [_row(results, index, *pair, batch_size) for pair in pairs]
    return sorted(found, key=lambda row: row.time.median if row.time else float("inf"))


def _row(results: Results, index: int, contender: str, device: str, batch_size: int) -> Row:
    run = results.runs[index]
    samples = samples_of(run, contender, device, batch_size)
    ended = [sample for sample in samples if not sample.failed]
    failure = next((f"failed: {sample.failed}" for sample in samples if sample.failed), None)
    own = [] if failure else times(samples)
    ratio, words = _ratio(results, index, own, [contender, device], batch_size) if own else (None, NOT_THE_SAME)
    return Row(
        results.label(index, contender, device),
        stats.estimate(own) if own else None,
        ratio,
        failure or words,
        batch_size,
        max((sample.difference for sample in ended), default=float("nan")),
        ended[-1].num_correct if ended else None,
        {part: statistics.median(s.seconds[part] for s in ended) for part in (ended[0].seconds if ended else ())},
    )


def _ratio(
    results: Results, index: int, own: list[float], pair: list[str], batch_size: int
) -> tuple[stats.Estimate | None, str]:
    """Returns the ratio to the baseline of the first machine, and `baseline`, `within noise` or nothing about it."""
    first = results.runs[0]
    base = times(samples_of(first, *first.baseline, batch_size))
    if not base:
        return None, "no baseline"
    if index:
        return stats.unpaired_ratio(own, base), ""
    if pair == first.baseline:
        return stats.paired_ratio(own, base), "baseline"
    ratio, floor = stats.paired_ratio(own, base), against_itself(first, batch_size)
    return ratio, "within noise" if floor and stats.within_noise(ratio, stats.noise_floor(floor)) else ""


def against_itself(run: Run, batch_size: int) -> stats.Estimate | None:
    """Returns the ratio of the baseline to itself, None if it has no time."""
    again = times(samples_of(run, *run.baseline, batch_size, again=True))
    base = times(samples_of(run, *run.baseline, batch_size))
    return stats.paired_ratio(again, base) if again and base else None


def _against_itself(run: Run, batch_size: int) -> str:
    ratio = against_itself(run, batch_size)
    if not ratio or ratio.n < 2:
        return f"Noise floor at batch {batch_size:,}: not known."
    return (
        f"Noise floor at batch {batch_size:,}: {' on '.join(run.baseline)} took {ratio:.2f} times as long as itself; "
        f"ratios up to {stats.noise_floor(ratio):.2f} either way are noise."
    )


def notes(results: Results) -> list[str]:
    """Returns the sentences below the tables: noise floor, what was left out, a machine that was not quiet."""
    sentences = []
    for index, run in enumerate(results.runs):
        name = f"Machine {results.machine(index)}: " if results.machine(index) else ""
        sentences += [f"{name}{_against_itself(run, job.batch_size)}" for job in results.jobs]
        sentences += [f"{name}Left out: {each}." for each in run.left_out]
        seen = [sample.quiet for sample in run.samples]
        warnings = machine.warnings(seen) + machine.gpu_warnings(run.environment.get("gpus", []))
        sentences += [name + warning for warning in warnings]
    return sentences
