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


def modules():
    """Returns the files of the project, without its tests, by their modules' names."""
    found = {}
    for path in PROJECT.glob("**/[a-z_]*.py"):
        first, *_ = parts = path.relative_to(PROJECT).with_suffix("").parts
        if not first.startswith((".", "tests")):
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imported(code):
    """Yields what code imports, and what may be its names: inside functions too."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            base = getattr(node, "module", None)
            names = [alias.name for alias in node.names]
            yield from [base, *(f"{base}.{name}" for name in names)] if base else names


def room_of(module):
    """Returns the room that a module lies in, the innermost."""
    return max((room for room in FLOOR_OF if f"{module}.".startswith(f"{room}.")), key=len)


def test_imports_go_one_way_and_never_in_a_circle():
    paths = modules()
    imports = {name: paths.keys() & imported(path.read_text()) for name, path in paths.items()}
    assert "data" in imports["runtime.state"]
    for module, others in imports.items():
        for room in {room_of(other) for other in others} - {room_of(module)}:
            assert FLOOR_OF[room] < FLOOR_OF[room_of(module)], f"{module} imports {room}"
    graphlib.TopologicalSorter(imports).prepare()
