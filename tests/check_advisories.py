"""Shows that no version in constraints.txt has a known hole: `python tests/check_advisories.py`.

It needs the program `pip-audit`, which asks the Python Package Index for published advisories, anywhere on
the PATH: `pip install pip-audit`. An advisory that is no concern here stands, with the reason, under "Known
holes" in docs/security.md, and is passed over. The exit status is 1 where there is another, and 2 where
nothing could be learnt of some versions: that none is told of them does not mean that there is none.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
AUDIT = ("pip-audit", "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off")
ADVISORY = r"\b(?:PYSEC-\d{4}-\d+|CVE-\d{4}-\d+|GHSA(?:-[0-9a-z]{4}){3})\b"


def main() -> int:
    """Prints a line for each advisory that was not weighed, and what it could not learn of."""
    weighed = set(re.findall(ADVISORY, (ROOT / "docs" / "security.md").read_text("utf-8")))
    audited = audit(ROOT / "constraints.txt")
    unknown = [one["name"] for one in audited if "skip_reason" in one]
    found = [line for one in audited for line in holes(one, weighed)]
    for line in found:
        print(line)
    print(
        f"{len(audited) - len(unknown)} of {len(audited)} versions were looked up: {len(found)} known holes."
    )
    if unknown:
        print(f"Nothing could be learnt of {len(unknown)}: {', '.join(unknown)}.")
    return 1 if found else 2 * bool(unknown)


def audit(pins: Path) -> list[dict[str, Any]]:
    """What is known of each version in `pins`.

    Raises:
        SystemExit: `pip-audit` is not there, or could ask nobody.
    """
    try:
        done = subprocess.run([*AUDIT, "--requirement", str(pins)], capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit("There is no program pip-audit: get it by `pip install pip-audit`.")
    try:
        told: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        sys.exit(f"pip-audit ended with status {done.returncode}:\n{done.stderr}")
    return told


def holes(one: dict[str, Any], weighed: set[str]) -> list[str]:
    """A line for each advisory on a version that is not among the `weighed` ones, under any of its names."""
    return [
        f"{one['name']} {one['version']}: {' '.join([hole['id'], *hole['aliases']])}, mended in "
        f"{' or '.join(hole['fix_versions']) or 'no version'}"
        for hole in one.get("vulns", ())
        if not weighed & {hole["id"], *hole["aliases"]}
    ]


if __name__ == "__main__":
    sys.exit(main())
