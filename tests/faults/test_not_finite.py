"""Numbers that are not finite, wherever they come from: nothing is answered, measured or fitted by them."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core.checkpoint import Checkpoint, save
from bnn.core.evidence import Evidence
from bnn.core.posterior import MOST_WEIGHT, MeanField
from bnn.errors import InputError
from bnn.evaluation import metrics
from bnn.evaluation.intervals import aurc_statistic, auroc_statistic, ece_statistic
from bnn.ood.detector import Detector
from bnn.reading import read
from bnn.rules.abstention import Calibration
from bnn.rules.curves import confidence_bin, reliability, risk_coverage
from bnn.rules.promise import Promise
from bnn.rules.table import RULES, fit_rule, rule_from_dict

MakeCheckpoint = Callable[..., Checkpoint]
WRONG = (math.nan, math.inf, -math.inf)
PROBS, LABELS = np.full((6, 3), 1 / 3), np.zeros(6, np.int64)
SCORES, ERRORS = np.linspace(0, 1, 6), np.zeros(6, np.bool_)


def spoilt(values: NDArray[Any], wrong: float) -> NDArray[Any]:
    other = values.copy()
    other.flat[-1] = wrong
    return other


MEASURES: dict[str, Callable[[float], object]] = {
    "accuracy": lambda wrong: metrics.accuracy(spoilt(PROBS, wrong), LABELS),
    "nll": lambda wrong: metrics.nll(spoilt(PROBS, wrong), LABELS),
    "brier": lambda wrong: metrics.brier(spoilt(PROBS, wrong), LABELS),
    "ece": lambda wrong: metrics.ece(spoilt(PROBS, wrong), LABELS),
    "aurc": lambda wrong: metrics.aurc(ERRORS, spoilt(SCORES, wrong)),
    "auroc": lambda wrong: metrics.auroc(SCORES, spoilt(SCORES, wrong)),
    "auroc of digits": lambda wrong: metrics.auroc(spoilt(SCORES, wrong), SCORES),
    "fpr95": lambda wrong: metrics.fpr95(SCORES, spoilt(SCORES, wrong)),
    "fpr95 of digits": lambda wrong: metrics.fpr95(spoilt(SCORES, wrong), SCORES),
    "bins": lambda wrong: confidence_bin(spoilt(SCORES, wrong)),
    "curve": lambda wrong: risk_coverage(ERRORS, spoilt(SCORES, wrong)),
    "interval of ece": lambda wrong: ece_statistic(spoilt(PROBS, wrong), LABELS),
    "interval of aurc": lambda wrong: aurc_statistic(ERRORS, spoilt(SCORES, wrong)),
    "interval of auroc": lambda wrong: auroc_statistic(SCORES, spoilt(SCORES, wrong)),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", MEASURES)
def test_of_what_is_not_finite_there_is_no_metric(name: str, wrong: float) -> None:
    with pytest.raises(InputError, match=r"must be finite numbers, and 1 of \d+ are not\.$"):
        MEASURES[name](wrong)


def test_every_bin_is_one_of_the_bins() -> None:
    assert set(confidence_bin(np.array([-3.0, 0.0, 0.5, 1.0, 7.0])).tolist()) <= set(range(15))
    with pytest.raises(InputError):
        reliability(np.full((5, 10), np.nan), np.zeros(5, np.int64))


def huge(checkpoint: Checkpoint, of: str, value: float) -> dict[str, Tensor]:
    """The posterior's tensors, those `of` a kind being `value` throughout."""
    return {
        name: torch.full_like(tensor, value) if f"/{of}/" in name else tensor
        for name, tensor in checkpoint.posterior.items()
    }


@pytest.mark.parametrize("of", ["loc", "scale"])
@pytest.mark.parametrize("value", [2 * MOST_WEIGHT, 65504.0])
def test_huge_weights_do_not_load(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, of: str, value: float
) -> None:
    save(make_checkpoint(posterior=huge(make_checkpoint(), of, value)), tmp_path / "huge.safetensors")
    with pytest.raises(InputError, match=r"at most 1000 in size: [^\n]+\.$"):
        Classifier.load(tmp_path / "huge.safetensors")


def test_draws_of_which_no_probability_comes_do_not_load(
    make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Classifier(make_checkpoint())
    drawn = MeanField.sample_each

    def huge_draws(*asked: Any) -> dict[str, Tensor]:
        return {name: 1e30 * value for name, value in drawn(*asked[1:]).items()}

    monkeypatch.setattr(MeanField, "sample_each", huge_draws)
    with pytest.raises(InputError, match=r"so large that no probability comes of them"):
        Classifier(make_checkpoint())
    with pytest.raises(InputError, match=r"so large that no probability comes of them"):
        sound.with_draws(3)


def test_the_calibration_images_must_be_sound(random_evidence: Callable[..., Evidence]) -> None:
    evidence = random_evidence(50, 0)
    evidence.mean[7, 0] = math.nan
    with pytest.raises(InputError, match="nothing is calibrated on numbers that are not finite"):
        Calibration(evidence, torch.zeros(50, dtype=torch.int64), torch.zeros(3))


HUGE = (10**30, -(10**30), 10**400, 2**63, math.inf, -math.inf, math.nan, "1", None, [1.0])


@pytest.mark.parametrize("threshold", HUGE)
@pytest.mark.parametrize("name", ["entropy", "confidence"])
def test_a_threshold_that_is_no_number_to_compare_with_is_refused(name: str, threshold: Any) -> None:
    with pytest.raises(InputError, match=r"^[^\n]{10,400}\.$"):
        rule_from_dict({"name": name, "threshold": threshold, "refuse": 0.1})


@given(threshold=st.one_of(st.floats(), st.integers(), st.integers(-(2**70), 2**70)))
def test_a_threshold_that_is_taken_decides(threshold: float) -> None:
    shares = {"risk": 0.1, "delta": 0.1, "alpha": 0.1}
    for values in (
        {"name": "entropy", "threshold": threshold, "refuse": 0.1},
        {"name": "calibrated", "unfamiliar_threshold": None, "ambiguous_threshold": threshold, **shares},
    ):
        try:
            rule = rule_from_dict(values)
        except InputError:
            continue
        assert rule.decide([[0.5, 0.5], [1.0, 0.0]]).reasons.shape == (2,)


@pytest.mark.parametrize("name", sorted(set(RULES) - {"median", "refuse-all"}))
@pytest.mark.parametrize("wrong", WRONG)
def test_no_rule_is_fitted_to_what_is_not_finite(
    random_evidence: Callable[..., Evidence], name: str, wrong: float
) -> None:
    evidence = random_evidence(200, 1)
    calibration = Calibration(evidence, evidence.mean.argmax(-1), evidence.total.clone())
    calibration.evidence.ood[3] = wrong
    with pytest.raises(InputError, match=r"^[^\n]+\.$"):
        fit_rule(name, replace(calibration, labels=calibration.labels), Promise(risk=0.2, alpha=0.1))


def test_of_a_sheet_nothing_is_read_where_the_numbers_are_none(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Detector.evidence

    def spoiling(self: Detector, images: Tensor, predictive: Any) -> Evidence:
        evidence = told(self, images, predictive)
        nothing = {name: torch.full_like(value, math.nan) for name, value in evidence.surprises.items()}
        return replace(evidence, surprises=nothing, ood=torch.full_like(evidence.ood, math.nan))

    assert any(mark.answer for mark in read("docs/number.png", classifier).marks)
    monkeypatch.setattr(Detector, "evidence", spoiling)
    reading = read("docs/number.png", classifier)
    assert reading.number is None
    assert all(mark.answer is None for mark in reading.marks)
