"""The batch sweep: how far from the device's limit, bound by what, and from where the GPU wins."""

import statistics

from comparison import summary
from comparison.results import Results, Run
from comparison.work import Job

Curve = dict[int, float]  # us a step by batch size
NEAR = 0.5  # of the limit: from here on arithmetic is what bounds


def limit_us(run: Run, key: str, job: Job) -> float:
    """Returns us of a step's two matmuls at the rate of the largest matmul of a `limit_key`."""
    return job.operations / statistics.median(run.limits[key]) * 1e6


def curves(results: Results) -> dict[tuple[int, str, str], Curve]:
    """Returns us a step by batch size of each (machine's index, contender, device) that did the work at every size.

    The fastest at the largest size comes first.
    """
    found: dict[tuple[int, str, str], Curve] = {}
    for index, run in enumerate(results.runs):
        for contender, device in dict.fromkeys(
            (sample.contender, sample.device) for sample in run.samples
        ):
            sizes = {
                job.batch_size: _us(run, contender, device, job.batch_size) for job in results.jobs
            }
            curve = {size: us for size, us in sizes.items() if us}
            if len(curve) == len(sizes):
                found[index, contender, device] = curve
    return dict(sorted(found.items(), key=lambda item: item[1][results.jobs[-1].batch_size]))


def _us(run: Run, contender: str, device: str, batch_size: int) -> float | None:
    times = summary.times(summary.samples_of(run, contender, device, batch_size))
    return statistics.median(times) if times else None


def verdicts(results: Results) -> list[str]:
    """Returns for each curve what bounds it, then for each contender where the GPU overtakes the CPU."""
    found, sentences = curves(results), []
    for (index, contender, device), curve in found.items():
        run, shares = results.runs[index], []
        for job in results.jobs:
            rate = summary.limit_of(run, summary.samples_of(run, contender, device, job.batch_size))
            shares += [job.operations / rate / curve[job.batch_size] * 1e6] if rate else []
        sentences.append(
            f"{contender} on {device}{_of(results, index)}: {bound_by(curve, max(shares, default=None))}."
        )
    return sentences + overtaking(results, found)


def flat_from(curve: Curve) -> int:
    """Returns the first batch size at which an image takes at most twice as long as at the best size."""
    best = min(us / size for size, us in curve.items())
    return next(size for size in sorted(curve) if curve[size] / size <= 2 * best)


def bound_by(curve: Curve, share: float | None) -> str:
    """Says up to which batch size launches, a step's fixed cost, are more than half of its time, and what is beyond.

    share: of the device's limit at its best, None if that is not known; arithmetic bounds who comes near it.
    """
    flat = flat_from(curve)
    launches = [size for size in curve if size < flat]
    begins = f"bound by launches up to batch {max(launches):,}, " if launches else ""
    if share is not None and share >= NEAR:
        return f"{begins}bound by arithmetic from batch {flat:,} on, at {share:.0%} of the limit"
    return f"{begins}flat from batch {flat:,} on" + (
        "" if share is None else f", at {share:.1%} of the limit"
    )


def overtaking(results: Results, found: dict[tuple[int, str, str], Curve]) -> list[str]:
    """Returns for each curve of a GPU the batch size from which it beats the same contender on a CPU."""
    sentences = []
    for (index, contender, device), gpu in found.items():
        rivals = [key for key in found if key[1:] == (contender, "cpu")]
        if device != "gpu" or not rivals:
            continue
        rival = (index, contender, "cpu") if (index, contender, "cpu") in rivals else rivals[0]
        slower = [size for size in gpu if gpu[size] >= found[rival][size]]
        ahead = [size for size in gpu if size > max(slower, default=0)]
        where = (
            f"overtakes the CPU from batch {ahead[0]:,}" if ahead else "does not overtake the CPU"
        )
        sentences.append(f"{contender}: the GPU{_of(results, index)} {where}.")
    if not any("gpu" in run.devices for run in results.runs):
        sentences.append("No GPU was there.")
    return sentences


def _of(results: Results, index: int) -> str:
    return f" of {results.runs[index].name}" if len(results.runs) > 1 else ""
