"""Curves of answers and refusals against closed forms, brute force and invariants."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from bnn.rules.curves import confidence_bin, reliability, risk_coverage

Floats = NDArray[np.float64]

TIED_SCORES = arrays(np.float64, st.integers(1, 30), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
SEEDS = st.integers(0, 2**32 - 1)


def random_probs(rng: np.random.Generator, n: int) -> Floats:
    return rng.dirichlet(np.full(10, 0.3), n)


@given(SEEDS, st.integers(1, 40), st.integers(1, 30))
def test_reliability_adds_up(seed: int, n: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    probs, labels = random_probs(rng, n), rng.integers(0, 10, n)
    confidence, right, share = reliability(probs, labels, bins)
    assert len(share) <= bins
    assert share.sum() == pytest.approx(1)
    assert (share * right).sum() == pytest.approx((probs.argmax(1) == labels).mean())
    assert (share * confidence).sum() == pytest.approx(probs.max(1).mean())
    assert (np.diff(confidence) > 0).all()


def test_bins_are_closed_above_and_the_first_below_too() -> None:
    confidence = np.array([0.0, 0.1, 0.25, 0.2500001, 0.5, 0.75, 0.7500001, 1.0])
    assert confidence_bin(confidence, 4).tolist() == [0, 0, 0, 1, 1, 2, 3, 3]


def test_risk_at_every_coverage() -> None:
    coverage, risk = risk_coverage(np.array([True, False, True, False]), np.array([0.9, 0.1, 0.5, 0.2]))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk == pytest.approx([0, 0, 1 / 3, 1 / 2])


def test_ties_are_averaged_over_every_order() -> None:
    errors, scores = np.array([True, False, True, False, False]), np.array([1.0, 1.0, 1.0, 0.0, 2.0])
    curves = [
        np.cumsum(errors[list(order)]) / np.arange(1, 6)
        for order in itertools.permutations(range(5))
        if (np.diff(scores[list(order)]) >= 0).all()
    ]
    assert risk_coverage(errors, scores)[1] == pytest.approx(np.mean(curves, axis=0))


@given(TIED_SCORES, SEEDS)
def test_the_curve_depends_on_the_ranks_alone_and_ends_at_the_error_rate(scores: Floats, seed: int) -> None:
    rng = np.random.default_rng(seed)
    errors, order = rng.random(len(scores)) < 0.4, rng.permutation(len(scores))
    _, risk = risk_coverage(errors, scores)
    assert risk_coverage(errors[order], scores[order])[1] == pytest.approx(risk)
    assert risk_coverage(errors, np.exp(3 * scores) - 7)[1] == pytest.approx(risk)
    assert risk[-1] == pytest.approx(errors.mean())
