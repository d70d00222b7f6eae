"""What a run shows on the screen."""

import collections
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

import flags
from runtime.state import State

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

# seconds between two looks of the live line, and at most between two plain lines
EVERY, EVERY_PLAIN = 1.0, 60.0
# seconds of a run that an estimate of the rest needs, and that it looks back
FOUNDED, RECENT = 0.5, 30.0
LEAST_BAR, MOST_BAR = 4, 60  # columns


class LiveLine:
    """One line, rewritten each second on a terminal; elsewhere plain lines, some twenty for a run, or one a minute.

    Where --eval_first or --eval_every is not as by default, each validation has a plain line too.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        self.stream, self.clock = stream or sys.stdout, clock
        self.live = _live(self.stream) if self.stream.isatty() else None
        # when, and at which step
        self.due, self.looks = clock(), collections.deque[tuple[float, int]]()
        self.next_plain_step, self.shown_step = 1, -1
        self.state: State | None = None

    def __enter__(self) -> "LiveLine":
        return self

    def __exit__(self, *_: object) -> None:
        """Shows where the run has ended, however it did."""
        if self.state and self.state.step != self.shown_step:
            self._show(self.state)
        if self.live:
            self.live.stop()

    def show(self, state: State) -> None:
        """Shows how far a run is, if it is time to; called after each block, it costs nothing as long as it is not."""
        self.state = state
        if not self.looks and state.step >= _first_alike(state.config, state.total_steps):
            self.looks.append((self.clock(), state.step))
        plain = not self.live and (
            state.step >= self.next_plain_step or (_evaluated(state) and _chosen(state.config))
        )
        if plain or self.clock() >= self.due:
            self._show(state)

    def _show(self, state: State) -> None:
        now, step, total = self.clock(), state.step, state.total_steps
        left = self._left(now, step, total)
        self.shown_step, self.due = step, now + (EVERY if self.live else EVERY_PLAIN)
        if self.live:
            self.live.start()
            self.live.update(_row(state, left, self.live.console.width), refresh=True)
        else:
            self.next_plain_step = min(2 * step, step + total // 10)
            print(
                "step",
                "  ".join(forms(state, left, _evaluated(state))[0]),
                file=self.stream,
                flush=True,
            )

    def _left(self, now: float, step: int, total: int) -> float | None:
        """Returns the seconds that the rest takes at the speed of late; None as long as that would be a guess."""
        while len(self.looks) > 1 and now - self.looks[1][0] >= RECENT:
            self.looks.popleft()
        if not self.looks:
            return None
        since, first = self.looks[0]
        self.looks.append((now, step))
        founded = now - since >= FOUNDED and step > first
        return (now - since) / (step - first) * (total - step) if founded else None


def _first_alike(config: flags.Config, total: int) -> int:
    """Returns the step from which on blocks are alike: those of one step each, at the start, take far longer a step."""
    return config.eval_first if config.eval_every and config.eval_first < total else 0


def _chosen(config: flags.Config) -> bool:
    """Says whether the user has chosen when to validate."""
    defaults = flags.training_config()
    return (config.eval_first, config.eval_every) != (defaults.eval_first, defaults.eval_every)


def _evaluated(state: State) -> bool:
    return bool(state.evaluations) and state.evaluations[-1][0] == state.step


def _live(stream: TextIO) -> "Live | None":
    """Returns what rewrites a line of a terminal; None if it is one that cannot."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream, highlight=False)
    return None if console.is_dumb_terminal else Live(console=console, auto_refresh=False)


def _row(state: State, left: float | None, width: int) -> "Table":
    """Returns a bar and the most generous form of the figures that fits into `width` columns."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    wide, short, brief = forms(state, left, bool(state.evaluations))
    texts = ["  ".join(wide), "  ".join(short), " ".join(brief), " ".join(brief[:-1])]
    wanted = [LEAST_BAR + 7, LEAST_BAR + 7, 0, 0]  # columns for the bar and the space behind it
    fitting = (text for text, bar in zip(texts, wanted, strict=True) if len(text) + bar <= width)
    text = Text(next(fitting, texts[-1]), no_wrap=True, overflow="crop")
    row = Table.grid(padding=(0, 1))
    room = min(width - len(text) - 1, MOST_BAR)
    bar = [ProgressBar(state.total_steps, state.step, room)] if room >= LEAST_BAR else []
    row.add_row(*bar, text)
    return row


def forms(state: State, left: float | None, accuracy: bool) -> list[tuple[str, ...]]:
    """Returns the figures of a run in words, short and brief: steps, accuracy if asked for, loss, speed, time left."""
    step, total, speed = state.step, state.total_steps, state.images_per_second()
    steps, share = f"{step:,}/{total:,}", f"{100 * step // total}%"
    figures = [(f"{steps} {share}", steps, share)]
    if accuracy:
        newest = f"{state.evaluations[-1][2]:.4f}"
        figures.append((f"validation {newest}", f"val {newest}", f"val {newest}"))
    loss = f"loss {state.loss:.4f}" if state.loss < 100 else f"loss {state.loss:.3g}"
    figures += [
        (loss, loss, loss),
        (f"{speed:,.0f} images/s", f"{speed:,.0f} img/s", brief_speed(speed)),
    ]
    if step < total and left is not None:
        figures.append((f"{duration(left)} left", duration(left), duration(left)))
    return list(zip(*figures, strict=True))


def brief_speed(images_per_second: float) -> str:
    """Returns a speed in at most six letters."""
    if images_per_second < 999.5e3:
        return (
            f"{images_per_second / 1e3:.0f}k/s"
            if images_per_second >= 999.5
            else f"{images_per_second:.0f}/s"
        )
    return f"{images_per_second / 1e6:.1f}M/s"


def duration(seconds: float) -> str:
    """Returns a time in its two largest units, such as 3m07s."""
    units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)]
    rest = round(seconds)
    first = next((i for i, (_, size) in enumerate(units) if rest >= size), 3)
    (name, size), *smaller = units[first : first + 2]
    return f"{rest // size:,}{name}" + "".join(
        f"{rest % size // part:02}{unit}" for unit, part in smaller
    )


def header(state: State, device_name: str) -> str:
    """Returns the first line: the data, the job and the device, and a second if --max_steps is never reached."""
    config, dataset = state.config, state.dataset
    took = " (--device=auto)" if config.device == "auto" else ""
    replicas = f"{state.replicas} replica{'s' * (state.replicas > 1)}"
    strategy = f", strategy {config.strategy} with {replicas}," if config.strategy != "none" else ""
    streamed = "; streamed from disk" if dataset.on_disk else ""
    tf32 = ", TF32 allowed" if config.tf32 else ""
    unreached = ""
    if config.max_steps > state.total_steps:
        unreached = f"\n--max_steps={config.max_steps} is never reached: --epochs ends at step {state.total_steps:,}"
    return (
        f"{dataset.name}: {len(dataset.train):,} training, {len(dataset.validation):,} validation, "
        f"{len(dataset.test):,} test images; batch {config.batch_size:,}, lr {config.lr:g}, {config.loss_reduction} "
        f"loss; mode {config.mode}{strategy} on {device_name}{took}{tf32}{streamed}{unreached}"
    )


def reached(state: State, accuracy: float) -> str:
    """Returns what a stopped run reached, and whether it is kept."""
    kept = (
        "the same command goes on from there"
        if state.config.checkpoint_dir
        else "kept only with --checkpoint_dir"
    )
    return f"at step {state.step:,} of {state.total_steps:,}, validation accuracy {accuracy:.4f}: {kept}"


def summary(record: dict[str, Any], reached_target: bool) -> str:
    """Returns the last lines: test accuracy, the ledger of seconds, and the speed of training alone."""
    parts = "  ".join(f"{part} {seconds:,.3f}" for part, seconds in record["seconds"].items())
    steps, resumed_at = record["steps"], record["resumed_at_step"]
    lines = [
        f"test accuracy {record['test_accuracy']:.4f} of {record['test_examples']:,} images",
        f"seconds: {parts}",
    ]
    if steps > resumed_at:
        lines.append(
            f"training alone: {steps - resumed_at:,} steps, {record['us_per_step']:,.1f} us/step, "
            f"{record['examples_per_second']:,.0f} images/s"
        )
    else:
        lines.append(
            f"training alone: nothing left to do, the run had reached its last step, {steps:,}"
        )
    if target := record["config"]["target_accuracy"]:
        outcome = (
            f"reached at step {record['steps']:,}, after" if reached_target else "not reached in"
        )
        lines.append(
            f"target accuracy {target:g}: {outcome} {record['evaluations'][-1][1]:,.3f} s of training"
        )
    return "\n".join(lines)
