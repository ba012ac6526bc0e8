"""The tour: it runs without data and network, what is stored of it is what it does, and its story holds."""

import base64
import io
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import programs
import pytest
from PIL import Image

nbformat = pytest.importorskip("nbformat", reason="the notebook's reader, nbformat, is not installed")
for needed in ("nbclient", "ipykernel"):
    pytest.importorskip(needed, reason="what runs notebooks, nbclient and ipykernel, is not installed")

pytestmark = pytest.mark.examples

EXAMPLES = Path(__file__).parents[1] / "examples"
TOUR = EXAMPLES / "tour.ipynb"
PLACES = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "BNN_DATA_DIR")
NO_NETWORK = """
import pathlib
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise ConnectionError("the tour needs no network")

sys.addaudithook(refuse)
pathlib.Path("no-network").touch()
"""
"""What the kernel runs first; the file says that it did."""


@pytest.fixture(scope="module")
def stored() -> Any:
    return nbformat.read(TOUR, as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook stored anew in a folder of its own, without data, network, or settings of Jupyter."""
    folder, settings = tmp_path_factory.mktemp("tour"), tmp_path_factory.mktemp("settings")
    for file in ("make_tour.py", "tour.ipynb"):
        shutil.copy(EXAMPLES / file, folder)
    startup = settings / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "no_network.py").write_text(NO_NETWORK)
    env = os.environ | dict.fromkeys(PLACES, str(settings)) | {"OMP_NUM_THREADS": "1"}  # as in `conftest`
    env.pop("MPLBACKEND", None)
    command = [sys.executable, str(folder / "make_tour.py")]
    programs.printed(*command, env=env)
    assert (folder / "no-network").exists()
    return nbformat.read(folder / "tour.ipynb", as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(notebook: Any) -> dict[str, list[tuple[str, str]]]:
    """What each cell, by its id, prints and shows, in words: (kind, text)."""
    return {cell.id: [_in_words(output) for output in cell.outputs] for cell in code(notebook)}


def _in_words(output: Any) -> tuple[str, str]:
    return (output.name, output.text) if "text" in output else (output.output_type, output.data["text/plain"])


def pictures(notebook: Any) -> list[bytes]:
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    return [base64.b64decode(output.data["image/png"]) for output in outputs if "data" in output]


def printed(notebook: Any, cell: str) -> list[str]:
    return "".join(text for kind, text in texts(notebook)[cell] if kind == "stdout").splitlines()


def test_it_is_short(stored: Any) -> None:
    assert len(stored.cells) < 20
    assert max(len(cell.source.splitlines()) for cell in code(stored)) < 20
    assert TOUR.stat().st_size < 300_000
    assert max(map(len, pictures(stored))) < 40_000


def test_it_is_stored_clean(stored: Any) -> None:
    nbformat.validate(stored)
    python = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert stored.metadata == {"kernelspec": python, "language_info": {"name": "python"}}
    assert not any(cell.metadata for cell in stored.cells)
    assert [cell.execution_count for cell in code(stored)] == list(range(1, len(code(stored)) + 1))
    outputs = [output for outputs in texts(stored).values() for output in outputs]
    assert {kind for kind, _ in outputs} == {"stdout", "display_data"}  # no warnings, no errors
    assert not any(re.search(r"(^|\s)(/|[A-Z]:\\)\w", text) for _, text in outputs)  # no absolute paths


def test_what_is_stored_is_what_it_does(stored: Any, executed: Any) -> None:
    assert texts(stored) == texts(executed)
    for old, new in zip(pictures(stored), pictures(executed), strict=True):
        before, after = (Image.open(io.BytesIO(picture)) for picture in (old, new))
        assert (before.format, before.size) == ("PNG", after.size)


def test_the_digit_is_answered_and_the_others_refused_for_their_reasons(executed: Any) -> None:
    digit, ambiguous, letter = printed(executed, "decide")
    assert re.match(r"answered +answer +4 .*candidates \(4,\)", digit)
    assert re.match(r"ambiguous +answer -1 .*candidates \((4, 9|9, 4)\)", ambiguous)
    assert re.match(r"unfamiliar +answer -1 ", letter)


def test_who_promises_more_refuses_more_until_it_cannot_be_shown(executed: Any) -> None:
    *kept, impossible = printed(executed, "recalibrate")
    shares = [float(share) for line in kept for share in re.findall(r"([\d.]+)%", line)]
    assert len(shares) == len(kept) >= 2
    assert shares == sorted(set(shares), reverse=True)
    assert "ambiguous" not in kept[0]
    assert all(line.endswith("ambiguous") for line in kept[1:])
    assert "cannot show a risk" in impossible
