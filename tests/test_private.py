"""What is private of Gradio, Lightning, Pyro and PyTorch stands in one file each, with the version read."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "bnn"
PRIVATE = {  # by the package that its version is pinned under
    "gradio": "app/gradio_private.py",
    "pytorch-lightning": "training/lightning_private.py",
    "pyro-ppl": "training/pyro_private.py",
    "torch": "core/torch_private.py",
}
LIBRARIES = ("gradio", "lightning_fabric", "pytorch_lightning", "pyro")
# Without an underscore, but promised by no documentation all the same.
UNPROMISED = (
    *("preprocess_data", "GRADIO_CACHE", "GRADIO_ANALYTICS", "state_session_capacity", "has_launched"),
    *("is_running", "prune_subsample_sites", "is_observed", "lightning_fabric"),
)
OTHERS = sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / file for file in PRIVATE.values()})


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def own(trees: list[ast.Module]) -> set[str]:
    """The private names that these modules define: functions, classes, variables, and attributes of self."""
    names: set[str] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
    return set(filter(is_private, names))


def used(tree: ast.Module) -> Iterator[str]:
    """The private names in a module that are attributes, or imported from one of the libraries."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name):
                yield name
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] in LIBRARIES:
                yield from (part for alias in names for part in (*module.split("."), alias.name))


def overridden(module: str) -> Iterator[str]:
    """Private methods of a library's class that a class of ours in `module` defines anew."""
    for made in vars(import_module(module)).values():
        if isinstance(made, type) and made.__module__ == module:
            theirs = [one for one in made.__mro__ if one.__module__.split(".")[0] in LIBRARIES]
            known = {name for one in theirs for name, value in vars(one).items() if callable(value)}
            yield from (
                f"{made.__name__}.{name}" for name in vars(made) if is_private(name) and name in known
            )


TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in OTHERS}
OWN = own(list(TREES.values()))


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_elsewhere_nothing_private_is_used(path: Path) -> None:
    names = set(filter(is_private, used(TREES[path])))
    assert not names - OWN
    words = re.compile(rf"\b(?:{'|'.join(UNPROMISED)})")
    assert not words.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("room", ["app", "training"])
def test_elsewhere_no_class_overrides_what_is_private(room: str) -> None:
    paths = [path for path in OTHERS if path.parent == PACKAGE / room and path.stem != "__init__"]
    assert not [name for path in paths for name in overridden(f"bnn.{room}.{path.stem}")]


@pytest.mark.parametrize(("package", "file"), PRIVATE.items())
def test_the_version_it_was_read_in_is_the_one_that_is_installed_for_all(package: str, file: str) -> None:
    pinned = re.search(rf"^{package}==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    told = ast.get_docstring(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))) or ""
    assert pinned
    assert re.search(rf"^Read in \w+ {re.escape(pinned[1])}\. ", told, re.M), f"read {file} again"


def test_what_is_private_is_found_by_these_tests() -> None:
    assert set(overridden("bnn.training.lightning_private")) == {"ComponentBar._get_train_description"}
    assert "LeanMeanFieldELBO._get_trace" in set(overridden("bnn.training.pyro_private"))
    tree = ast.parse("from pyro.poutine import _secret\nx._get_trace()")
    assert set(filter(is_private, used(tree))) - OWN == {"_secret", "_get_trace"}
