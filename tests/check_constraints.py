"""Shows that constraints.txt pins all that any system would install: `python tests/check_constraints.py`.

It resolves every group of packages for each Python and platform that the README names, on this machine, and
downloads nothing but what says which package needs which. It needs the program `uv`, which knows other
platforms' rules (pip's `--platform` goes by this machine's): `pip install uv`, anywhere on the PATH.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = (
    "x86_64-manylinux_2_28",
    "aarch64-manylinux_2_28",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
)
COMPILE = ("uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--all-extras")
WHEELS = ("--only-binary", ":all:", "--constraint", "constraints.txt", "pyproject.toml")


def main() -> int:
    """Prints a line for each system, and what it lacks; returns whether any lacks something."""
    pins = {_normal(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    missed = False
    for platform in PLATFORMS:
        for python in PYTHONS:
            found = resolved(python, platform)
            unpinned = sorted(found - pins)
            missed |= bool(unpinned)
            lacks = ", ".join(unpinned) or "all pinned"
            print(f"Python {python}, {platform}: {len(found)} packages, {lacks}")
    return int(missed)


def resolved(python: str, platform: str) -> set[str]:
    """All packages that this Python on this platform would install, as name==version.

    Raises:
        SystemExit: they cannot be had together.
    """
    where = ("--python-version", python, "--python-platform", platform)
    env = os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run([*COMPILE, *where, *WHEELS], cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"Python {python}, {platform}: {done.stderr}")
    return {_normal(line) for line in done.stdout.splitlines()}


def _normal(pin: str) -> str:
    """`pin` with its name spelt as the packaging standard (PEP 503) says."""
    name, _, version = pin.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"


if __name__ == "__main__":
    sys.exit(main())
