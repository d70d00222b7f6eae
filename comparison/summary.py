"""What the samples say: one row for each contender, device and batch size, and the verdicts in words."""

import dataclasses
import statistics

from comparison import gpus, machine, stats
from comparison.results import Results, Run, Sample
from comparison.work import Job

NOT_THE_SAME = "not the same work"


@dataclasses.dataclass(frozen=True)
class Row:
    """What is shown of a contender. `time`, `ratio` are None, and `words` say why, if it has no time."""

    label: str
    contender: str
    time: stats.Estimate | None  # us a step
    ratio: stats.Estimate | None  # to the baseline
    words: str
    job: Job
    difference: float
    num_correct: int | None
    seconds: dict[str, float]
    cores: int | None
    peak_mib: float | None

    @property
    def images_per_second(self) -> float:
        return self.job.batch_size / self.time.median * 1e6 if self.time else float("nan")

    @property
    def first_result(self) -> float:
        """Seconds from the command to the end of an epoch."""
        steps = -(-self.job.num_examples // self.job.batch_size)
        return (
            self.seconds["start"] + self.seconds["compile"] + steps * self.time.median / 1e6
            if self.time
            else float("nan")
        )

    @property
    def is_noisy(self) -> bool:
        return self.time is not None and self.time.spread > stats.NOISY


def samples_of(
    run: Run, contender: str, device: str, batch_size: int, again: bool = False
) -> list[Sample]:
    """Returns the samples of a contender in the order of their rounds."""
    key = (contender, device, batch_size, again)
    found = [
        each
        for each in run.samples
        if (each.contender, each.device, each.batch_size, each.again) == key
    ]
    return sorted(found, key=lambda sample: sample.round)


def times(samples: list[Sample]) -> list[float]:
    """Returns us a step of each sample; [] if one of them did not do the work."""
    found = [sample.us_per_step for sample in samples if sample.us_per_step is not None]
    return found if len(found) == len(samples) else []


def baseline_times(run: Run, batch_size: int, again: bool = False) -> list[float]:
    """Returns us a step of each of the baseline's samples; [] if one of them did not do the work."""
    contender, device = run.baseline
    return times(samples_of(run, contender, device, batch_size, again))


def rows(results: Results, job: Job) -> list[Row]:
    """Returns the rows of a job over all machines, fastest first, those without a time last."""
    found = []
    for index, run in enumerate(results.runs):
        pairs = dict.fromkeys(
            (s.contender, s.device) for s in run.samples if s.batch_size == job.batch_size
        )
        found += [_row(results, index, *pair, job) for pair in pairs]
    return sorted(found, key=lambda row: row.time.median if row.time else float("inf"))


def _row(results: Results, index: int, contender: str, device: str, job: Job) -> Row:
    run = results.runs[index]
    samples = samples_of(run, contender, device, job.batch_size)
    ended = [sample for sample in samples if not sample.failed]
    failure = next((f"failed: {sample.failed}" for sample in samples if sample.failed), None)
    own = [] if failure else times(samples)
    ratio, words = (
        _ratio(results, index, own, [contender, device], job.batch_size)
        if own
        else (None, NOT_THE_SAME)
    )
    time = stats.estimate(own) if own else None
    if time and time.spread > stats.NOISY:
        words = ", ".join(filter(None, [words, f"noisy: most over least {time.spread:.1f}"]))
    peaks = [sample.peak_mib for sample in ended if sample.peak_mib]
    parts = [sample.seconds or {} for sample in ended]
    return Row(
        label=results.label(index, contender, device),
        contender=contender,
        time=time,
        ratio=ratio,
        words=failure or words,
        job=job,
        difference=max(
            (s.difference for s in ended if s.difference is not None), default=float("nan")
        ),
        num_correct=ended[-1].num_correct if ended else None,
        seconds={
            name: statistics.median(each[name] for each in parts)
            for name in (parts[0] if parts else ())
        },
        cores=samples[-1].cores,
        peak_mib=statistics.median(peaks) if peaks else None,
    )


def _ratio(
    results: Results, index: int, own: list[float], pair: list[str], batch_size: int
) -> tuple[stats.Estimate | None, str]:
    """Returns the ratio to the baseline of the first machine, and `baseline`, `within noise` or nothing about it."""
    first = results.runs[0]
    base = baseline_times(first, batch_size)
    if not base:
        return None, "no baseline"
    if index:
        return stats.unpaired_ratio(own, base), ""
    if pair == first.baseline:
        return stats.paired_ratio(own, base), "baseline"
    ratio, floor = stats.paired_ratio(own, base), against_itself(first, batch_size)
    return ratio, "within noise" if floor and stats.within_noise(
        ratio, stats.noise_floor(floor)
    ) else ""


def against_itself(run: Run, batch_size: int) -> stats.Estimate | None:
    """Returns the ratio of the baseline to itself, None if it has no time."""
    again, base = baseline_times(run, batch_size, again=True), baseline_times(run, batch_size)
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
    for run in results.runs:
        name = f"{run.name}: " if run.name else ""
        sentences += [f"{name}{_against_itself(run, job.batch_size)}" for job in results.jobs]
        if stats.ranks(run.rounds)[1] < stats.SURE:
            sentences.append(f"{name}Too few rounds to be sure of any difference: 95 % need six.")
        if any(sample.device == "cpu" and sample.cores is None for sample in run.samples):
            sentences.append(
                f"{name}This system cannot hold a process to cores: each took those that it wanted."
            )
        sentences += [f"{name}Left out: {each}." for each in run.left_out]
        seen = [sample.quiet for sample in run.samples]
        states = [state for sample in run.samples for state in sample.gpu or ()]
        warnings = machine.warnings(seen) + gpus.warnings(run.environment.get("gpus", []), states)
        sentences += [name + warning for warning in warnings]
    return sentences
