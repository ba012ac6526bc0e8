"""Abstention rules: their promises, by brute force and by hand."""

import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnn.decide.rules import (
    RULES,
    AbstentionRule,
    ConfidenceRule,
    EntropyRule,
    MedianRule,
    candidate_threshold,
    conformal_threshold,
    fit_rule,
    reasons,
    rule_from_dict,
)
from bnn.decide.uncertainty import Predictive
from bnn.errors import InputError

RULES_BY_HAND = [EntropyRule(0.5, 0.02), ConfidenceRule(0.25, 0.1), MedianRule(0.2), MedianRule(0.0)]


def random_predictive(n: int, seed: int) -> Predictive:
    generator = torch.Generator().manual_seed(seed)
    return Predictive.of((torch.randn(5, n, 10, generator=generator) * 3).softmax(-1))


scores_and_share = st.tuples(
    st.lists(st.integers(0, 30).map(float), min_size=2, max_size=60), st.floats(0.001, 0.999)
)


@given(scores_and_share)
def test_of_exchangeable_scores_at_most_the_share_exceed_their_threshold(
    given_values: tuple[list[float], float],
) -> None:
    scores, share = given_values
    if math.floor(share * len(scores) + 1e-9) < 1:
        return
    # Each score in turn is the fresh one, the others being the calibration set.
    exceed = sum(
        score > conformal_threshold(torch.tensor(scores[:i] + scores[i + 1 :]), share)
        for i, score in enumerate(scores)
    )
    assert exceed <= share * len(scores) + 1e-9


@given(scores_and_share)
def test_the_threshold_is_the_lowest_score_that_keeps_the_promise(
    given_values: tuple[list[float], float],
) -> None:
    scores, share = given_values
    n = len(scores)
    allowed = share * (n + 1) + 1e-9  # of n + 1 scores, the fresh one among them
    fitting = [t for t in sorted(scores) if sum(score > t for score in scores) + 1 <= allowed]
    if not fitting:
        with pytest.raises(InputError, match="cannot promise"):
            conformal_threshold(torch.tensor(scores), share)
        return
    assert conformal_threshold(torch.tensor(scores), share) == fitting[0]


@given(st.integers(1, 3000), st.integers(2, 3000))
def test_an_impossible_share_says_how_many_digits_would_do(n: int, denominator: int) -> None:
    share, scores = 1 / denominator, torch.zeros(n)
    if n >= denominator - 1:
        assert conformal_threshold(scores, share) == 0
        return
    with pytest.raises(InputError, match=f"{n} calibration digits cannot promise") as caught:
        conformal_threshold(scores, share)
    found = re.search(r"(\d+) digits could", str(caught.value))
    assert found
    needed = int(found[1])
    assert needed == denominator - 1
    assert conformal_threshold(torch.zeros(needed), share) == 0
    with pytest.raises(InputError):
        conformal_threshold(torch.zeros(needed - 1), share)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, math.nan, math.inf])
def test_a_share_outside_0_and_1_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        conformal_threshold(torch.rand(100), share)


@pytest.mark.parametrize("name", ["entropy", "confidence"])
@given(seed=st.integers(0, 999), refuse=st.floats(0.01, 0.6))
def test_a_fitted_rule_refuses_at_most_its_share_of_its_own_calibration_set(
    name: str, seed: int, refuse: float
) -> None:
    calibration = random_predictive(150, seed)
    rule = fit_rule(name, calibration, refuse)
    share = rule.refuses(calibration).float().mean().item()
    assert share <= refuse
    assert share > refuse - 2 / 150  # and not needlessly few


def by_medians(*rows: list[float]) -> Predictive:
    medians = torch.tensor(rows)
    rest = torch.zeros(len(rows))
    return Predictive(medians / medians.sum(-1, keepdim=True), medians, rest, rest, rest)


def test_the_median_rule_by_hand() -> None:
    predictive = by_medians([0.1, 0.3, 0.15], [0.1, 0.19, 0.1], [0.2, 0.0, 0.1], [0.0, 0.0, 0.21])
    rule = MedianRule(0.2)
    assert rule.refuses(predictive).tolist() == [False, True, True, False]  # at the level: not above it
    assert rule.labels(predictive)[[0, 3]].tolist() == [1, 2]
    torch.testing.assert_close(rule.score(predictive), torch.tensor([0.7, 0.81, 0.8, 0.79]))


def test_a_threshold_is_still_answered() -> None:
    calibration = random_predictive(99, 0)
    for kind in (EntropyRule, ConfidenceRule):
        scores = kind.score_of(calibration)
        rule = kind.fit(calibration, 0.1)
        assert rule.threshold == scores.sort().values[89].item()
        assert rule.refuses(calibration).equal(scores.argsort().argsort() > 89)


@pytest.mark.parametrize("rule", RULES_BY_HAND)
@given(seed=st.integers(0, 999))
def test_what_scores_higher_than_a_refused_image_is_refused(rule: AbstentionRule, seed: int) -> None:
    predictive = random_predictive(40, seed)
    score, refused = rule.score(predictive), rule.refuses(predictive)
    if refused.any():
        assert refused[score > score[refused].min()].all()
    assert (score <= rule.highest_score + 1e-6).all()


@pytest.mark.parametrize("rule", RULES_BY_HAND)
def test_a_rule_comes_back_from_its_plain_values(rule: AbstentionRule) -> None:
    assert rule_from_dict(rule.to_dict()) == rule
    assert type(rule_from_dict(rule.to_dict())) is RULES[rule.name]


SOUND = {"name": "entropy", "threshold": 0.5, "refuse": 0.02}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"name": "entropy"},
        {"name": None},
        {"name": []},
        SOUND | {"name": "oracle"},
        SOUND | {"threshold": math.nan},
        SOUND | {"threshold": math.inf},
        SOUND | {"threshold": "0.5"},
        SOUND | {"threshold": None},
        SOUND | {"threshold": 10**400},
        SOUND | {"refuse": 0},
        SOUND | {"refuse": math.nan},
        SOUND | {"refuse": "few"},
        SOUND | {"level": 0.2},
        {"name": "median", "level": 1},
        {"name": "median", "level": -0.1},
        {"name": "median", "level": math.nan},
        {"name": "median", "level": "low"},
        {"name": "median", "level": 10**400},
    ],
)
def test_damaged_values_stand_for_no_rule(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"\.$"):
        rule_from_dict(values)


def test_an_unknown_rule_names_those_there_are() -> None:
    with pytest.raises(InputError, match="entropy, confidence, median"):
        fit_rule("oracle", random_predictive(20, 0), 0.1)


def test_reasons_by_hand() -> None:
    split = torch.tensor([[0.1, 0.2], [0.9, 0.2], [0.2, 0.9], [0.5, 0.5], [0.2, 0.9]])
    predictive = Predictive(torch.zeros(5, 10), torch.zeros(5, 10), split.sum(1), split[:, 0], split[:, 1])
    refused = torch.tensor([False, True, True, True, False])
    assert reasons(predictive, refused) == ["answered", "ambiguous", "unfamiliar", "ambiguous", "answered"]


@given(st.integers(1, 300), st.integers(0, 999), st.sampled_from((0.001, 0.02, 0.3)))
def test_candidate_sets_miss_at_most_the_share_on_the_calibration_set(n: int, seed: int, miss: float) -> None:
    calibration = random_predictive(n, seed)
    labels = torch.randint(10, (n,), generator=torch.Generator().manual_seed(seed))
    threshold = candidate_threshold(calibration, labels, miss)
    missed = calibration.mean[torch.arange(n), labels] < threshold
    assert missed.sum().item() <= max(miss * (n + 1) - 1, 0) + 1e-9
