"""The check of pinned versions against advisories: what it passes over, and what it must not."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from check_advisories import holes
from programs import finished

ROOT = Path(__file__).parents[1]
CHECK = ROOT / "tests" / "check_advisories.py"
HOLE = {"id": "PYSEC-2099-1", "aliases": ["CVE-2099-12345"], "fix_versions": ["9.9"]}


@pytest.mark.skipif(sys.platform == "win32", reason="its stand-in for pip-audit is a shell script")
@pytest.mark.parametrize(
    ("of_it", "status", "says"),
    [
        ({"vulns": []}, 0, "1 of 1 versions were looked up: 0 known holes."),
        ({"vulns": [HOLE]}, 1, "a 1.0: PYSEC-2099-1 CVE-2099-12345, mended in 9.9"),
        ({"vulns": [HOLE | {"fix_versions": []}]}, 1, "mended in no version"),
        ({"skip_reason": "not found"}, 2, "Nothing could be learnt of 1: a."),
    ],
)
def test_a_hole_and_a_version_of_which_nothing_is_known_are_told_apart(
    of_it: dict[str, Any], status: int, says: str, tmp_path: Path
) -> None:
    told = {"dependencies": [{"name": "a", "version": "1.0"} | of_it]}
    (tmp_path / "told.json").write_text(json.dumps(told))
    (tmp_path / "pip-audit").write_text(f"#!/bin/sh\ncat '{tmp_path}/told.json'\n")
    (tmp_path / "pip-audit").chmod(0o755)
    done = finished(
        sys.executable, str(CHECK), env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    )
    assert (done.returncode, says in done.stdout) == (status, True), done.stdout + done.stderr


def test_an_advisory_that_was_weighed_is_passed_over_by_any_of_its_names() -> None:
    one = {"name": "a", "version": "1.0", "vulns": [HOLE]}
    assert holes(one, {"CVE-2099-12345"}) == holes(one, {"PYSEC-2099-1"}) == []
    assert len(holes(one, {"CVE-2099-1"})) == 1
