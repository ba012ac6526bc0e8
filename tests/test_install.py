"""install.sh, until pip takes over: which Python it takes, what it says without one, nothing by halves."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ("sh", "dirname", "touch", "rm", "mkdir", "cat", "chmod", "make", "uname")
OFFER = "PIP_EXTRA_INDEX_URL=<address from pytorch.org> make"

# A Python that is none: it says what one of its version says, and makes an environment whose own Python notes
# what pip is asked for, and fails where there is a file `no-network`.
PYTHON = """#!/bin/sh
case "$*" in
  *'version_info[:2]'*) echo python3.{minor}-venv ;;
  *version_info*) exit {unfit} ;;
  *ensurepip*) exit {lacks_venv} ;;
  --version) echo "Python 3.{minor}.0" ;;
  "-m venv --clear .venv")
    echo {name} >> made
    mkdir -p .venv/bin
    cat > .venv/bin/python << 'END'
#!/bin/sh
case "$*" in
  *find_spec*) exit 1 ;;
  *"pip config"*) echo "$*" >> pip ;;
  *"pip install"*) echo "$PIP_CONSTRAINT $*" >> pip; test ! -e no-network ;;
esac
END
    chmod +x .venv/bin/python ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what an installation reads; the few programs beside it are all that are on the PATH."""
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    (folder := tmp_path / "clone").mkdir()
    for name in ("install.sh", "Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def add_python(clone: Path, name: str, minor: int, *, lacks_venv: bool = False) -> None:
    """Puts `PYTHON` on the PATH under that name."""
    unfit = int(not 11 <= minor < 15)
    path = clone.parent / "bin" / name
    path.write_text(PYTHON.format(name=name, minor=minor, unfit=unfit, lacks_venv=int(lacks_venv)))
    path.chmod(0o755)


def make(clone: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": str(clone.parent / "bin")} | env
    return subprocess.run(
        ["make", *words], cwd=clone, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def refused(done: subprocess.CompletedProcess[str], clone: Path) -> str:
    """What was said where no environment could be made: one sentence, before make's own word."""
    assert done.returncode == 2
    assert not (clone / ".venv").exists()
    sentence, makes_own = done.stderr.splitlines()
    assert makes_own.startswith("make: ***")
    return sentence


@pytest.mark.parametrize(
    ("pythons", "taken"),
    [
        ({"python3": 11}, "python3"),
        ({"python3": 14, "python3.12": 12}, "python3"),
        ({"python3": 10, "python3.11": 11, "python3.13": 13}, "python3.13"),
        ({"python3": 15, "python3.14": 14}, "python3.14"),
        ({"python3.12": 12}, "python3.12"),
    ],
)
def test_the_first_python_that_fits_is_taken(clone: Path, pythons: dict[str, int], taken: str) -> None:
    for name, minor in pythons.items():
        add_python(clone, name, minor)
    done = make(clone, "install")
    assert done.returncode == 0, done.stderr
    assert lines(clone / "made") == [taken]
    assert f"Python 3.{pythons[taken]}.0" in done.stdout


def test_a_name_that_runs_nothing_is_passed_over(clone: Path) -> None:
    (shim := clone.parent / "bin" / "python3").write_text("#!/bin/sh\nexit 127\n")  # as pyenv leaves them
    shim.chmod(0o755)
    add_python(clone, "python3.11", 11)
    assert make(clone, "install").returncode == 0
    assert lines(clone / "made") == ["python3.11"]


def test_the_python_that_is_named_is_taken_or_none(clone: Path) -> None:
    for name, minor in {"python3": 11, "mine": 13, "old": 10}.items():
        add_python(clone, name, minor)
    told = refused(make(clone, "install", "PYTHON=old"), clone)
    assert told == "Python 3.11 to 3.14 is needed, and PYTHON=old is Python 3.10.0."
    assert "PYTHON=nowhere is not to be found" in refused(make(clone, "install", PYTHON="nowhere"), clone)
    assert make(clone, "install", "PYTHON=mine").returncode == 0
    assert lines(clone / "made") == ["mine"]


@pytest.mark.parametrize(("minor", "told"), [(10, "Python 3.10.0"), (None, "not to be found")])
def test_where_no_python_fits_a_sentence_says_what_to_do(clone: Path, minor: int | None, told: str) -> None:
    if minor is not None:
        add_python(clone, "python3", minor)
    sentence = refused(make(clone, "demo"), clone)
    assert "Python 3.11 to 3.14" in sentence
    assert f"python3 is {told}" in sentence
    assert "PYTHON=/path/to/python3.12" in sentence


def test_a_python_without_its_venv_module_is_told_with_the_package_that_brings_it(clone: Path) -> None:
    add_python(clone, "python3", 12, lacks_venv=True)
    assert refused(make(clone, "demo"), clone).endswith("on Debian and Ubuntu the package python3.12-venv.")


def test_what_failed_is_made_anew_and_what_succeeded_is_not(clone: Path) -> None:
    add_python(clone, "python3", 11)
    (clone / "no-network").touch()
    assert make(clone, "install").returncode == 2
    assert not (clone / ".venv" / "all").exists()
    (clone / "no-network").unlink()
    for _ in range(2):
        assert make(clone, "install").returncode == 0
    assert lines(clone / "made") == ["python3", "python3"]
    assert len(lines(clone / "pip")) == 2


def test_an_environment_of_another_python_is_made_anew(clone: Path) -> None:
    add_python(clone, "python3", 11)
    (clone / ".venv" / "bin").mkdir(parents=True)
    add_python(clone, "old", 10)
    (clone.parent / "bin" / "old").rename(clone / ".venv" / "bin" / "python")
    assert make(clone, "install").returncode == 0
    assert lines(clone / "made") == ["python3"]


def test_a_larger_group_holds_the_smaller_and_is_added_to_what_is_there(clone: Path) -> None:
    add_python(clone, "python3", 11)
    for target in (".venv/page", "install", ".venv/page", ".venv/tests", ".venv/examples"):
        assert make(clone, target).returncode == 0
    assert lines(clone / "made") == ["python3"]
    asked = [line.rpartition(" ")[2] for line in lines(clone / "pip")]
    assert asked == [".[page]", ".[all]", ".[tests,lint,bench,docs]"]
    assert all(line.startswith("constraints.txt ") for line in lines(clone / "pip"))


def test_what_comes_later_comes_from_where_the_first_packages_came_from(clone: Path) -> None:
    """PyTorch's builds must match: `make install` brings torchvision, which goes with its own torch alone."""
    add_python(clone, "python3", 11)
    assert make(clone, ".venv/page", PIP_EXTRA_INDEX_URL="file:///somewhere").returncode == 0
    remembered, installed = lines(clone / "pip")
    assert remembered == "-m pip config --site set global.extra-index-url file:///somewhere"
    assert installed.endswith(".[page]")


@pytest.mark.skipif(sys.platform != "linux" or Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_without_a_gpu_the_small_build_is_offered_before_the_large_one_comes(clone: Path) -> None:
    add_python(clone, "python3", 11)
    (clone / "no-network").touch()
    for target in ("demo", "install"):
        said = make(clone, target).stdout
        assert f"\n    {OFFER} {target}\n" in said
        assert said.index(OFFER) < said.index("Installing what is needed")
    assert OFFER not in make(clone, "demo", PIP_EXTRA_INDEX_URL="file:///somewhere").stdout
    add_python(clone, "nvidia-smi", 11)
    assert OFFER not in make(clone, "demo").stdout
