"""The measurements of time and memory run, and the page says what they found."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "performance.py"


@pytest.mark.slow
def test_each_measurement_runs_and_the_page_tells_of_it(
    run_script: Callable[..., str], tmp_path: Path
) -> None:
    for what in ("predict", "step", "cost"):
        run_script(SCRIPT, what, "--tiny", "--out", str(tmp_path))
    run_script(SCRIPT, "page", "--out", str(tmp_path), "--page", str(tmp_path / "page.md"))
    told = (tmp_path / "page.md").read_text()
    measured = [json.loads((tmp_path / f"{what}.json").read_text()) for what in ("cost", "predict", "step")]
    assert told.count("\n## ") == 3
    assert len(re.findall(r"^\| \d", told, re.MULTILINE)) == 2 + 2 * len(measured[1]["seconds"]["1"])
    assert [row["images"] for row in measured[0]["rows"]] == [10, 20]
    assert all(row["seconds"] > 0 and row["peak_mb"] > 0 for row in measured[0]["rows"])
    assert {"ours", "by hand", "a plain network"} == set(measured[2]["seconds"])
