"""Intervals: the statistics of resamples against brute force, and the exact interval against closed forms."""

import math
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import bootstrap as reference_bootstrap

from bnn.evaluation import intervals, metrics

Floats = NDArray[np.float64]
Kind = TypeVar("Kind", bound=np.generic)

TIED_SCORES = arrays(np.float64, st.integers(1, 25), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
SEEDS = st.integers(0, 2**32 - 1)


def repeated(values: NDArray[Kind], counts: Floats) -> NDArray[Kind]:
    """The resample that `counts` (N,) stands for, image by image."""
    return np.repeat(values, counts.astype(int), axis=0)


@given(SEEDS, st.integers(1, 40))
def test_statistics_of_probabilities_by_brute_force(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    probs, labels = rng.dirichlet(np.full(10, 0.3), n), rng.integers(0, 10, n)
    counts = intervals.resampled(rng, n, 4)
    statistics = {
        metrics.nll: intervals.mean_statistic(metrics.nll_each(probs, labels)),
        metrics.brier: intervals.mean_statistic(metrics.brier_each(probs, labels)),
        metrics.ece: intervals.ece_statistic(probs, labels),
    }
    for metric, statistic in statistics.items():
        expected = [metric(repeated(probs, one), repeated(labels, one)) for one in counts]
        assert statistic(counts) == pytest.approx(expected)
        assert statistic(np.ones((1, n))) == pytest.approx(metric(probs, labels))


@given(TIED_SCORES, SEEDS)
def test_aurc_statistic_by_brute_force(scores: Floats, seed: int) -> None:
    rng = np.random.default_rng(seed)
    errors = rng.random(len(scores)) < 0.4
    counts = intervals.resampled(rng, len(scores), 4)
    statistic = intervals.aurc_statistic(errors, scores)
    expected = [metrics.aurc(repeated(errors, one), repeated(scores, one)) for one in counts]
    assert statistic(counts) == pytest.approx(expected)
    assert statistic(np.ones((1, len(scores)))) == pytest.approx(metrics.aurc(errors, scores))


@given(TIED_SCORES, TIED_SCORES, SEEDS)
def test_auroc_statistic_by_brute_force(familiar: Floats, unfamiliar: Floats, seed: int) -> None:
    rng = np.random.default_rng(seed)
    of_familiar = intervals.resampled(rng, len(familiar), 4)
    of_unfamiliar = intervals.resampled(rng, len(unfamiliar), 4)
    statistic = intervals.auroc_statistic(familiar, unfamiliar)
    expected = [
        metrics.auroc(repeated(familiar, one), repeated(unfamiliar, other))
        for one, other in zip(of_familiar, of_unfamiliar, strict=True)
    ]
    assert statistic(of_familiar, of_unfamiliar) == pytest.approx(expected)


def test_a_resample_is_as_large_as_its_set() -> None:
    counts = intervals.resampled(np.random.default_rng(0), 50, 200)
    assert counts.shape == (200, 50)
    assert (counts.sum(1) == 50).all()
    assert counts.mean(0) == pytest.approx(np.ones(50), abs=0.4)
    assert (counts == 0).mean() == pytest.approx((1 - 1 / 50) ** 50, abs=0.02)


def test_bootstrap_of_a_mean_is_the_references() -> None:
    values = np.random.default_rng(1).exponential(size=80)
    low, high = intervals.bootstrap(intervals.mean_statistic(values), 80)
    theirs = reference_bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert low == pytest.approx(theirs.confidence_interval.low, abs=width / 15)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=width / 15)
    assert [low, high] == intervals.bootstrap(intervals.mean_statistic(values), 80)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    truth = 0.5 + math.erf(0.5) / 2  # P(Normal(1, 1) > Normal(0, 1))
    found = 0
    for _ in range(60):
        familiar, unfamiliar = rng.normal(size=60), rng.normal(1, 1, 40)
        statistic = intervals.auroc_statistic(familiar, unfamiliar)
        low, high = intervals.bootstrap(statistic, 60, 40)
        found += low <= truth <= high
    assert found >= 50  # 57 expected; fewer than 50 of 60 once in 1,000 at a coverage of 93 %


def test_the_interval_of_a_share_has_its_closed_forms() -> None:
    assert intervals.share_interval(0, 100) == pytest.approx([0, 1 - 0.025 ** (1 / 100)], abs=1e-9)
    assert intervals.share_interval(100, 100) == pytest.approx([0.025 ** (1 / 100), 1], abs=1e-9)
    assert intervals.share_interval(0, 0) is None


@given(st.integers(1, 60), st.integers(0, 60))
def test_the_interval_of_a_share_inverts_the_binomial_tails(trials: int, events: int) -> None:
    events = min(events, trials)
    low, high = intervals.share_interval(events, trials) or []
    assert low <= events / trials <= high

    def chance(share: float, of: range) -> float:
        return sum(math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in of)

    if events > 0:
        assert chance(low, range(events, trials + 1)) == pytest.approx(0.025, rel=1e-4)
    if events < trials:
        assert chance(high, range(events + 1)) == pytest.approx(0.025, rel=1e-4)
