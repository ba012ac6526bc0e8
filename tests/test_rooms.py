"""The rooms of the package: no module imports from a higher room, nor from another room of its own floor."""

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "bnn"
FLOORS = (  # from the lowest to the highest; a name is a folder's or a module's
    ("errors", "files", "numerals", "progress", "tables"),
    ("core",),
    ("data", "ood", "rules"),
    (
        "adaptive",
        "classifier",
        "decisions",
        "explanation",
        "export",
        "monitoring",
        "prediction",
        "reading",
        "review",
    ),
    ("training", "evaluation", "scoring", "portable", "app"),
    ("cli",),
)
ONE_ROOM = (0, 3)  # floors whose modules are one room, and may import one another
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
SURFACE = "bnn"  # the package's own names, which stand above all rooms
ANYWHERE = "bnn.__version__"  # the one of them that is no other module's


def modules() -> dict[str, Path]:
    """Every module by its name, but for the surface."""
    files = {path: path.relative_to(ROOT).with_suffix("") for path in PACKAGE.rglob("*.py")}
    named = {".".join(file.parts).removesuffix(".__init__"): path for path, file in files.items()}
    return {name: path for name, path in named.items() if name != SURFACE}


def imported(source: str, known: Mapping[str, object]) -> Iterator[tuple[int, str]]:
    """Line and module of every import of ours in `source`, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), level=0, names=names):
                inner = [f"{module}.{alias.name}" for alias in names]
                found = [name if name in known or name == ANYWHERE else module for name in inner]
            case ast.ImportFrom():
                found = ["a relative import"]
            case _:
                continue
        ours = {name for name in found if f"{name}.".startswith((f"{SURFACE}.", "a relative"))}
        yield from ((node.lineno, name) for name in sorted(ours - {ANYWHERE}))


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def is_allowed(importer: str, target: str) -> bool:
    here, there = room(importer), room(target)
    if here == there:
        return True
    if here not in FLOOR or there not in FLOOR:
        return False
    return FLOOR[there] < FLOOR[here] or (FLOOR[here] == FLOOR[there] and FLOOR[here] in ONE_ROOM)


MODULES = modules()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_own_room_and_lower_ones(module: str) -> None:
    path = MODULES[module]
    assert room(module) in FLOOR, f"{path} stands in no room: add it to FLOORS and to CONTRIBUTING.md"
    found = imported(path.read_text(encoding="utf-8"), MODULES)
    upward = [f"line {line}: {target}" for line, target in found if not is_allowed(module, target)]
    assert not upward, f"{path.relative_to(ROOT)} imports from where it may not: {'; '.join(upward)}"


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = {
        module: {target for _, target in imported(path.read_text(encoding="utf-8"), MODULES)} - {module}
        for module, path in MODULES.items()
    }
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    "line",
    [
        "import bnn.training.guide",
        "from bnn.training.guide import GUIDES",
        "from bnn.training import guide as g",
        "from bnn import training",
        "from bnn import Classifier",
        "if TYPE_CHECKING:\n    from bnn.app.page import build_page",
        "def late():\n    from bnn.cli.command import main",
        "from ..rules import table",
    ],
)
def test_an_upward_import_is_found_wherever_it_stands(line: str) -> None:
    assert [target for _, target in imported(line, MODULES) if not is_allowed("bnn.core.task", target)]


@pytest.mark.parametrize(
    "line", ["from bnn import __version__", "from bnn.errors import InputError", "import bnnet, torch"]
)
def test_what_every_room_may_import_is_let_pass(line: str) -> None:
    assert all(is_allowed("bnn.core.task", target) for _, target in imported(line, MODULES))


def test_the_contributors_table_says_the_same() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| (.+?) \|", text, re.MULTILINE)
    told = {int(number): re.findall(r"`(\w+)(?:/|\.py)`", rooms) for number, rooms in rows}
    assert told == {number: list(rooms) for number, rooms in enumerate(FLOORS)}
