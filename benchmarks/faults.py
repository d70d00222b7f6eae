"""The fault campaign kills, fills, damages, restarts, and writes what held: python -m benchmarks.faults"""

import concurrent.futures
import dataclasses
import json
import pathlib
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import flags
from benchmarks import damages, worker_kills
from benchmarks.places import FLAGS, PHASES, Outcome, Phase, Place, moments
from common import children, files, flagging
from common.errors import RunError, exit_with_one_line
from common.files import PROJECT

HELD = {True: "yes", False: "NO", None: "skipped"}
DOCUMENT = PROJECT / "docs" / "reliability.md"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of the campaign."""

    kills: int = flagging.flag(
        50, flagging.COUNT, "Runs to kill at a random moment and start again."
    )
    worker_kills: int = flagging.flag(
        20, flagging.COUNT, "Workers to kill in runs of two, which start again."
    )
    seed: int = flagging.flag(0, flagging.COUNT_OR_0, "Seed of the moments.")
    jobs: int = flagging.flag(2, flagging.COUNT, "Runs at the same time.")
    only_kills: bool = flagging.flag(
        False, flagging.SWITCH, "Kill and restart, nothing else; writes no document."
    )


class Campaign:
    """The reference run in a temporary folder, and the faults tried on copies of its data."""

    def __init__(self, folder: pathlib.Path, config: Config):
        self.folder, self.config = folder, config
        self.first = Place(folder / "reference")
        done = self.first.run()
        if done.returncode:
            raise RunError(f"the reference run failed: {done.stderr.strip()}")
        self.expected, self.decoded = self.first.weights(), self.first.data_dir
        self.prepared = folder / "prepared"
        shutil.copytree(self.decoded, self.prepared)
        for each in self.prepared.glob("mnist/*/decoded"):
            shutil.rmtree(each)

    def place(self, name: str, phase: Phase) -> Place:
        """Returns a new place with the data that `phase` begins with."""
        place = Place(self.folder / name)
        if phase.name != "first-run preparation":
            shutil.copytree(
                self.prepared if phase.name == "decoding" else self.decoded, place.data_dir
            )
        return place

    def kill(self, number: int, phase: Phase, rng: random.Random) -> Outcome:
        """Kills a run in `phase`, then runs the same command to its end."""
        for attempt in range(40):
            place, seconds = (
                self.place(f"kill_{number}_{attempt}", phase),
                rng.uniform(0, phase.window),
            )
            if place.killed_run(phase.after, seconds):
                wrong = place.whole_after(place.run(), self.expected)
                break
            shutil.rmtree(place.folder)  # it had ended before: try an earlier or later moment
        else:
            wrong = "never caught running"
        shutil.rmtree(place.folder, ignore_errors=True)
        print(
            f"kill {number + 1}, {phase.name}, after {seconds:.2f} s: {wrong or 'held'}", flush=True
        )
        return Outcome(phase.name, not wrong, wrong or "held")

    def kills(self) -> list[Outcome]:
        """Returns the outcome of each kill, --jobs at a time."""
        with concurrent.futures.ThreadPoolExecutor(self.config.jobs) as pool:
            chosen = enumerate(moments(self.config.kills, self.config.seed))
            return list(pool.map(lambda each: self.kill(each[0], *each[1]), chosen))

    def worker_kills(self) -> list[Outcome]:
        """Returns the outcome of each kill of a worker."""
        folder = self.folder / "workers"
        folder.mkdir()
        workers = worker_kills.TwoWorkers(folder, f"--data_dir={self.decoded}")
        return [
            workers.kill(number, self.config.seed) for number in range(self.config.worker_kills)
        ]

    def others(self) -> Iterator[Outcome]:
        """All that is not a kill; damages --jobs at a time."""
        yield self.checkpoint_cost()
        yield from self.first_runs_at_once()
        yield from damages.cut_stream(self.folder, self.first)
        with concurrent.futures.ThreadPoolExecutor(self.config.jobs) as pool:
            yield from pool.map(
                lambda job: job(), damages.all_damages(self.folder, self.first, self.expected)
            )
        try:
            yield from damages.full_disks(self.folder, self.decoded, self.expected)
            yield from damages.read_only_folders(self.folder, self.decoded, self.expected)
        except (OSError, subprocess.CalledProcessError):
            yield Outcome(
                "full and read-only disks", None, "skipped: mounting one failed, which needs root"
            )

    def first_runs_at_once(self) -> Iterator[Outcome]:
        """Starts four first runs on one empty data_dir."""
        places = [
            Place(self.folder / f"at_once_{number}", self.folder / "shared") for number in range(4)
        ]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for place, done in zip(places, pool.map(Place.run, places), strict=True):
                yield place.same_weights("one of four first runs at once", done, self.expected)

    def checkpoint_cost(self) -> Outcome:
        """Measures what checkpoints at the default interval take of the time of training."""
        place = Place(self.folder / "cost", self.decoded)
        interval = f"--checkpoint_every={flags.training_config().checkpoint_every}"
        done = place.run("--max_steps=0", "--epochs=50", interval, "--eval_every=0")
        if done.returncode:
            raise RunError(f"the run for the cost of checkpoints failed: {done.stderr.strip()}")
        record = json.loads(place.record.read_text())
        cost, training = record["checkpoints"], record["seconds"]["train"]
        spent, first = cost["seconds"] - cost["seconds_at_start"], cost["seconds_at_start"]
        shown = (
            f"{cost['written'] - 1} took {spent:.3f} s and the first, at the start, {first:.3f} s"
        )
        shown += f"; {record['steps']:,} steps took {training:.3f} s"
        fault = "checkpoints at the default interval, but for the first, take at most 2 %"
        return Outcome(fault, spent <= 0.02 * training, shown)


def counted(outcomes: list[Outcome]) -> str:
    """Returns how many of those that were tried held, and how many were not tried."""
    tried = [outcome for outcome in outcomes if outcome.held is not None]
    skipped = len(outcomes) - len(tried)
    return f"{sum(bool(o.held) for o in tried)} of {len(tried)} held" + (
        f", {skipped} skipped" if skipped else ""
    )


def table_of_kills(head: str, names: Sequence[str], kills: list[Outcome]) -> list[str]:
    """Returns the lines of a table that counts kills, and restarts that held, by the fault's name."""
    lines = [f"| {head} | kills | restarts that held |", "|---|---|---|"]
    for name in [*names, "all"]:
        of_name = [kill for kill in kills if name in (kill.fault, "all")]
        lines.append(f"| {name} | {len(of_name)} | {sum(bool(kill.held) for kill in of_name)} |")
    return lines


def document(
    kills: list[Outcome],
    of_workers: list[Outcome],
    others: list[Outcome],
    config: Config,
    seconds: float,
) -> str:
    """Returns the campaign's outcome as Markdown."""
    asked = f"--kills={config.kills} --worker_kills={config.worker_kills} --seed={config.seed}"
    made = f"in {seconds:.0f} s on {platform.platform()}, {time.strftime('%Y-%m-%d')}; {' '.join(FLAGS)}"
    lines = [
        "# Reliability",
        "",
        f"Written by `python -m benchmarks.faults {asked}` {made}.",
        "",
        "## SIGKILL at a random moment, then the same command again",
        "",
        "The restart held if it exited with 0, with the `weights_sha256` of a run that was never killed, an exported "
        "model, and no half-written file or folder left.",
        "",
        *table_of_kills("killed in", [phase.name for phase in PHASES], kills),
        "",
        "## SIGKILL of one of two workers at a random moment, then both again",
        "",
        "It held if the other worker ended with exit code 1 and one line, and both, started again, with 0 and the "
        f"weights of a run on one device to {worker_kills.TOLERANCE:g}.",
        "",
        *table_of_kills("killed", worker_kills.NAMES, of_workers),
        "",
        *("## Other faults", "", f"{counted(others)}.", ""),
        *("| fault | held | what was shown |", "|---|---|---|"),
        *(f"| {o.fault} | {HELD[o.held]} | {o.shown.replace('|', '/')} |" for o in others),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Runs the campaign, writes docs/reliability.md; exit code 1 if anything did not hold."""
    config, began, others = flagging.parse(Config, sys.argv, __doc__), time.perf_counter(), []
    children.end_on_signals()
    with tempfile.TemporaryDirectory(prefix="faults.") as folder:
        campaign = Campaign(pathlib.Path(folder), config)
        for outcome in campaign.others() if not config.only_kills else ():
            print(f"{outcome.fault}: held: {HELD[outcome.held]}: {outcome.shown}", flush=True)
            others.append(outcome)
        kills = campaign.kills()
        of_workers = campaign.worker_kills() if not config.only_kills else []
    print(f"{counted(kills + of_workers)}, of kills")
    if not config.only_kills:
        text = document(kills, of_workers, others, config, time.perf_counter() - began).replace(
            folder, ""
        )
        files.write_atomically(DOCUMENT, lambda file: file.write(text.encode()))
    return int(any(outcome.held is False for outcome in kills + of_workers + others))


if __name__ == "__main__":
    exit_with_one_line(main)
