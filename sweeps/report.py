"""The table of a sweep: the seeds of a combination in a row, the best by validation accuracy; and its pictures."""

import math
import pathlib
import statistics
import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from sweeps.kept import Row, key
from sweeps.options import Own

HEAD = ("batch", "loss", "epochs", "lr", "seeds", "validation", "test", "s", "µs/step", "beside the best")
DOUBT = 0.05  # a difference tells if chance brings one as clear more rarely

Groups = dict[tuple, list[Row]]  # the finished runs of all seeds, by batch size, loss, epochs and lr
Validation = dict[tuple, dict[int, float]]  # their last validation accuracy by seed


def grouped(rows: Iterable[Row]) -> Groups:
    """Returns the rows, put together by everything but their seed."""
    groups: Groups = {}
    for row in sorted(rows, key=key):
        groups.setdefault(key(row)[:-1], []).append(row)
    return groups


def validation(groups: Groups) -> Validation:
    """Returns the last validation accuracy of each seed, of the combinations of which no seed diverged."""
    whole = {values: runs for values, runs in groups.items() if not any("diverged" in run for run in runs)}
    return {each: {run["seed"]: run["validation_accuracy"][-1][1] for run in runs} for each, runs in whole.items()}


def sign_test(wins: int, losses: int) -> float:
    """Returns how likely a fair coin, thrown wins + losses times, falls at least as one-sidedly."""
    count = wins + losses
    return min(1.0, sum(math.comb(count, k) for k in range(min(wins, losses) + 1)) / 2 ** (count - 1)) if count else 1.0


def verdict(mine: dict[int, float], best: dict[int, float]) -> str:
    """Returns what the seeds that both have in common say of a combination beside the best one."""
    pairs = [(mine[seed], best[seed]) for seed in mine.keys() & best.keys()]
    worse, better = sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)
    chance = sign_test(better, worse)
    tells = f"worse on {worse} of {len(pairs)} seeds" if chance < DOUBT else f"{len(pairs)} seeds cannot tell"
    return f"{tells} (p {chance:.2g})"


def spread(values: Sequence[float]) -> str:
    """Returns mean ± sd (least-most) of accuracies."""
    sd = f" ± {statistics.stdev(values):.4f} ({min(values):.4f}-{max(values):.4f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{sd}"


def best(found: Validation) -> tuple | None:
    """Returns the combination with the highest mean; None where there is none."""
    return max(found, key=lambda each: statistics.fmean(found[each].values()), default=None)


def table(groups: Groups) -> Table:
    """Returns the table, which is Markdown too."""
    drawn, found = Table(*HEAD, box=box.MARKDOWN), validation(groups)
    winner = best(found)
    for values, runs in groups.items():
        cells = [*map(str, values), str(len(runs))]
        if values in found:
            cells += [spread([*found[values].values()]), spread([run["test_accuracy"] for run in runs])]
            cells.append(f"{statistics.fmean(run['seconds']['train'] for run in runs):.2f}")
            cells.append(f"{statistics.fmean(run['us_per_step'] for run in runs):.1f}")
            cells.append("**best**" if values == winner else verdict(found[values], found[winner]))
        else:
            cells += [""] * 4 + [f"diverged: {sum('diverged' in run for run in runs)} of {len(runs)}"]
        drawn.add_row(*cells)
    return drawn


def show(groups: Groups, environment: Row, own: Own) -> None:
    """Prints the table of what is finished, if anything is, and draws the pictures that are asked for."""
    if not groups:
        return
    Console(width=None if sys.stdout.isatty() else 160).print(table(groups))
    print("Accuracy: mean ± sd (least-most) of the seeds. The best: by validation; p: exact sign test over the seeds.")
    print(
        f"Seconds and µs: training alone, while runs shared {environment['cores']} cores, {environment['cpu_model']}."
    )
    if own.figures and validation(groups):
        from sweeps import pictures

        pictures.draw(groups, pathlib.Path(own.figures).expanduser())
