"""The house: imports go one way, from room to room, and never in a circle."""

import ast
import graphlib
import pathlib
from collections.abc import Iterator

from tests.conftest import PROJECT

# The rooms from the ground up. A module imports from its own room, and from those on lower floors.
FLOORS = (
    ("common",),
    ("flags",),
    ("model", "runtime.plan", "storage"),
    ("data",),
    ("runtime",),
    ("callbacks",),
    ("train", "predict"),
    ("comparison", "sweeps"),
    ("compare", "sweep", "benchmarks"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the files of the rooms by their modules' names."""
    rooms = {room.partition(".")[0] for room in FLOOR_OF}
    paths = [
        path
        for room in rooms
        for path in (root / f"{room}.py", *(root / room).rglob("*.py"))
        if path.is_file()
    ]
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


def imported(code: str, known: set[str]) -> Iterator[str]:
    """Yields the known modules that code imports: inside functions, and for types alone, too."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from ({alias.name for alias in node.names} & known)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "an import that is relative"
            for alias in node.names:
                yield from [
                    name
                    for name in (f"{node.module}.{alias.name}", node.module or "")
                    if name in known
                ][:1]


def graph(root: pathlib.Path) -> dict[str, set[str]]:
    """Returns what each module of the rooms imports of them."""
    found = modules(root)
    return {name: set(imported(path.read_text(), set(found))) for name, path in found.items()}


def room_of(module: str) -> str:
    """Returns the room that a module lies in, the innermost."""
    parts = module.split(".")
    return next(
        room for end in range(len(parts), 0, -1) if (room := ".".join(parts[:end])) in FLOOR_OF
    )


def upwards(imports: dict[str, set[str]]) -> list[str]:
    """Returns the imports that lead to a room that is not on a lower floor."""
    return [
        f"{module} imports {other}"
        for module, others in sorted(imports.items())
        for other in sorted(others)
        if room_of(module) != room_of(other)
        and FLOOR_OF[room_of(other)] >= FLOOR_OF[room_of(module)]
    ]


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Returns modules of which each imports the next and the last is the first; none if there is no
    circle."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_imports_go_one_way() -> None:
    assert upwards(graph(PROJECT)) == []


def test_no_imports_go_in_a_circle() -> None:
    imports = graph(PROJECT)
    assert {"data", "storage.dataset"} <= set(imports) and "data" in imports["runtime.state"]
    assert circle(imports) == []


def test_every_module_lies_in_a_room() -> None:
    beside = {path.stem for path in PROJECT.glob("*.py")}
    beside |= {path.parent.name for path in PROJECT.glob("[!.]*/*.py")} - {"tests"}
    assert beside <= {room.partition(".")[0] for room in FLOOR_OF}
