"""Softmax regression three ways: it runs as written, the samplers agree, the flat direction stays flat."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

pytest.importorskip("pymc", reason="PyMC, with which the examples compare, is not installed")

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))  # its scripts import one another as scripts do
import classification as lesson  # noqa: E402
from coin import chain_error, of_draws  # noqa: E402
from digits import Digits  # noqa: E402

from bnn.evaluation.metrics import accuracy, nll  # noqa: E402

# PyTensor says so where it finds no BLAS; ArviZ and PyMC announce their next versions.
pytestmark = [
    pytest.mark.examples,
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS:UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:arviz.*"),
]
SAMPLERS = ("NUTS in Pyro", "NUTS in PyMC")
ERRORS = 4  # standard errors that a single estimate may lie from the truth

IMAGES = 200  # test digits whose probabilities are compared
SIZE = lesson.Size(train=50, steps=500, chains=2, warmup=100, draws=100)  # for small Monte Carlo errors

Results = tuple[Digits, dict[str, lesson.Fit]]


@pytest.fixture(scope="module")
def results() -> Results:
    return lesson.run(SIZE, seed=1)


def allowed(comparisons: int) -> float:
    """Standard errors that the worst of so many estimates may be off, as rarely as one is by `ERRORS`."""
    return float(norm.isf(norm.sf(ERRORS) / comparisons))


def nll_apart(one: lesson.Fit, other: lesson.Fit, data: Digits) -> float:
    """How far two methods' test NLLs lie apart, in standard errors."""
    error = np.hypot(lesson.nll_error(one, data.test_labels), lesson.nll_error(other, data.test_labels))
    difference = nll(one.predictive, data.test_labels) - nll(other.predictive, data.test_labels)
    return float(abs(difference) / error)


def probabilities_apart(one: lesson.Fit, other: lesson.Fit) -> float:
    """How far two methods' predictive probabilities lie apart at worst, in standard errors."""
    errors = [chain_error(fitted.probs[:, :, :IMAGES]) for fitted in (one, other)]
    difference = one.predictive[:IMAGES] - other.predictive[:IMAGES]
    return float((abs(difference) / np.hypot(*errors)).max())


def test_it_runs_as_written(tmp_path: Path, run_script: Callable[..., str]) -> None:
    shown = run_script(EXAMPLES / "classification.py", "--tiny", "--out", str(tmp_path))
    assert all(name in shown for name in (*lesson.METHODS, "class frequencies"))
    assert (tmp_path / "classification.png").stat().st_size > 0


def test_the_seed_decides_the_split_and_nothing_is_lost() -> None:
    first, same, other = (lesson.digits(lesson.TINY, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.train, same.train)
    assert not np.array_equal(first.train, other.train)
    assert len(first.train) == lesson.TINY.train
    assert len(first.train) + len(first.test) == 1797
    assert first.train.min() >= 0
    assert first.train.max() <= 1


def test_columns_end_with_a_one() -> None:
    images = np.random.default_rng(0).random((5, 4, 4))
    rows = lesson.columns(images)
    assert np.array_equal(rows[:, :-1].reshape(images.shape), images)
    assert (rows[:, -1] == 1).all()


def test_every_method_beats_the_class_frequencies(results: Results) -> None:
    data, fits = results
    baseline = lesson.class_frequencies(data)
    for one in fits.values():
        assert nll(one.predictive, data.test_labels) < nll(baseline, data.test_labels)
        assert accuracy(one.predictive, data.test_labels) > accuracy(baseline, data.test_labels)


def test_the_samplers_agree_in_test_nll(results: Results) -> None:
    data, fits = results
    ours, theirs = (fits[name] for name in SAMPLERS)
    assert nll_apart(ours, theirs, data) < ERRORS


def test_the_samplers_agree_in_every_predictive_probability(results: Results) -> None:
    _, fits = results
    ours, theirs = (fits[name] for name in SAMPLERS)
    assert probabilities_apart(ours, theirs) < allowed(ours.predictive[:IMAGES].size)


def test_the_samplers_keep_the_prior_where_the_data_say_nothing(results: Results) -> None:
    """The sum of a pixel's ten weights over √10 is Normal(0, 1) whatever the data."""
    for name in SAMPLERS:
        found = of_draws(name, results[1][name].ignored)
        assert abs(found.mean) < ERRORS * found.mean_error
        assert abs(found.sd - 1) < ERRORS * found.sd_error


def test_the_guide_is_too_narrow_there(results: Results) -> None:
    found = of_draws("SVI", results[1]["SVI in Pyro"].ignored)
    assert found.sd < 1 - ERRORS * found.sd_error


def test_the_error_of_independent_draws_is_the_textbooks() -> None:
    """For n independent draws sd / √n; ArviZ's effective size is estimated to some 1/√n, here 10 %."""
    values = np.random.default_rng(0).standard_normal((4, 5000))
    assert chain_error(values) == pytest.approx(1 / np.sqrt(values.size), rel=0.1)
