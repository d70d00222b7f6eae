"""The house: imports go one way, from room to room, and never in a circle."""

import ast
import graphlib

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


def modules(root):
    """Returns the files of the project, without its tests, by their modules' names."""
    paths = [path.relative_to(root) for path in (*root.glob("*.py"), *root.glob("[a-z]*/**/*.py"))]
    names = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths]
    found = {name: root / path for name, path in zip(names, paths, strict=True)}
    return {name: path for name, path in found.items() if name.split(".")[0] != "tests"}


def imported(code, known):
    """Yields the modules that code imports: inside functions, and for types alone, too."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else node.module for name in names)


def room_of(module):
    """Returns the room that a module lies in, the innermost."""
    rooms = [room for room in FLOOR_OF if f"{module}.".startswith(f"{room}.")]
    return max(rooms, key=len)


def test_imports_go_one_way_and_never_in_a_circle():
    paths = modules(PROJECT)
    imports = {
        name: paths.keys() & imported(path.read_text(), paths) for name, path in paths.items()
    }
    assert "data" in imports["runtime.state"]
    for module, others in imports.items():
        for room in {room_of(other) for other in others} - {room_of(module)}:
            assert FLOOR_OF[room] < FLOOR_OF[room_of(module)], f"{module} imports {room}"
    graphlib.TopologicalSorter(imports).prepare()
