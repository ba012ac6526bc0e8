"""The comparison of Pyro and PyMC: no claim without version and source, and what can be checked is true."""

import os
import pydoc
import re
import sys
from importlib.metadata import distribution, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from programs import finished, printed

pytestmark = [
    pytest.mark.examples,
    pytest.mark.skipif(find_spec("pymc") is None, reason="the comparison is with PyMC"),
]

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "examples" / "pyro-vs-pymc.md").read_text(encoding="utf-8")
MODELS = ("Coin", "Beta-Binomial", "Softmax regression")
TAGS = {
    "pymc-devs/pymc": ("pymc", "v"),
    "pymc-devs/pytensor": ("pytensor", "rel-"),
    "arviz-devs/arviz": ("arviz", "v"),
    "pytorch/pytorch": ("torch", "v"),
}
"""How the repositories name the tag of a version."""


def release(package: str) -> str:
    """The installed version, without the part that says for which machine it was built."""
    return version(package).partition("+")[0]


def section(title: str) -> str:
    """What stands below a heading."""
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def table(text: str) -> list[list[str]]:
    """The rows of a table in Markdown, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


FACTS = table(section("Facts"))
CORRECTIONS = [line for line in section("Commonly said wrongly").splitlines() if line.startswith("- ")]


@pytest.mark.parametrize("row", FACTS, ids=lambda row: row[0])
def test_every_claim_has_a_version_and_a_source(row: list[str]) -> None:
    _, *claims = row
    for claim, package in zip(claims, ("pyro-ppl", "pymc"), strict=True):
        assert claim.startswith(release(package))
        assert "](https://" in claim


def test_every_topic_is_there() -> None:
    topics = ("built on", "a model is", "mcmc", "variational", "mini-batches", "neural", "gpu", "diagnostics")
    rows = " ".join(row[0].lower() for row in FACTS)
    assert [topic for topic in topics if topic not in rows] == []


@pytest.mark.parametrize("package", ["pyro-ppl", "pymc", "pytensor", "arviz", "torch"])
def test_the_versions_named_first_are_the_installed_ones(package: str) -> None:
    names = {"pyro-ppl": "Pyro", "pymc": "PyMC", "pytensor": "PyTensor", "arviz": "ArviZ", "torch": "PyTorch"}
    named = re.findall(rf"\b{names[package]} (\d+\.\d+\.\d+)", PAGE.split("\n## ")[0])
    assert named == [release(package)]


def test_linked_source_files_are_of_the_installed_version_and_exist() -> None:
    links = re.findall(r"https://github\.com/([\w-]+/\w+)/blob/([\w.-]+)/([\w./-]+)", PAGE)
    links = [link for link in links if link[1] != "main"]
    assert links
    for repository, tag, path in links:
        package, prefix = TAGS[repository]
        assert tag == prefix + release(package)
        if path.endswith(".py"):
            assert Path(str(distribution(package).locate_file(path))).is_file(), path


@pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS:UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning:arviz.*")
def test_every_name_in_the_table_exists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTENSOR_FLAGS", f"base_compiledir={tmp_path}")
    names = set(re.findall(r"`((?:pyro|pymc|arviz|torch)\.[\w.]+)`", section("Facts")))
    assert len(names) > 30
    assert [name for name in sorted(names) if pydoc.locate(name) is None] == []
    assert pydoc.locate("pymc.nn") is None


def needed(package: str) -> dict[str, str]:
    """What a package needs, each with its versions, extras left out."""
    found = [
        re.fullmatch(r"([\w.-]+)(.*)", need) for need in requires(package) or () if "extra ==" not in need
    ]
    return {match[1]: match[2] for match in found if match}


def test_what_they_are_built_on() -> None:
    assert needed("pyro-ppl")["torch"] == ">=2.0"
    assert needed("pymc")["pytensor"].startswith("<2.39,>=2.38")
    assert needed("pymc")["arviz"].startswith("<1")
    assert not {"torch", "theano", "aesara", "jax"} & (needed("pymc").keys() | needed("pytensor").keys())
    assert "fork of `Aesara" in metadata("pytensor").json["description"]


def test_licences_and_pythons() -> None:
    for package, python in (("pyro-ppl", ">=3.8"), ("pymc", ">=3.11")):
        about = metadata(package).json
        assert about["requires_python"] == python
        assert "Apache" in str(about.get("license_expression", about.get("license")))


def test_what_does_not_exist_does_not() -> None:
    import pyro.infer

    assert not hasattr(pyro.infer, "Posterior")
    assert [name for name in ("PyroScript", "pyroscript", "pyro.script") if find_spec(name)] == []


def test_tracing_is_deprecated_in_torch() -> None:
    with pytest.warns(FutureWarning, match="deprecated"):
        torch.jit.trace(torch.nn.Identity(), torch.ones(1))


def test_pytensor_has_no_gpu_back_end_any_more(tmp_path: Path) -> None:
    env = os.environ | {"PYTENSOR_FLAGS": f"base_compiledir={tmp_path},device=cuda"}
    command = [sys.executable, "-c", "import pytensor"]
    done = finished(*command, env=env)
    assert done.returncode != 0
    assert "was removed from PyTensor" in done.stderr


def test_every_correction_has_a_source() -> None:
    assert len(CORRECTIONS) >= 5
    for line in CORRECTIONS:
        assert "](https://" in line, line
        assert re.search(r"\d+\.\d+|version \d", line), line


def test_the_ratios_have_a_row_for_each_model() -> None:
    rows = table(section("Speed"))
    assert [row[0] for row in rows] == list(MODELS)
    for _, *ratios in rows:
        for ratio in ratios:
            assert re.fullmatch(r"[\d.]+( \([\d.]+ to [\d.]+\))?", ratio), ratio


def test_the_benchmark_runs_as_written_and_prints_a_row_of_the_table() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "bench_pyro_pymc.py"), "--tiny"]
    shown = printed(*command)
    ((model, *ratios),) = table(shown)
    assert model == MODELS[0]
    assert all(float(ratio.split()[0]) > 0 for ratio in ratios)
    head = shown[shown.index("|") :].splitlines()[0]
    assert head in PAGE
