"""Re-splits: a rule's promises checked on digits whose true risk is known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bnn.core.evidence import Evidence
from bnn.core.uncertainty import Predictive
from bnn.evaluation.resplits import Resplits, resplit
from bnn.rules.abstention import Calibration
from bnn.rules.promise import Promise

PROMISE = Promise(risk=0.05, delta=0.1, alpha=0.05)


def digits(n: int, wrong_at: float, seed: int = 0) -> Calibration:
    """`n` digits of grid uniform below 2 nats; the answer is wrong where it is above `wrong_at`."""
    generator = torch.Generator().manual_seed(seed)
    total = 2 * torch.rand(n, generator=generator)
    labels = torch.randint(10, (n,), generator=generator)
    said = torch.where(total > wrong_at, (labels + 1) % 10, labels)
    mean = torch.full((n, 10), 0.01)
    mean[torch.arange(n), said] = 0.91
    surprise = torch.rand(3, n, generator=generator).log().neg()
    surprises = dict(zip(("pixels", "features", "entropy"), surprise, strict=True))
    predictive = Predictive(mean, mean, total, total / 2, total / 2)
    evidence = Evidence(predictive, surprises, ood=2 * surprise.sum(0), novelty=torch.zeros(n))
    return Calibration(evidence, labels, 0.6 + 1.4 * torch.rand(500, generator=generator))


def resplit_of(
    sample: Calibration, promise: Promise = PROMISE, splits: int = 40, own: int = 300
) -> dict[str, float]:
    calibration = digits(own, 1.0, seed=9)
    found = resplit(sample.evidence, sample.labels, calibration, promise, seed=1, splits=splits)
    return found.numbers()


def test_a_promise_that_holds_is_seen_to_hold() -> None:
    """Beyond 1 nat all are wrong, so that at a risk of 5 % the rule may answer up to 1 / 0.95 nats."""
    found = resplit_of(digits(3000, wrong_at=1.0))
    assert found["infeasible"] == 0
    assert (found["fitted_on"], found["measured_on"]) == (300, 2700)
    assert found["risk_of_all_exceeded"] <= 0.3  # 0.1 expected at most; 0.3 of 40 are four deviations more
    assert 0.3 < found["mean_coverage"] < 0.5 / 0.95
    assert found["mean_unfamiliar"] == pytest.approx(0.05, abs=0.02)
    assert 0 < found["mean_risk"] < 0.05


def test_as_many_are_fitted_on_as_the_classifier_has_but_half_at_most() -> None:
    assert resplit_of(digits(401, 1.0), splits=2)["fitted_on"] == 200
    assert resplit_of(digits(401, 1.0), splits=2, own=120)["fitted_on"] == 120


def test_labels_that_change_between_the_parts_break_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule fitted on digits that were all right is measured on ones that are all wrong."""
    sample = digits(800, wrong_at=3.0)
    wrong = (torch.arange(800) >= 400).long()
    sample = Calibration(sample.evidence, (sample.labels + wrong) % 10, sample.grid)

    def first_half(size: int, first: int, _: torch.Generator) -> Tensor:
        return torch.arange(size) < first

    monkeypatch.setattr("bnn.evaluation.resplits._dealt", first_half)
    found = resplit_of(sample, splits=5, own=400)
    assert found["risk_exceeded"] == 1
    assert found["mean_risk"] == 1
    assert found["risk_of_all_exceeded"] == 1


def test_what_cannot_be_promised_is_counted_and_exceeds_nothing() -> None:
    found = resplit_of(digits(60, 1.0), Promise(risk=0.001, delta=0.01, alpha=0.05), splits=6)
    assert (found["splits"], found["infeasible"]) == (6, 6)
    assert found["risk_exceeded"] is None
    assert found["mean_coverage"] is None
    assert resplit_of(digits(1, 1.0), splits=2)["infeasible"] == 2  # nothing to fit on


def test_shares_count_every_resplit_and_means_those_fitted() -> None:
    found = Resplits(
        promise=PROMISE,
        fitted_on=300,
        measured_on=400,
        infeasible=2,
        risk=np.array([0.06, 0.02, 0.01]),
        risk_of_all=np.array([0.04, 0.02, 0.03]),
        unfamiliar=np.array([0.01, 0.02, 0.03]),
        coverage=np.array([0.9, 0.8, 0.7]),
    ).numbers()
    assert (found["splits"], found["infeasible"]) == (5, 2)
    assert (found["risk_exceeded"], found["risk_of_all_exceeded"]) == (1 / 5, 0)
    assert found["mean_risk"] == pytest.approx(0.03)
    assert found["mean_unfamiliar"] == pytest.approx(0.02)
    assert found["mean_coverage"] == pytest.approx(0.8)


def test_the_seed_decides_the_splits() -> None:
    sample = digits(700, 1.0)
    calibration = digits(300, 1.0, seed=9)
    first, again, other = (
        resplit(sample.evidence, sample.labels, calibration, PROMISE, seed=seed, splits=8)
        for seed in (1, 1, 2)
    )
    assert first.numbers() == again.numbers()
    assert first.coverage.tolist() != other.coverage.tolist()
    assert len(set(first.coverage.tolist())) > 1


def test_measured_risk_scatters_more_than_that_of_all() -> None:
    """On a small other part the share exceeded overstates: it scatters about the true risk."""
    sample = digits(700, 1.0)
    calibration = digits(330, 1.0, seed=9)
    found = resplit(sample.evidence, sample.labels, calibration, PROMISE, seed=1, splits=60)
    assert found.risk.std() > found.risk_of_all.std()
    assert math.isclose(found.risk.mean(), found.risk_of_all.mean(), abs_tol=0.02)
