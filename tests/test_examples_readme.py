"""The course: its links lead somewhere, `make examples` runs what it lists, its code runs as written."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.examples

EXAMPLES = Path(__file__).parents[1] / "examples"
README = (EXAMPLES / "README.md").read_text()


def test_its_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (EXAMPLES / link).exists(), link


def test_make_runs_every_example_it_lists() -> None:
    listed = re.findall(r"^\| \d .*\((\w+\.(?:py|ipynb))\)", README, re.MULTILINE)
    dry = ["make", "--dry-run", "--assume-old=.venv/examples", "examples"]
    commands = subprocess.run(dry, cwd=EXAMPLES.parent, capture_output=True, text=True, check=True).stdout
    (course,) = re.findall(r"for name in ([\w ]+);", commands)
    assert listed == ["tour.ipynb", *(f"{name}.py" for name in course.split())]
    assert "examples/tour.ipynb" in commands


def test_its_python_runs_as_written() -> None:
    pytest.importorskip("arviz", reason="ArviZ, which the examples need, is not installed")
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert dict(names["found"]["posterior"].sizes)["draw"] == 10
