"""The table of a sweep: the seeds of a combination in a row, the best by validation accuracy; and
its pictures."""

import io
import itertools
import math
import pathlib
import shutil
import statistics
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from common import plots
from common.errors import RunError, reason
from runtime.modes import SHARED_BATCH
from sweeps.kept import DEFAULTS, Row, key
from sweeps.options import SWEPT
from sweeps.runs import alone

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (
    plots.BLUE,
    plots.VERMILION,
    plots.GREEN,
    plots.ORANGE,
    plots.PINK,
    plots.SKY,
    plots.GREY,
    plots.INK,
)
REACHED = ("seeds", "validation", "test", "s", "µs/step", "beside the best")
HEADINGS = {"batch_size": "batch", "loss_reduction": "loss"}
# the others have a column where their values differ, or are not the default
ALWAYS = ("batch_size", "epochs", "loss_reduction", "lr")
DOUBT = 0.05  # a difference tells if chance brings one as clear more rarely

PANELS = 4  # in a row

# the finished runs of all seeds, by batch size, loss, epochs and lr
Groups = dict[tuple, list[Row]]
Validation = dict[tuple, dict[int, float]]  # their last validation accuracy by seed


def grouped(rows: Iterable[Row]) -> Groups:
    """Returns the rows, put together by everything but their seed."""
    groups: Groups = {}
    for row in sorted(rows, key=key):
        groups.setdefault(key(row)[:-1], []).append(row)
    return groups


def validation(groups: Groups) -> Validation:
    """Returns the last validation accuracy of each seed, of the combinations of which no seed
    diverged."""
    whole = {
        values: runs
        for values, runs in groups.items()
        if not any("diverged" in run for run in runs)
    }
    return {
        each: {run["seed"]: run["validation_accuracy"][-1][1] for run in runs}
        for each, runs in whole.items()
    }


def sign_test(wins: int, losses: int) -> float:
    """Returns how likely a fair coin, thrown wins + losses times, falls at least as one-sidedly."""
    count = wins + losses
    return (
        min(1.0, sum(math.comb(count, k) for k in range(min(wins, losses) + 1)) / 2 ** (count - 1))
        if count
        else 1.0
    )


def verdict(mine: dict[int, float], best: dict[int, float]) -> str:
    """Returns what the seeds that both have in common say of a combination beside the best one."""
    pairs = [(mine[seed], best[seed]) for seed in mine.keys() & best.keys()]
    worse, better = sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)
    chance = sign_test(better, worse)
    # a few bad seeds may cost a mean
    clear = f"worse on {worse}" if worse > better else f"better on {better}"
    seeds = f"{len(pairs)} seed{'s' * (len(pairs) != 1)}"
    tells = f"{clear} of {len(pairs)}" if chance < DOUBT else f"{seeds} cannot tell"
    return f"{tells}, p {chance:.2g}"


def spread(values: Sequence[float]) -> str:
    """Returns mean ± sd (least-most) of accuracies."""
    sd = (
        f" ± {statistics.stdev(values):.4f} ({min(values):.4f}-{max(values):.4f})"
        if len(values) > 1
        else ""
    )
    return f"{statistics.fmean(values):.4f}{sd}"


def best(found: Validation) -> tuple:
    """Returns the combination with the highest mean; an empty one where there is none."""
    return max(found, key=lambda each: statistics.fmean(found[each].values()), default=())


def columns(groups: Groups) -> list[str]:
    """Returns the flags that the table shows of each combination."""
    values_of = dict(zip(SWEPT, zip(*groups, strict=True), strict=False))
    return [
        name
        for name, values in values_of.items()
        if name in ALWAYS or {*values} != {DEFAULTS[name]}
    ]


def table(groups: Groups) -> Table:
    """Returns the table, which is Markdown too."""
    shown, found = columns(groups), validation(groups)
    headings = [HEADINGS.get(name, name) for name in shown]
    drawn, winner = Table(*headings, *REACHED, box=box.MARKDOWN), best(found)
    for values, runs in groups.items():
        flags_of_run = dict(zip(SWEPT, values, strict=False))
        cells = [*(str(flags_of_run[name]) for name in shown), str(len(runs))]
        if values in found:
            cells += [
                spread([*found[values].values()]),
                spread([run["test_accuracy"] for run in runs]),
            ]
            cells.append(f"{statistics.fmean(run['seconds']['train'] for run in runs):.2f}")
            cells.append(f"{statistics.fmean(run['us_per_step'] for run in runs):.1f}")
            cells.append("**best**" if values == winner else verdict(found[values], found[winner]))
        else:
            cells += [""] * 4 + [
                f"diverged: {sum('diverged' in run for run in runs)} of {len(runs)}"
            ]
        drawn.add_row(*cells)
    return drawn


def markdown(groups: Groups, width: int) -> str:
    """Returns the table as lines of at most `width` columns, without the blanks that rich puts
    around it."""
    lines = io.StringIO()
    Console(file=lines, width=width).print(table(groups))
    return "\n".join(line.rstrip() for line in lines.getvalue().splitlines() if line.strip())


def how(groups: Groups, environment: Row) -> str:
    """Returns the sentence that says whether the runs, whose times are shown, shared the
    machine."""
    on_gpu, cores = environment["device_kind"] == "GPU", f"the {environment['cores']} cores of one"
    kinds = {alone(batch_size, on_gpu) for batch_size, *_ in groups}
    shared, one_by_one = f"while runs shared {cores}", "one run after the other on"
    place = environment["device_name"]
    if kinds == {False}:
        return f"Training alone, {shared} {place}."
    if kinds == {True}:
        return f"Training alone, {one_by_one} {'one' if on_gpu else cores} {place}."
    return (
        f"Training alone: batches below {SHARED_BATCH} {shared} {place}, "
        f"larger ones {one_by_one} all of them."
    )


def show(rows: Iterable[Row], environment: Row, figures: str | None) -> None:
    """Prints the table of what is finished, if anything is, and draws what is to be drawn; raises
    RunError."""
    if not (groups := grouped(rows)):
        return
    print(markdown(groups, shutil.get_terminal_size().columns if sys.stdout.isatty() else 200))
    print(
        "Accuracy: mean ± sd (least-most) of the seeds. The best: by validation; "
        "p: exact sign test over the seeds."
    )
    print(how(groups, environment))
    if figures and (winner := best(validation(groups))):
        with plots.look("--figures"):
            drawn = {
                "learning_rate.png": over_learning_rate(groups),
                "steps.png": over_steps(groups, winner),
            }
            try:
                for name, figure in drawn.items():
                    plots.save(figure, pathlib.Path(figures) / name)
            except OSError as error:
                raise RunError(
                    f"--figures={figures}: cannot write {name}: {reason(error)}"
                ) from None
        print(f"figures: {', '.join(drawn)} in {figures}")


def over_learning_rate(groups: Groups) -> "Figure":
    """Returns the mean of all seeds over lr, in a band from the least to the most, a line for all
    else that differs."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(plots.WIDTH, 4.2))).subplots()
    lines: dict[tuple, dict[float, list[float]]] = {}
    for values, of_seeds in validation(groups).items():
        lines.setdefault(values[:-1], {})[values[-1]] = [*of_seeds.values()]
    for colour, (others, line) in zip(itertools.cycle(COLOURS), lines.items(), strict=False):
        lrs, accuracies = [*line], [*line.values()]
        axes.plot(
            lrs,
            [*map(statistics.fmean, accuracies)],
            color=colour,
            marker="o",
            label=_named(others),
        )
        axes.fill_between(
            lrs,
            [*map(min, accuracies)],
            [*map(max, accuracies)],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
    title = "Mean of all seeds, in a band from the least to the most"
    axes.set(xscale="log", xlabel="learning rate", ylabel="validation accuracy", title=title)
    all_lrs = sorted({lr for line in lines.values() for lr in line})
    axes.set_xticks(all_lrs, [f"{lr:g}" for lr in all_lrs])
    axes.minorticks_off()
    axes.grid(True)
    axes.legend()
    return figure


def over_steps(groups: Groups, winner: tuple) -> "Figure":
    """Returns the course of all seeds, in a panel for the best combination and for each that
    differs in its lr."""
    from matplotlib.figure import Figure

    beside = [values for values in validation(groups) if values[:-1] == winner[:-1]]
    rows = math.ceil(len(beside) / PANELS)
    figure = Figure(figsize=(plots.WIDTH, 0.8 + 2 * rows))
    figure.suptitle(
        f"The steps of every seed, in blue of the best: {_named(winner)}",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    panels = figure.subplots(
        rows, min(len(beside), PANELS), sharex=True, sharey=True, squeeze=False
    )
    for axes, values in itertools.zip_longest(panels.flat, beside):
        axes.set_axis_off() if values is None else axes.set_title(f"lr {values[-1]:g}")
        axes.grid(True)
        for run in groups.get(values, []):
            steps, accuracies = zip(*run["validation_accuracy"], strict=True)
            colour = plots.BLUE if values == winner else plots.GREY
            axes.plot(
                steps,
                accuracies,
                color=colour,
                linewidth=0.5,
                marker="." if len(steps) == 1 else "",
            )
    panels[0, 0].set(xscale="log", ylabel="validation accuracy")
    figure.supxlabel("step", fontsize=10)
    return figure


def _named(values: tuple) -> str:
    """Returns what a combination is called, but for its lr."""
    named = dict(zip(SWEPT, values, strict=False))
    epochs = named["epochs"]
    said = [f"batch {named['batch_size']:,}", f"{named['loss_reduction']} loss"]
    said.append(f"{epochs:,} epoch{'s' * (epochs > 1)}")
    others = [name for name in named if name not in ALWAYS and named[name] != DEFAULTS[name]]
    return ", ".join(said + [f"{name} {named[name]}" for name in others])
