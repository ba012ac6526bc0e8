"""What runs elsewhere: the workflows of CI and of releases, and the hooks of pre-commit."""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_ci_runs_its_script_on_the_oldest_supported_python_and_a_newer_one() -> None:
    ci = text(".github/workflows/ci.yml")
    (listed,) = re.findall(r"python: \[(.*)\]", ci)
    oldest, newest = (tuple(map(int, version.split("."))) for version in re.findall(r"[\d.]+", listed))
    (supported,) = re.findall(
        r">=3\.(\d+)", tomllib.loads(text("pyproject.toml"))["project"]["requires-python"]
    )
    assert oldest == (3, int(supported)) < newest
    assert "bash .ci/run" in ci


def test_actions_are_pinned_to_a_version() -> None:
    used = [action for path in WORKFLOWS for action in re.findall(r"uses: (\S+)", path.read_text())]
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+\.\d+\.\d+", action) for action in used), used


def test_the_release_s_notes_and_version_are_where_it_looks_for_them() -> None:
    (version,) = re.findall(r'^__version__ = "(.*)"$', text("bnn/__init__.py"), re.MULTILINE)
    assert re.search(rf"^## {re.escape(version)} ", text("CHANGELOG.md"), re.MULTILINE)


def test_pre_commit_checks_what_make_lint_checks() -> None:
    dry = subprocess.run(
        ["make", "--dry-run", "lint"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    linted = re.findall(r"^\.venv/bin/(ruff check|ruff format --check|mypy)", dry, re.MULTILINE)
    hooked = re.findall(
        r"entry: \.venv/bin/(ruff check|ruff format --check|mypy)", text(".pre-commit-config.yaml")
    )
    assert hooked == linted
    assert len(linted) == 3
