"""The coin examples: each number lies within its Monte Carlo error of its known value, and is printed."""

import sys
from collections.abc import Callable, Mapping
from math import log
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pymc", reason="PyMC, with which the examples compare, is not installed")

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))  # its scripts import one another as scripts do
import coin  # noqa: E402
import first_pymc  # noqa: E402
import first_pyro  # noqa: E402
from shown import Estimate  # noqa: E402

pytestmark = [
    pytest.mark.examples,
    # PyTensor says so where it finds no BLAS.
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS:UserWarning"),
]
STEPS, DRAWS = 2000, 150  # enough for small Monte Carlo errors
TINY_STEPS, TINY_DRAWS = 200, 20  # of the tiny runs
SEED = 1

Rows = Mapping[str, Estimate]


def in_pyro(steps: int, draws: int) -> Rows:
    return {
        "SVI": first_pyro.fit_svi(steps, SEED),
        "NUTS": coin.of_draws("NUTS", first_pyro.run_nuts(draws, SEED)),
    }


def in_pymc(steps: int, draws: int) -> Rows:
    return {
        "ADVI": first_pymc.fit_advi(steps, SEED),
        "NUTS": coin.of_draws("NUTS", first_pymc.run_nuts(draws, SEED)),
    }


def agree(found: Estimate, known: Estimate) -> None:
    """Mean and sd lie within four standard errors of the known ones."""
    assert abs(found.mean - known.mean) <= 4 * found.mean_error
    assert abs(found.sd - known.sd) <= 4 * found.sd_error


def table(printed: str) -> dict[str, list[str]]:
    """The table that an example prints: its rows by their first cell."""
    lines = [line for line in printed.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return {first: rest for first, *rest in cells}


def cells(one: Estimate) -> list[str]:
    """What the table should show of an estimate."""
    numbers = (one.mean, one.mean_error, one.sd, one.sd_error)
    return [f"{number:.4f}" if number else "exact" for number in numbers]


def is_a_picture(path: Path) -> None:
    """It can be read, and is not of one colour."""
    with Image.open(path) as picture:
        assert np.asarray(picture.convert("L")).std() > 0


def test_pyro_finds_the_known_values() -> None:
    found = in_pyro(STEPS, DRAWS)
    agree(found["NUTS"], coin.exact())
    agree(found["SVI"], coin.best_normal())


def test_pymc_finds_the_known_values() -> None:
    found = in_pymc(STEPS, DRAWS)
    agree(found["NUTS"], coin.exact())
    agree(found["ADVI"], coin.best_normal())


@pytest.mark.parametrize(("name", "run"), [("first_pyro", in_pyro), ("first_pymc", in_pymc)])
def test_it_runs_as_written_and_the_same_seed_gives_the_same_numbers(
    name: str, run: Callable[[int, int], Rows], tmp_path: Path, run_script: Callable[..., str]
) -> None:
    known = {"exact": coin.exact(), "best Normal": coin.best_normal()}
    found = known | dict(run(TINY_STEPS, TINY_DRAWS))
    printed = run_script(EXAMPLES / f"{name}.py", "--tiny", "--seed", str(SEED), "--out", str(tmp_path))
    assert table(printed) == {method: cells(one) for method, one in found.items()}
    is_a_picture(tmp_path / f"{name}.png")


def test_without_tosses_the_posterior_is_the_prior() -> None:
    for found in (coin.exact(()), coin.best_normal(())):
        assert (found.mean, found.sd) == pytest.approx((coin.PRIOR_MEAN, coin.PRIOR_SD), abs=1e-6)


def test_the_exact_posterior_is_that_of_a_fine_grid() -> None:
    z = np.linspace(-15, 15, 20001)
    weights = np.exp(coin.log_joint(z))
    mean = np.average(z, weights=weights)
    sd = np.sqrt(np.average((z - mean) ** 2, weights=weights))
    assert (coin.exact().mean, coin.exact().sd) == pytest.approx((mean, sd), abs=1e-7)


def test_the_best_normal_is_where_the_gradient_of_the_elbo_vanishes() -> None:
    """E[d log p / dz] = 0 and E[d² log p / dz²] = -1 / sd² (Opper & Archambeau 2009), by plain summation."""
    best = coin.best_normal()
    z = np.linspace(-15, 15, 20001)
    weights = np.exp(-0.5 * ((z - best.mean) / best.sd) ** 2)
    heads = 1 / (1 + np.exp(-z))
    slope = sum(coin.TOSSES) - len(coin.TOSSES) * heads - (z - coin.PRIOR_MEAN) / coin.PRIOR_SD**2
    curvature = -len(coin.TOSSES) * heads * (1 - heads) - 1 / coin.PRIOR_SD**2
    assert np.average(slope, weights=weights) == pytest.approx(0, abs=1e-6)
    assert np.average(curvature, weights=weights) == pytest.approx(-1 / best.sd**2, abs=1e-6)


def test_the_elbo_is_below_the_log_evidence() -> None:
    best = coin.best_normal()
    assert coin.elbo(best.mean, best.sd) < log(coin.moment(0))
    assert coin.elbo(0.0, 1.5, ()) == pytest.approx(log(coin.moment(0, ())))


def test_the_batch_error_of_independent_numbers_is_their_standard_error() -> None:
    series = np.random.default_rng(0).normal(size=(400, 2000))
    squares = np.array([coin.batch_error(one, 20) ** 2 for one in series]) * 2000
    error = squares.std(ddof=1) / np.sqrt(len(squares))
    assert abs(squares.mean() - 1) <= 4 * error
