"""The public surface: what `bnn` offers, that its examples run, what is said where a package is missing."""

import ast
import doctest
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bnn

ROOT = Path(__file__).parents[1]
SLOW = (
    "bnn.training.train.train",
    "bnn.training.adaptation.adapt",
    "bnn.training.sklearn.BayesianClassifier",
    "bnn.evaluation.results.Report",
    "bnn.evaluation.evaluate.evaluate",
)
# Of which an example is asked that runs; of a module that stands in `bnn.__all__` its first docstring's.
METHODS = {
    bnn.Classifier: (
        *("load", "predict", "predict_stream", "votes", "networks", "with_draws", "with_rule"),
        *("with_promise", "calibrate", "with_scores", "save"),
    ),
    bnn.ImageSet: ("from_arrays", "from_folder", "from_name", "from_torchvision"),
    bnn.Prediction: ("to_pandas",),
}
OFFERED = [
    *((name, getattr(bnn, name)) for name in bnn.__all__),
    *((f"{cls.__name__}.{name}", getattr(cls, name)) for cls, names in METHODS.items() for name in names),
]


def modules() -> list[ModuleType]:
    """Where the public names stand."""
    homes = {thing.__name__ if isinstance(thing, ModuleType) else thing.__module__ for _, thing in OFFERED}
    return [bnn, *(importlib.import_module(name) for name in sorted(homes))]


EXAMPLES = [
    example
    for module in modules()
    for example in doctest.DocTestFinder(exclude_empty=True).find(module)
    if example.examples
]


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if name in SLOW else []


@pytest.mark.parametrize(("name", "thing"), OFFERED, ids=[name for name, _ in OFFERED])
def test_every_public_name_is_explained_by_an_example(name: str, thing: Any) -> None:
    assert any(thing.__doc__ == example.docstring for example in EXAMPLES), name


@pytest.mark.parametrize(
    "example", [pytest.param(one, id=one.name, marks=marks(one.name)) for one in EXAMPLES]
)
def test_the_examples_run_as_they_are_written(
    example: doctest.DocTest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("bnn.training.adaptation.STEPS", 10)  # no example shows how far it moves
    failed, tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert tried == len(example.examples)
    assert failed == 0, capsys.readouterr().out


def test_dir_shows_the_names_and_nothing_else() -> None:
    assert dir(bnn) == sorted([*bnn.__all__, "__version__"])
    assert bnn.__all__ == sorted(bnn.__all__)
    tree = ast.parse(Path(bnn.__file__ or "").read_text(encoding="utf-8"))
    shown = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        for imported in node.body
        if isinstance(imported, ast.ImportFrom)
        for alias in imported.names
    }
    assert shown | {"InputError"} == set(bnn.__all__)  # what type checkers and editors see


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match=r"^module 'bnn' has no attribute 'clasifier'$"):
        _ = bnn.clasifier
    assert not hasattr(bnn, "clasifier")


def test_its_types_ship() -> None:
    assert resources.files("bnn").joinpath("py.typed").is_file()


@pytest.fixture(scope="module")
def brought_by() -> dict[str, set[str]]:
    """What each of these programs imports of torch, Pyro and the like, in a process of its own."""
    programs = {
        "import bnn": "import bnn",
        "Classifier": "import bnn; bnn.Classifier",
        "evaluate": "import bnn; bnn.evaluate",
    }
    heavy = ("torch", "pyro", "pytorch_lightning", "gradio", "matplotlib", "sklearn", "pandas", "torchvision")
    shown = f"; import sys; print(*(set(sys.modules) & {set(heavy)}))"
    return {
        name: set(
            subprocess.run(
                [sys.executable, "-c", program + shown], capture_output=True, text=True, check=True
            ).stdout.split()
        )
        for name, program in programs.items()
    }


def test_importing_it_brings_nothing_heavy_and_deciding_and_measuring_need_torch_alone(
    brought_by: dict[str, set[str]],
) -> None:
    assert brought_by == {"import bnn": set(), "Classifier": {"torch"}, "evaluate": {"torch"}}


MISSING = [  # of a name, a package that it needs, and the group of packages that brings it
    ("plot_votes", "matplotlib", "evaluate"),
    ("train", "pyro", "train"),
    ("train", "pytorch_lightning", "train"),
    ("adapt", "pyro", "train"),
    ("BayesianClassifier", "sklearn", "train"),
]
WITHOUT = """
import sys, bnn
for name, missing in zip(sys.argv[1::2], sys.argv[2::2]):
    sys.modules[missing] = None  # Python's own sign for: cannot be imported
    try:
        getattr(bnn, name)
    except bnn.InputError as error:
        print(error)
    del sys.modules[missing]
"""


@pytest.mark.slow
def test_where_a_package_is_missing_it_says_how_to_get_it() -> None:
    asked = [part for name, missing, _ in MISSING for part in (name, missing)]
    told = subprocess.run([sys.executable, "-c", WITHOUT, *asked], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == [
        f"bnn.{name} needs {missing}, which is not installed: get it by `pip install 'bnn[{extra}]'`."
        for name, missing, extra in MISSING
    ]


def sentences(path: Path) -> Iterator[str]:
    """The text of every `InputError` that is raised in a file, with what is filled in left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError":
            parts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
            yield "".join(part for part in parts if isinstance(part, str))


def test_errors_of_the_python_surface_name_arguments() -> None:
    """An option of the command may stand in brackets behind the argument."""
    rooms = [path for path in (ROOT / "bnn").rglob("*.py") if path.parent.name not in ("app", "cli")]
    said = {path: list(sentences(path)) for path in rooms}
    assert sum(map(len, said.values())) > 60
    allowed = re.compile(r"\((trainer_options, )?--[a-zA-Z.-]+\)|`bnn train --out ")
    for path, texts in said.items():
        for text in texts:
            text = allowed.sub("", text)
            # Of resuming, and of components as separate jobs, the command alone knows.
            if path.name not in ("runs.py", "merge.py"):
                assert "--" not in text, f"{path.name}: {text}"
