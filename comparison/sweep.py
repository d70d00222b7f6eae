"""The batch sweep: what a step takes over the batch size."""

import statistics

from comparison import summary
from comparison.results import Results, Run

Curve = dict[int, float]  # us a step by batch size


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
