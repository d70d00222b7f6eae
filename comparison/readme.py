"""Fills the tables of the comparison in both READMEs from docs/comparison: python -m comparison.readme"""

import dataclasses
import pathlib
from typing import Any

from benchmarks.pages import PROJECT, READMES, rewrite_blocks
from common.errors import exit_with_one_line
from comparison import machine, stats, summary, sweep, tables
from comparison.options import Config
from comparison.results import Results, load

FOLDER = pathlib.Path("docs", "comparison")
TEXTS: dict[str, dict[str, Any]] = {
    "en": {
        "speed": tables.SPEED,
        "outside": tables.OUTSIDE,
        "words": {},
        "batch": "batch {:,}",
        "limit": "limit",
        "arithmetic": "arithmetic bounds it from batch",
        "bars": "Microseconds a step of each contender, as bars with their intervals",
        "sweep": "Images a second over the batch size, a curve for each contender, and the limit",
        "note": "Batch {sizes}, {steps:,} steps, {rounds} rounds; {date} on {device}, {cores} cores, TensorFlow "
        "{tensorflow}, commit {commit}.{noise}{busy}  \nEverything, with its notes: [{file}]({file}). Once more: "
        "`{command}`",
        "noise": " Ratios up to {floor:.2f} either way are noise.",
        "busy": " **The machine was not quiet: the notes say how much.**",
    },
    "es": {
        "speed": ("contendiente", "µs/paso [95 %]", "imágenes/s", "× base [95 %]", "", "W, b difieren en"),
        "outside": ("contendiente", "arranque s", "compilar s", "evaluar s", "imágenes de test acertadas"),
        "words": {
            "baseline": "la base",
            "within noise": "dentro del ruido",
            "no baseline": "sin base",
            summary.NOT_THE_SAME: "no es el mismo trabajo",
        },
        "batch": "lote {:,}",
        "limit": "límite",
        "arithmetic": "lo frena la aritmética desde el lote",
        "bars": "Microsegundos por paso de cada contendiente, en barras con sus intervalos",
        "sweep": "Imágenes por segundo según el tamaño del lote, una curva por contendiente, y el límite",
        "note": "Lote {sizes}, {steps:,} pasos, {rounds} rondas; {date} en {device}, {cores} núcleos, TensorFlow "
        "{tensorflow}, commit {commit}.{noise}{busy}  \nTodo, con sus notas (en inglés): [{file}]({file}). Otra vez: "
        "`{command}`",
        "noise": " Las razones de hasta {floor:.2f}, en uno u otro sentido, son ruido.",
        "busy": " **La máquina no estaba en calma: las notas dicen cuánto.**",
    },
}


def blocks(language: str, root: pathlib.Path = PROJECT) -> dict[str, str]:
    """Returns the blocks that the result files under `root` fill; raises InputError if a file is not a result."""
    text = TEXTS[language]
    one, several = (load(root / FOLDER / f"{name}.json") for name in ("batch10", "sweep"))
    rows = summary.rows(one, one.jobs[0].batch_size)
    speeds = [tables.speed_cells(row) for row in rows]
    for cells in speeds:
        cells[4] = text["words"].get(cells[4], cells[4])
    outside = tables.table(text["outside"], [tables.outside_cells(row) for row in rows])
    return {
        "peers": f"{tables.table(text['speed'], speeds)}\n\n{note(one, 'batch10', text)}",
        "comparison": f"![{text['bars']}]({FOLDER}/batch10-bars.png)\n\n{outside}",
        "sweep": f"{sweep_table(several, text)}\n\n![{text['sweep']}]({FOLDER}/sweep-sweep.png)\n\n"
        f"{note(several, 'sweep', text)}",
    }


def sweep_table(results: Results, text: dict[str, Any]) -> str:
    """Returns images/s by batch size, and from which on arithmetic bounds a contender."""
    _, body = tables.sweep_columns(results)
    bounds = [f"{sweep.arithmetic_from(curve):,}" for curve in sweep.curves(results).values()]
    for place, line in enumerate(body):
        line.append(bounds[place] if place < len(bounds) else "")
        line[0] = line[0] if place < len(bounds) else line[0].replace("limit", text["limit"])
    sizes = [text["batch"].format(job.batch_size) for job in results.jobs]
    return tables.table([text["speed"][2], *sizes, text["arithmetic"]], body)


def note(results: Results, name: str, text: dict[str, Any]) -> str:
    """Returns when, where and how the first machine's run was measured, and how to repeat it."""
    run, job = results.runs[0], results.jobs[0]
    itself = summary.against_itself(run, job.batch_size) if len(results.jobs) == 1 else None
    return text["note"].format(
        sizes=", ".join(f"{each.batch_size:,}" for each in results.jobs),
        steps=job.steps,
        rounds=run.rounds,
        date=run.date,
        device="; ".join(run.devices.values()),
        commit=(run.environment["git_commit"] or "unknown")[:12],
        noise=text["noise"].format(floor=stats.noise_floor(itself)) if itself and itself.n > 1 else "",
        busy=text["busy"] if machine.warnings([sample.quiet for sample in run.samples]) else "",
        file=f"{FOLDER}/{name}.md",
        command=command(run.flags),
        **{key: run.environment[key] for key in ("cores", "tensorflow")},
    )


def command(flags: dict[str, Any]) -> str:
    """Returns the command that measures with these flags; those at their defaults are left out, all but --rounds."""
    said = []
    for field in dataclasses.fields(Config):
        value = flags.get(field.name)
        shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        if value is not None and (field.name == "rounds" or shown != str(field.default)):
            said.append(f"--{field.name}={shown}")
    return " ".join(["python compare.py", *said, "--output=results.json"])


def main() -> None:
    """Fills both READMEs."""
    for language, path in READMES.items():
        rewrite_blocks(path, blocks(language))


if __name__ == "__main__":
    exit_with_one_line(main)
