"""Writes the figures of the READMEs from record files: python -m benchmarks.results

With --run it first makes the records anew: the main job, and 1 and 10 epochs for each of --seeds seeds.
"""

import dataclasses
import itertools
import json
import pathlib
import shutil
import statistics
import tempfile
from typing import Any

import flags
from benchmarks import runs
from benchmarks.pages import PROJECT, READMES, rewrite_blocks
from common.errors import InputError
from common.flagging import COUNT, SWITCH, TEXT, flag
from runtime import cluster

MAIN_JOB = ("--batch_size=10", "--lr=0.01")
PLACES = ("record", "data_dir", "manual_dir")  # flags that name paths of a machine, and do not change the work
JOBS = (("--epochs=1",), ("--epochs=10",), ("--epochs=10", "--eval_every=0"))
TEXTS = {
    "en": {
        "head": "| `python train.py` with | steps | test accuracy, mean ± sd | training, s | µs/step | images/s |",
        "defaults": "the defaults: `--epochs=1`",
        "note": "Accuracy over {runs} seeds; speed: the median of these runs (smallest to largest), training alone.  \n"
        "Measured on {date} on {device}, {cores} cores, {os}; Python {python}, TensorFlow {tensorflow}, "
        "tensorflow-datasets {tfds}; commit {commit}.  \n"
        "Once more: `python -m benchmarks.results --run --seeds={runs}`",
    },
    "es": {
        "head": "| `python train.py` con | pasos | acierto en test, media ± de | entrenar, s | µs/paso | imágenes/s |",
        "defaults": "lo que va por defecto: `--epochs=1`",
        "note": "Acierto sobre {runs} semillas; velocidad: mediana de esas ejecuciones (de la menor a la mayor), solo "
        "entrenar.  \nMedido el {date} en {device}, {cores} núcleos, {os}; Python {python}, TensorFlow {tensorflow}, "
        "tensorflow-datasets {tfds}; commit {commit}.  \n"
        "Otra vez: `python -m benchmarks.results --run --seeds={runs}`",
    },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(runs.Runs):
    """The flags of this script."""

    run: bool = flag(False, SWITCH, "Make the records and the pictures anew before writing the figures.")
    seeds: int = flag(10, COUNT, "With --run: seeds 0, 1, ... of each job, this many.")
    records: str = flag(str(PROJECT / "benchmarks" / "records"), TEXT, "The folder of the record files.")


def make_records(config: Config, folder: pathlib.Path) -> None:
    """Runs every job with every seed, and puts the records in place of those in `folder` once all are there.

    Meanwhile no file of the project changes, so that each record names the commit without `-dirty`.
    """

    def said(*arguments: str) -> str:
        with tempfile.TemporaryFile("w+") as stdout:
            runs.run(config, *arguments, stdout=stdout)
            stdout.seek(0)
            return "".join(f"{line.rstrip()}\n" for line in stdout)

    with tempfile.TemporaryDirectory() as place:
        records, pictures = pathlib.Path(place, "records"), pathlib.Path(place, "figures")
        records.mkdir()
        (records / "main_job.txt").write_text(said("train.py", *MAIN_JOB))
        for seed, job in itertools.product(range(config.seeds), JOBS):
            record = runs.train(config, *job, f"--seed={seed}").record
            record["config"] = {name: value for name, value in record["config"].items() if name not in PLACES}
            name = "-".join(part.strip("-").replace("=", "-") for part in (*job, f"--seed={seed}"))
            (records / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
            print(f"{name}: test accuracy {record['test_accuracy']:.4f}", flush=True)
        exported = f"{place}/exported"
        said("train.py", *MAIN_JOB, f"--figures={pictures}", f"--export_dir={exported}")
        (records / "predict.txt").write_text(said("predict.py", f"--model={exported}", "docs/digit.png"))
        for old in folder.glob("epochs-*-seed-*.json"):
            old.unlink()
        shutil.copytree(records, folder, dirs_exist_ok=True)
        shutil.copytree(pictures, PROJECT / "docs" / "figures", dirs_exist_ok=True)


def read_records(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the records in `folder`; raises InputError when there are none or they come from unlike machines."""
    try:
        records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        if not records:
            raise ValueError("there is no record")
        for record in records:
            first = records[0]["environment"] | {"date": record["environment"]["date"]}
            if unlike := [key for key, value in record["environment"].items() if value != first[key]]:
                raise ValueError(f"records differ in {', '.join(unlike)}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--records={folder}: {error}; make records with --run") from None
    return records


def job_of(record: dict[str, Any]) -> str:
    """Returns the flags of a run that are not at their defaults, those aside that do not change the work."""
    defaults = dataclasses.asdict(cluster.settled(flags.Config()))
    changed = {name: value for name, value in record["config"].items() if value != defaults[name]}
    return " ".join(f"--{name}={value}" for name, value in changed.items() if name not in {"seed", *PLACES})


def results_table(records: list[dict[str, Any]], language: str) -> str:
    """Returns the table of accuracy and speed, a row for each job, and where and when it was measured."""
    text, jobs = TEXTS[language], dict[str, dict[int, dict[str, Any]]]()
    for record in records:
        jobs.setdefault(job_of(record), {})[record["config"]["seed"]] = record
    rows = [text["head"], "|---|--:|--:|--:|--:|--:|"]
    for job, by_seed in sorted(jobs.items(), key=lambda item: (next(iter(item[1].values()))["steps"], item[0])):
        rows.append(_row(f"`{job}`" if job else text["defaults"], list(by_seed.values())))
    environment = records[-1]["environment"]
    note = text["note"].format(
        runs=max(map(len, jobs.values())),
        device=environment["device_name"],
        tfds=environment["tensorflow_datasets"],
        commit=(environment["git_commit"] or "unknown")[:12],
        **{key: environment[key] for key in ("date", "cores", "os", "python", "tensorflow")},
    )
    return "\n".join([*rows, "", note])


def _row(job: str, records: list[dict[str, Any]]) -> str:
    accuracies = [record["test_accuracy"] for record in records]
    spread = f" ± {statistics.stdev(accuracies):.4f}" if len(accuracies) > 1 else ""
    times = [record["us_per_step"] for record in records]
    seconds = statistics.median(record["seconds"]["train"] for record in records)
    rate = statistics.median(record["examples_per_second"] for record in records)
    return (
        f"| {job} | {records[0]['steps']:,} | {statistics.mean(accuracies):.4f}{spread} | {seconds:.2f} | "
        f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f}) | {rate:,.0f} |"
    )


def _quoted(path: pathlib.Path) -> str:
    return f"```text\n{path.read_text()}```"


def flags_table() -> str:
    """Returns the table of train.py's flags: name, default and what it does."""
    rows = ["| flag | default | what it does |", "|---|---|---|"]
    for field in dataclasses.fields(flags.Config):
        name = f"`--[no]{field.name}`" if field.metadata["parser"] is SWITCH else f"`--{field.name}`"
        default = "" if field.default is None else f"`{str(field.default).lower()}`"
        choices = getattr(field.metadata["parser"], "enum_values", ())
        allowed = f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""
        rows.append(f"| {name} | {default} | {field.metadata['help'].replace('|', chr(92) + '|')}{allowed} |")
    return "\n".join(rows)


def blocks(folder: pathlib.Path, records: list[dict[str, Any]], language: str) -> dict[str, str]:
    """Returns the blocks of the README in a language; the table of flags is written in English alone."""
    found = {
        "output": _quoted(folder / "main_job.txt"),
        "predict": _quoted(folder / "predict.txt"),
        "results": results_table(records, language),
    }
    return found | ({"flags": flags_table()} if language == "en" else {})


def measure(config: Config) -> None:
    """Makes the records if asked to, and writes every block of both READMEs."""
    folder = pathlib.Path(config.records)
    if config.run:
        make_records(config, folder)
    records = read_records(folder)
    for language, path in READMES.items():
        rewrite_blocks(path, blocks(folder, records, language))


if __name__ == "__main__":
    runs.main(Config, measure, __doc__)
