"""The Beta-Binomial example: both libraries agree with the grid and with each other."""

import sys
from collections.abc import Callable, Mapping
from math import hypot, sqrt
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pymc", reason="PyMC, with which the example compares, is not installed")

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))  # its scripts import one another as scripts do
import arviz  # noqa: E402
import beta_binomial as example  # noqa: E402
from shown import Estimate  # noqa: E402

pytestmark = [
    pytest.mark.examples,
    # PyTensor says so where it finds no BLAS.
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS:UserWarning"),
]
DRAWS, TINY_DRAWS = 100, 20  # enough for small Monte Carlo errors, and those of the tiny run
SEED = 1
COUNTS = example.simulate(40, SEED)
LIBRARIES = ("Pyro", "PyMC")

Found = Mapping[str, arviz.InferenceData]


def sampled(draws: int) -> Found:
    return {
        "Pyro": example.in_pyro(COUNTS, draws, SEED),
        "PyMC": example.in_pymc(COUNTS, draws, SEED),
    }


def estimated(found: Found) -> Mapping[str, Mapping[str, Estimate]]:
    """By library, or grid, and quantity."""
    by_library = {method: example.estimates(method, one) for method, one in found.items()}
    return {"grid": example.grid(COUNTS), **by_library}


@pytest.fixture(scope="module")
def found() -> Found:
    return sampled(DRAWS)


@pytest.fixture(scope="module")
def estimates(found: Found) -> Mapping[str, Mapping[str, Estimate]]:
    return estimated(found)


def agree(one: Estimate, other: Estimate) -> None:
    """Mean and sd lie within four standard errors of each other."""
    assert abs(one.mean - other.mean) <= 4 * hypot(one.mean_error, other.mean_error)
    assert abs(one.sd - other.sd) <= 4 * hypot(one.sd_error, other.sd_error)


@pytest.mark.parametrize("name", example.QUANTITIES)
@pytest.mark.parametrize("pair", [("Pyro", "grid"), ("PyMC", "grid"), ("Pyro", "PyMC")], ids="-".join)
def test_they_agree(
    estimates: Mapping[str, Mapping[str, Estimate]], name: str, pair: tuple[str, str]
) -> None:
    one, other = (estimates[method][name] for method in pair)
    agree(one, other)


def test_the_predictive_checks_agree(found: Found) -> None:
    one, other = (example.predictive_check(COUNTS, found[method]) for method in LIBRARIES)
    assert abs(one.mean - other.mean) <= 4 * hypot(one.mean_error, other.mean_error)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_simulated_counts_are_counts_of_every_group(found: Found, library: str) -> None:
    simulated = np.asarray(found[library]["posterior_predictive"]["y"])
    assert simulated.shape == (example.CHAINS, DRAWS, len(COUNTS.trials))
    assert simulated.dtype.kind == "i"
    assert (simulated >= 0).all()
    assert (simulated <= COUNTS.trials).all()


def test_it_runs_as_written_and_the_same_seed_gives_the_same_numbers(
    tmp_path: Path, run_script: Callable[..., str]
) -> None:
    found = sampled(TINY_DRAWS)
    estimates = estimated(found)
    script, seed, out = EXAMPLES / "beta_binomial.py", str(SEED), str(tmp_path)
    printed = run_script(script, "--tiny", "--seed", seed, "--out", out)
    lines = [line for line in printed.splitlines() if line.startswith("│")]
    rows = [tuple(cell.strip() for cell in line.strip("│").split("│")) for line in lines]
    expected = [cells(method, estimates[method][name]) for name in example.QUANTITIES for method in estimates]
    assert rows == expected + [example.diagnostics(name, COUNTS, one) for name, one in found.items()]
    with Image.open(tmp_path / "beta_binomial.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 0


def cells(method: str, one: Estimate) -> tuple[str, ...]:
    """What a table should show of an estimate."""
    numbers = (one.mean, one.mean_error, one.sd, one.sd_error)
    return (method, *(f"{number:.4f}" if number else "exact" for number in numbers))


def test_the_chains_are_sound(found: Found) -> None:
    for one in found.values():
        assert not one["sample_stats"]["diverging"].any()
        assert all(float(arviz.rhat(one["posterior"])[name]) < 1.1 for name in ("alpha", "beta"))


def test_the_grid_without_data_is_the_prior() -> None:
    """alpha + beta of two Gammas of one rate is a Gamma, and alpha / (alpha + beta) a Beta."""
    shape, rate = example.SHAPE, example.RATE
    nothing = np.zeros(0, dtype=int)
    found = example.grid(example.Counts(nothing, nothing))
    known = {
        "mean": (0.5, sqrt(1 / (4 * (2 * shape + 1)))),
        "concentration": (2 * shape / rate, sqrt(2 * shape) / rate),
    }
    for name, values in known.items():
        assert (found[name].mean, found[name].sd) == pytest.approx(values, rel=1e-5)


def test_the_grid_is_fine_enough() -> None:
    counts = example.simulate(40, 0)
    coarse, fine = example.grid(counts, 300), example.grid(counts, 600)
    for name in example.QUANTITIES:
        assert (coarse[name].mean, coarse[name].sd) == pytest.approx(
            (fine[name].mean, fine[name].sd), rel=1e-6
        )


def test_a_seed_is_a_data_set() -> None:
    first, second = example.simulate(5, 1), example.simulate(5, 1)
    assert (first.successes == second.successes).all()
    assert (first.successes <= first.trials).all()
