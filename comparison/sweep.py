"""The batch sweep: how far from the device's limit, bound by what, and from where the GPU wins."""

import statistics

from comparison import summary
from comparison.results import Results, Run
from comparison.work import Job

Curve = dict[int, float]  # us a step by batch size


def limit_us(run: Run, device: str, job: Job) -> float | None:
    """Returns us of a step's two matmuls at the rate of the device's largest; None if that was not measured."""
    if not run.limits.get(device):
        return None
    operations = 4 * job.batch_size * job.num_features * job.num_classes  # x @ W and its gradient, 2 each
    return operations / statistics.median(run.limits[device]) * 1e6


def curves(results: Results) -> dict[tuple[int, str, str], Curve]:
    """Returns us a step by batch size of each (machine's index, contender, device) that did the work at every size.

    The fastest at the largest size comes first.
    """
    found: dict[tuple[int, str, str], Curve] = {}
    for index, run in enumerate(results.runs):
        for contender, device in dict.fromkeys((sample.contender, sample.device) for sample in run.samples):
            sizes = {job.batch_size: _us(run, contender, device, job.batch_size) for job in results.jobs}
            if all(sizes.values()):
                found[index, contender, device] = sizes
    return dict(sorted(found.items(), key=lambda item: item[1][results.jobs[-1].batch_size]))


def _us(run: Run, contender: str, device: str, batch_size: int) -> float | None:
    times = summary.times(summary.samples_of(run, contender, device, batch_size))
    return statistics.median(times) if times else None


def verdicts(results: Results) -> list[str]:
    """Returns for each curve what bounds it, then for each contender where the GPU overtakes the CPU."""
    found, sentences = curves(results), []
    for (index, contender, device), curve in found.items():
        limits = [(limit_us(results.runs[index], device, job), curve[job.batch_size]) for job in results.jobs]
        share = max((limit / us for limit, us in limits if limit), default=None)
        of_limit = f"; at its best {share:.1%} of the limit" if share else ""
        sentences.append(f"{contender} on {device}{_of(results, index)}: {bound_by(curve)}{of_limit}.")
    return sentences + overtaking(results, found)


def arithmetic_from(curve: Curve) -> int:
    """Returns the first batch size at which an image takes at most twice as long as at the best size."""
    best = min(us / size for size, us in curve.items())
    return next(size for size in sorted(curve) if curve[size] / size <= 2 * best)


def bound_by(curve: Curve) -> str:
    """Says up to which batch size launches, a step's fixed cost, are more than half of its time."""
    arithmetic = arithmetic_from(curve)
    launches = [size for size in curve if size < arithmetic]
    if not launches:
        return "bound by arithmetic at every batch size"
    return f"bound by launches up to batch {max(launches):,}, by arithmetic from {arithmetic:,}"


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
        where = f"overtakes the CPU from batch {ahead[0]:,}" if ahead else "does not overtake the CPU"
        sentences.append(f"{contender}: the GPU{_of(results, index)} {where}.")
    if not any("gpu" in run.devices for run in results.runs):
        sentences.append("No GPU was there.")
    return sentences


def _of(results: Results, index: int) -> str:
    return f" of {results.machine(index)}" if results.machine(index) else ""
