"""Metrics against closed forms, brute force and invariants."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torchmetrics.functional.classification import multiclass_calibration_error

from bnn.evaluation import metrics
from bnn.rules.curves import risk_coverage

Floats = NDArray[np.float64]

TIED_SCORES = arrays(np.float64, st.integers(1, 30), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
SEEDS = st.integers(0, 2**32 - 1)


def random_probs(rng: np.random.Generator, n: int) -> Floats:
    return rng.dirichlet(np.full(10, 0.3), n)


def one_hot_ish(confidence: list[float], digit: int = 0) -> Floats:
    """Rows that give `confidence` to `digit` and share the rest equally."""
    probs = np.repeat((1 - np.array(confidence))[:, None] / 9, 10, 1)
    probs[:, digit] = confidence
    return probs


def test_by_hand() -> None:
    probs, labels = one_hot_ish([0.91, 0.55]), np.array([0, 1])
    assert metrics.accuracy(probs, labels) == 0.5
    assert metrics.nll(probs, labels) == pytest.approx(-(math.log(0.91) + math.log(0.05)) / 2)
    first, second = 0.09**2 + 9 * 0.01**2, 0.55**2 + 0.95**2 + 8 * 0.05**2
    assert metrics.brier(probs, labels) == pytest.approx((first + second) / 2)
    assert metrics.ece(probs, labels) == pytest.approx((0.09 + 0.55) / 2)


def test_extremes_of_brier_and_nll() -> None:
    sure = np.eye(10, dtype=np.float32)
    assert metrics.brier(sure, np.arange(10)) == 0
    assert metrics.nll(sure, np.arange(10)) == 0
    assert metrics.brier(sure, (np.arange(10) + 1) % 10) == 2
    assert metrics.nll(sure, (np.arange(10) + 1) % 10) == pytest.approx(87.3, abs=0.1)  # finite
    assert metrics.nll(np.full((4, 10), 0.1), np.arange(4)) == pytest.approx(math.log(10))


def test_perfect_calibration_has_no_error() -> None:
    labels = np.array([0] * 8 + [1] * 2 + [0] * 3 + [1] * 2)  # 8 of 10 right at 0.8, 3 of 5 at 0.6
    assert metrics.ece(one_hot_ish([0.8] * 10 + [0.6] * 5), labels) == pytest.approx(0, abs=1e-12)


def test_full_confidence_shares_the_last_bin() -> None:
    """0.96 and 1.0 lie in one bin, where one right of two meets a mean confidence of 0.98."""
    assert metrics.ece(one_hot_ish([0.96, 1.0]), np.array([0, 1])) == pytest.approx(0.48)


@given(SEEDS, st.integers(1, 60))
def test_ece_is_torchmetrics(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    probs, labels = random_probs(rng, n).clip(1e-6, 0.999), rng.integers(0, 10, n)
    theirs = multiclass_calibration_error(
        torch.from_numpy(probs), torch.from_numpy(labels), num_classes=10, n_bins=15, norm="l1"
    )
    assert metrics.ece(probs, labels) == pytest.approx(theirs.item(), abs=1e-6)


@given(SEEDS, st.integers(1, 40))
def test_images_may_come_in_any_order(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    probs, labels, order = random_probs(rng, n), rng.integers(0, 10, n), rng.permutation(n)
    for metric in (metrics.accuracy, metrics.nll, metrics.brier, metrics.ece):
        assert metric(probs[order], labels[order]) == pytest.approx(metric(probs, labels))


def test_selective_risk_and_coverage() -> None:
    answers, labels = np.array([3, -1, 4, 7, -1]), np.array([3, 5, 9, 7, 1])
    assert metrics.coverage(answers) == 0.6
    assert metrics.selective_risk(answers, labels) == pytest.approx(1 / 3)
    assert metrics.selective_risk(np.full(5, -1), labels) is None


@given(st.integers(1, 50), st.integers(0, 50))
def test_aurc_of_a_perfect_order(n: int, wrong: int) -> None:
    wrong = min(wrong, n)
    scores = np.linspace(0, 1, n)
    errors = np.arange(n) >= n - wrong
    expected = sum(max(0, k - (n - wrong)) / k for k in range(1, n + 1)) / n
    assert metrics.aurc(errors, scores) == pytest.approx(expected)
    assert metrics.aurc(errors, -scores) >= metrics.aurc(errors, scores)


@given(TIED_SCORES, SEEDS)
def test_aurc_depends_on_the_ranks_alone(scores: Floats, seed: int) -> None:
    rng = np.random.default_rng(seed)
    errors, order = rng.random(len(scores)) < 0.4, rng.permutation(len(scores))
    area = metrics.aurc(errors, scores)
    assert metrics.aurc(errors[order], scores[order]) == pytest.approx(area)
    assert metrics.aurc(errors, np.exp(3 * scores) - 7) == pytest.approx(area)
    assert area == pytest.approx(risk_coverage(errors, scores)[1].mean())


def test_aurc_of_equal_scores_is_the_error_rate() -> None:
    assert metrics.aurc(np.array([True, False, False, True, False]), np.zeros(5)) == pytest.approx(0.4)


@given(TIED_SCORES, TIED_SCORES)
def test_auroc_by_brute_force(familiar: Floats, unfamiliar: Floats) -> None:
    pairs = [(u > f) + (u == f) / 2 for u in unfamiliar for f in familiar]
    area = metrics.auroc(familiar, unfamiliar)
    assert area == pytest.approx(np.mean(pairs))
    assert metrics.auroc(unfamiliar, familiar) == pytest.approx(1 - area)
    assert metrics.auroc(-familiar, -unfamiliar) == pytest.approx(1 - area)
    assert metrics.auroc(np.exp(familiar), np.exp(unfamiliar)) == pytest.approx(area)


@given(TIED_SCORES, TIED_SCORES)
def test_fpr95_by_brute_force(familiar: Floats, unfamiliar: Floats) -> None:
    refusing = [t for t in unfamiliar if (unfamiliar >= t).mean() >= 0.95 - 1e-12]
    assert metrics.fpr95(familiar, unfamiliar) == (familiar >= max(refusing)).mean()


def test_fpr95_by_hand() -> None:
    unfamiliar = np.arange(1, 101) / 100  # 0.06 is the highest threshold that 95 of 100 reach
    assert metrics.fpr95(np.array([0.05, 0.06, 0.07, 0.01]), unfamiliar) == 0.5
    assert metrics.fpr95(np.zeros(7), unfamiliar) == 0
    assert metrics.fpr95(np.ones(7), unfamiliar) == 1
