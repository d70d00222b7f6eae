"""The checks of the acceptance on a GPU, (a) to (i), each a function that returns what it has found, row by row."""

import concurrent.futures
import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks import runs
from benchmarks.places import Place
from common import flagging
from common.errors import RunError
from comparison import campaign, contenders, measure, options, results, work
from runtime import startup

CLOSE = 1e-5  # to float64, with TF32 off
MOST_KERNELS = 10  # a step; as compiled they are some 7
AMPERE = 8  # the compute capability from which on there is TF32
CACHES = ("CUDA_CACHE_PATH", "XDG_CACHE_HOME")  # what the driver has compiled before
OF_PEERS = (10, 1_000, 55_000)  # batches; more would take the command beyond ten minutes


class Row(NamedTuple):
    """What was looked at, what was seen, and whether it is as it must be; None where it is a figure and no check."""

    what: str
    shown: str
    held: bool | None


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is done: on a GPU all, on a CPU as much as shows that the command works."""

    steps: int
    batches: tuple[int, ...]
    times: int
    peers: tuple[str, ...]


SIZES = {
    "gpu": Size(2_000, (1, 10, 100, 1_000, 10_000, 55_000), 3, ("jax_best", "torch_best")),
    "cpu": Size(200, (10, 100), 1, ()),
}


@dataclasses.dataclass(frozen=True)
class Bench:
    """The machine that is looked at: --device, how to run train.py, and a folder for what is needed in between."""

    config: runs.Runs
    device: str
    folder: pathlib.Path

    @property
    def size(self) -> Size:
        return SIZES[self.device]

    @property
    def job(self) -> list[str]:
        """The flags of a short run without evaluations but its last."""
        return [
            f"--device={self.device}",
            "--epochs=1000",
            f"--max_steps={2 * self.size.steps}",
            "--eval_every=0",
        ]

    def train(self, *arguments: str, **options: Any) -> runs.Run:
        return runs.train(self.config, *self.job, *arguments, **options)

    def told(self, *arguments: str) -> dict[str, Any]:
        """Trains as `gpu_child` does, and returns what it tells."""
        path = self.folder / "told.json"
        path.unlink(missing_ok=True)
        own = ["-m", "benchmarks.gpu_child", str(path)]
        runs.run(self.config, *own, *self.config.where, *self.job, *arguments)
        return json.loads(path.read_text())

    @functools.cached_property
    def alone(self) -> dict[str, Any]:
        """What a run tells that has the machine for itself."""
        return self.told()

    @functools.cached_property
    def survey(self) -> dict[str, Any]:
        """What compare.py finds out of devices and jobs before it measures."""
        here, sizes = dict.fromkeys(["cpu", self.device]), ",".join(map(str, self.size.batches))
        flags = [
            f"--devices={','.join(here)}",
            f"--batch_sizes={sizes}",
            f"--max_steps={self.size.steps}",
        ]
        config = flagging.parse(options.Config, ["", *flags, *self.config.where], None)
        return campaign.survey(config, self.folder)

    @functools.cached_property
    def rounds(self) -> measure.Rounds:
        """What measures as compare.py does: W and b must be those of the float64 reference."""
        jobs = [work.Job(**job) for job in self.survey["jobs"]]
        return measure.Rounds(self.folder, jobs, contenders.CONTENDERS, [], 1, self.config.timeout)

    @functools.cache  # noqa: B019 - one bench a process
    def sample(self, contender: str, device: str, batch_size: int) -> results.Sample:
        cores = 1 if device == "cpu" and batch_size < 500 and measure.machine.can_hold() else None
        return self.rounds.measure(measure.Task(contender, device, batch_size), 1, cores)


def machine(bench: Bench) -> list[Row]:
    """(a) Driver, capability, build and clocks."""
    told = bench.alone
    build, details = told["build"], told.get("details", {})
    versions = ", ".join(
        f"{name} {found}" for name, found in build.items() if name.endswith("version")
    )
    capability = ".".join(map(str, details.get("compute_capability", ())))
    is_right = told["record"]["environment"]["device_kind"] == bench.device.upper()
    return [
        Row("the device", told["record"]["environment"]["device_name"], is_right),
        Row("compute capability", capability or "none: no GPU", None),
        Row("TensorFlow's build", versions or "no CUDA", None),
        Row("nvidia-smi", json.dumps(told["listed"]), None),
        Row("clock, heat, power after a run (nvidia-ml-py)", json.dumps(told["state"]), None),
    ]


def reference(bench: Bench) -> list[Row]:
    """(b) Every mode against the float64 reference, TF32 off; on, it must differ."""
    rows = []
    for mode in ("xla", "graph", "eager"):
        found = bench.sample(mode, bench.device, 10)
        shown = found.failed or f"{bench.size.steps:,} steps, W and b off by {found.difference:.1e}"
        rows.append(
            Row(
                f"mode {mode} against float64",
                shown,
                found.difference is not None and found.difference <= CLOSE,
            )
        )
    capability = bench.alone.get("details", {}).get("compute_capability", (0, 0))
    if capability[0] < AMPERE:
        return [*rows, Row("TF32", "not on this device", None)]
    differ = (
        bench.train("--tf32").record["weights_sha256"] != bench.alone["record"]["weights_sha256"]
    )
    return [*rows, Row("TF32 on: other weights", "yes" if differ else "the same", differ)]


def streams(bench: Bench) -> list[Row]:
    """(c) The same weights from a stream as from memory."""
    found = bench.train("--input=stream").record
    equal = found["weights_sha256"] == bench.alone["record"]["weights_sha256"]
    return [
        Row(
            "stream and memory",
            "same weights" if equal else "other weights",
            equal and found["streamed"],
        )
    ]


def repeats(bench: Bench) -> list[Row]:
    """(d) The same run in several processes, and killed and resumed, with and without --deterministic."""
    rows = []
    for flag in ("--deterministic", "--nodeterministic"):
        more = [flag, f"--device={bench.device}", "--epochs=1000"]
        places = [
            _place(bench, f"{flag[2:]}{number}") for number in range(1 + max(2, bench.size.times))
        ]
        killed = places[-1].killed_run("step 1", 0.3, *more)
        weights = [_weights(place, more) for place in places]
        # a GPU promises nothing without
        wrong = False if flag == "--deterministic" or bench.device == "cpu" else None
        pairs = {
            f"{len(places) - 1} processes": weights[:-1],
            "killed and resumed": [weights[0], weights[-1]],
        }
        for what, those in pairs.items():
            equal = len(set(those)) == 1
            rows.append(
                Row(f"{what}, {flag}", "same weights" if equal else "other weights", equal or wrong)
            )
        if not killed:
            rows[-1] = Row(
                f"killed and resumed, {flag}", "it ended before it could be killed", None
            )
    return rows


def _place(bench: Bench, name: str) -> Place:
    data_dir = (
        pathlib.Path(bench.config.data_dir or "~/tensorflow_datasets").expanduser().absolute()
    )
    return Place(bench.folder / name, data_dir)


def _weights(place: Place, more: list[str]) -> str:
    """Returns weights_sha256 of a run in a place of its own."""
    if (done := place.run(*more)).returncode:
        raise RunError(place.failure(done))
    return place.weights()


def programs(bench: Bench) -> list[Row]:
    """(e) Every program, several times."""
    model, image = bench.folder / "exported", str(runs.PROJECT / "docs" / "digit.png")
    short = [*bench.config.where, f"--device={bench.device}", "--max_steps=300", "--eval_every=0"]
    exported = ["train.py", *short, f"--export_dir={model}", "--overwrite"]
    commands = [[*exported, f"--mode={mode}"] for mode in ("eager", "graph", "xla")]
    commands += [
        ["predict.py", f"--model={model}", image],
        ["sweep.py", *short, "--lr=0.001,0.01", "--jobs=1"],
    ]
    rows = []
    for command in commands:
        kept = (each for each in command if "=" not in each or each.startswith("--mode="))
        what = " ".join(kept).replace(image, "digit.png")
        try:
            seconds = [runs.run(bench.config, *command).seconds for _ in range(bench.size.times)]
            rows.append(Row(what, ", ".join(f"{each:.1f} s" for each in seconds), True))
        except RunError as error:
            rows.append(Row(what, str(error), False))
    return rows


def speeds(bench: Bench) -> list[Row]:
    """(f) Microseconds a step over the batch size, on CPU and GPU."""
    places = [("xla", device) for device in dict.fromkeys(["cpu", bench.device])]
    rows = []
    for name, device in [*places, *((peer, bench.device) for peer in bench.size.peers)]:
        if missing := contenders.CONTENDERS[name].missing():
            rows.append(Row(f"{name} on {device}", missing, None))
            continue
        for size in bench.size.batches if name == "xla" else OF_PEERS:
            found = bench.sample(name, device, size)
            shown = (
                f"{found.us_per_step:,.1f} µs/step"
                if found.us_per_step
                else found.failed or "not the same work"
            )
            rows.append(Row(f"{name} on {device}, batch {size:,}", shown, bool(found.us_per_step)))
    return rows


def profile(bench: Bench) -> list[Row]:
    """(g) From the trace of one block: kernels a step, copies between host and device a block."""
    folder = bench.folder / "profile"
    steps = bench.size.steps
    # it has two blocks so
    bench.train(f"--profile={folder}", "--eval_first=0", f"--eval_every={steps}")
    (trace,) = folder.glob("plugins/profile/*/*.xplane.pb")
    counts = events(trace.read_bytes())
    if bench.device == "cpu":
        return [Row("the trace", f"{sum(counts.values()):,} events", sum(counts.values()) > 0)]
    copies, kernels = counts["copies"], counts["kernels"] / steps
    return [
        Row("kernels a step", f"{kernels:.1f}", 0 < kernels <= MOST_KERNELS),
        Row(
            "copies between host and device, a block and its evaluation",
            f"{copies:,}",
            copies < steps / 10,
        ),
    ]


def events(trace: bytes) -> dict[str, int]:
    """Returns how many kernels, copies between host and device, and others there are in an xplane.pb."""
    with startup.quiet():
        from tensorflow.tsl.profiler.protobuf import xplane_pb2

    counts = {"kernels": 0, "copies": 0, "others": 0}
    for plane in xplane_pb2.XSpace.FromString(trace).planes:
        on_gpu = re.match(r"/device:GPU:\d+", plane.name)
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                is_copy, is_kernel = (
                    re.search(r"(?i)memcpy.?(h2d|d2h)", name),
                    not re.search(r"(?i)mem(cpy|set)", name),
                )
                # Lines of one kind each: those with names of operations tell the same kernels once more.
                of_stream = on_gpu and line.name.startswith("Stream")
                counts[
                    "copies"
                    if of_stream and is_copy
                    else "kernels"
                    if of_stream and is_kernel
                    else "others"
                ] += 1
    return counts


def memory(bench: Bench) -> list[Row]:
    """(h) Peak memory, and a second process beside the first."""
    told, steps = bench.alone, 100 * bench.size.steps
    shown = (
        f"{told['peak_bytes'] / runs.MIB:,.0f} MiB"
        if "peak_bytes" in told
        else "TensorFlow tells none of a CPU"
    )
    rows = [Row("peak of TensorFlow's memory on the device", shown, None)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: bench.train(f"--max_steps={steps}").record, range(2)))
    beside = " and ".join(f"{record['us_per_step']:,.1f}" for record in both)
    shown = f"both ended; {beside} µs/step, {told['record']['us_per_step']:,.1f} alone"
    return [
        *rows,
        Row("two processes at once", shown, all(record["steps"] == steps for record in both)),
    ]


def whole(bench: Bench) -> list[Row]:
    """(i) Seconds of the whole command, with nothing compiled before and again."""
    caches = os.environ | {name: str(bench.folder / name) for name in CACHES}
    rows = []
    for what in ("cold", "warm"):
        found = runs.train(bench.config, f"--device={bench.device}", env=caches)
        parts = ", ".join(
            f"{part} {seconds:.1f}" for part, seconds in found.record["seconds"].items()
        )
        rows.append(Row(f"python train.py, {what}", f"{found.seconds:.1f} s ({parts})", None))
    return rows


PARTS: dict[str, Callable[[Bench], list[Row]]] = dict(
    zip(
        "abcdefghi",
        (machine, reference, streams, repeats, programs, speeds, profile, memory, whole),
        strict=True,
    )
)
