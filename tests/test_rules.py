"""Abstention rules: their promises, by brute force and by hand."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bnn.errors import InputError
from bnn.ood.familiarity import Evidence
from bnn.rules.abstention import MOST_MEANT, AbstentionRule, Calibration
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.promise import Wishes, rounded_up
from bnn.rules.thresholds import (
    RULES,
    ConfidenceRule,
    EntropyRule,
    MedianRule,
    fit_rule,
    reasons,
    rule_from_dict,
)

RandomEvidence = Callable[[int, int], Evidence]

RULES_BY_HAND = [
    *(EntropyRule(0.5, 0.02), ConfidenceRule(0.25, 0.1), MedianRule(0.2), MedianRule(0.0)),
    *(CalibratedRule(6.0, 0.5, 0.01, 0.05, 0.01), CalibratedRule(0.5, 2.5, 0.01, 0.05, 0.01)),
]
SURPRISES = ("entropy_surprise", "pixel_surprise", "feature_surprise")


def calibration_of(evidence: Evidence, labels: Tensor | None = None) -> Calibration:
    """Calibration digits, by default all of them what they seem; thresholds to try are their entropies."""
    return Calibration(evidence, evidence.mean.argmax(-1) if labels is None else labels, evidence.total)


def by_scores(entropy: Tensor, unfamiliarity: Tensor) -> Evidence:
    """Evidence of these entropies and Fisher's statistics, (n,), all for the digit 0; the rest is idle."""
    n, rest = len(entropy), torch.zeros(len(entropy))
    zeros = torch.eye(10)[torch.zeros(n, dtype=torch.long)]
    return Evidence(zeros, zeros, entropy, entropy, rest, rest, unfamiliarity / 2, rest)


@pytest.mark.parametrize("name", ["entropy", "confidence"])
@given(seed=st.integers(0, 999), refuse=st.floats(0.01, 0.6))
def test_a_fitted_rule_refuses_at_most_its_share_of_its_own_calibration_set(
    random_evidence: RandomEvidence, name: str, seed: int, refuse: float
) -> None:
    evidence = random_evidence(150, seed)
    rule = fit_rule(name, calibration_of(evidence), Wishes(refuse=refuse))
    share = rule.refuses(evidence).float().mean().item()
    assert share <= refuse
    assert share > refuse - 2 / 150  # and not needlessly few


def test_the_median_rule_by_hand() -> None:
    medians = torch.tensor([[0.1, 0.3, 0.15], [0.1, 0.19, 0.1], [0.2, 0.0, 0.1], [0.0, 0.0, 0.21]])
    evidence = Evidence(medians, medians, *torch.zeros(6, 4))
    rule = MedianRule(0.2)
    assert rule.refuses(evidence).tolist() == [False, True, True, False]  # at the level: not above it
    assert rule.labels(evidence)[[0, 3]].tolist() == [1, 2]
    torch.testing.assert_close(rule.score(evidence), torch.tensor([0.7, 0.81, 0.8, 0.79]))


@pytest.mark.parametrize("kind", [EntropyRule, ConfidenceRule])
def test_a_threshold_is_still_answered(
    random_evidence: RandomEvidence, kind: type[EntropyRule | ConfidenceRule]
) -> None:
    evidence = random_evidence(99, 0)
    scores = kind.score_of(evidence)
    rule = kind.fit(calibration_of(evidence), Wishes(refuse=0.1))
    assert rule.threshold == scores.sort().values[89].item()
    assert rule.refuses(evidence).equal(scores.argsort().argsort() > 89)


@pytest.mark.parametrize("rule", RULES_BY_HAND)
@given(seed=st.integers(0, 999))
def test_what_scores_higher_than_a_refused_image_is_refused(
    random_evidence: RandomEvidence, rule: AbstentionRule, seed: int
) -> None:
    evidence = random_evidence(40, seed)
    score, refused = rule.score(evidence), rule.refuses(evidence)
    if refused.any():
        assert refused[score > score[refused].min()].all()
    assert (score <= rule.highest_score + 1e-6).all()
    assert (score >= -1e-6).all()
    explained = (evidence.image_surprise <= evidence.entropy_surprise) & (evidence.total.exp() <= MOST_MEANT)
    assert not (rule.unfamiliar(evidence) & explained).any()


@pytest.mark.parametrize("rule", RULES_BY_HAND)
def test_a_rule_comes_back_from_its_plain_values(rule: AbstentionRule) -> None:
    assert rule_from_dict(rule.to_dict()) == rule
    assert type(rule_from_dict(rule.to_dict())) is RULES[rule.name]


SOUND = {"name": "entropy", "threshold": 0.5, "refuse": 0.02}
NO_SHARES: tuple[Any, ...] = (math.nan, math.inf, -math.inf, -1, "0.5", None, [], 10**400)
CALIBRATED = CalibratedRule(20.0, 0.5, 0.01, 0.05, 0.01).to_dict()


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
        {"name": "calibrated"},
        *(CALIBRATED | {name: value} for name in CALIBRATED for value in NO_SHARES),
        *(CALIBRATED | {name: value} for name in ("risk", "delta", "alpha") for value in (0, 1, 1.5)),
        CALIBRATED | {"unfamiliar_threshold": 0},
        CALIBRATED | {"refuse": 0.05},
    ],
)
def test_damaged_values_stand_for_no_rule(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"\.$"):
        rule_from_dict(values)


def test_an_unknown_rule_names_those_there_are(random_evidence: RandomEvidence) -> None:
    with pytest.raises(InputError, match="calibrated, entropy, confidence, median"):
        fit_rule("oracle", calibration_of(random_evidence(20, 0)), Wishes())


def test_reasons_by_hand() -> None:
    surprises = torch.tensor(
        [[1.0, 9.0, 1.0, 3.0, 0.0], [0.5, 1.0, 4.0, 3.0, 0.0], [0.5, 1.0, 4.0, 0.0, 9.0]]
    )
    evidence = Evidence(torch.zeros(5, 10), torch.zeros(5, 10), *torch.zeros(3, 5), *surprises)
    refused = torch.tensor([False, True, True, True, False])
    expected = ["answered", "ambiguous", "unfamiliar", "ambiguous", "answered"]
    assert reasons(EntropyRule(0.5, 0.02), evidence, refused) == expected
    strict = CalibratedRule(100.0, 0.5, 0.01, 0.05, 0.01)  # to which nothing here is strange
    assert reasons(strict, evidence, refused) == [why.replace("unfamiliar", "ambiguous") for why in expected]


def test_what_could_be_most_digits_is_unfamiliar_and_what_could_be_few_is_ambiguous() -> None:
    evidence = by_scores(torch.log(torch.tensor([2.0, 4.9, 5.1, 10.0])), torch.full((4,), 30.0))
    evidence = replace(evidence, entropy_surprise=torch.full((4,), 9.0), pixel_surprise=torch.zeros(4))
    refused = torch.ones(4, dtype=torch.bool)
    assert reasons(CalibratedRule(1.0, 0.5, 0.01, 0.05, 0.01), evidence, refused) == [
        *("ambiguous", "ambiguous"),
        *("unfamiliar", "unfamiliar"),
    ]


@pytest.mark.parametrize("name", ["risk", "delta", "alpha", "refuse"])
@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, math.nan, math.inf, -math.inf])
def test_a_wish_outside_0_and_1_is_named(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^--{name} must lie between 0 and 1, and [-.\w]+ does not\.$"):
        Wishes(**{name: value})


@given(st.floats(1e-8, 1, exclude_min=True))
def test_a_wish_is_rounded_up_to_two_digits(share: float) -> None:
    rounded = rounded_up(share)
    assert share <= rounded <= share * 1.1
    assert float(f"{rounded:.1e}") == rounded == rounded_up(rounded)


def test_the_calibrated_rule_by_hand() -> None:
    entropy = torch.tensor([0.1, 0.5, 0.6, 0.1, 2.2])
    unfamiliarity = torch.tensor([10.0, 20.0, 3.0, 20.5, 40.0])
    evidence = by_scores(entropy, unfamiliarity)
    rule = CalibratedRule(20.0, 0.5, 0.01, 0.05, 0.01)
    assert rule.refuses(evidence).tolist() == [False, False, True, True, True]  # at a threshold: answered
    assert rule.unfamiliar(evidence).tolist() == [False, False, False, True, True]
    expected = torch.tensor([0.1 / math.log(10), 0.5 / math.log(10), 0.6 / math.log(10), 2 - 20 / 20.5, 1.5])
    torch.testing.assert_close(rule.score(evidence), expected)


@given(st.integers(0, 999), st.integers(20, 200), st.floats(0.03, 0.5))
def test_of_exchangeable_digits_at_most_alpha_are_refused_as_unfamiliar(
    seed: int, n: int, alpha: float
) -> None:
    if alpha * n < 1:
        return
    generator = torch.Generator().manual_seed(seed)
    unfamiliarity = torch.randint(1, 60, (n,), generator=generator).float()
    evidence, wishes = by_scores(torch.zeros(n), unfamiliarity), Wishes(risk=0.9, delta=0.9, alpha=alpha)
    refused = 0
    for fresh in range(n):  # each digit in turn, the others being the calibration set
        others = torch.arange(n) != fresh
        rule = CalibratedRule.fit(calibration_of(evidence[others]), wishes)
        refused += int(rule.refuses(evidence[~others]))
    assert refused <= alpha * n + 1e-9


def test_the_calibrated_rule_keeps_its_promise_of_the_risk_among_all_that_it_answers() -> None:
    """The doubt, the strangeness and the errors hang together, and both thresholds are fitted at once."""
    wishes = Wishes(risk=0.05, delta=0.2, alpha=0.1)

    def digits(n: int) -> Calibration:
        doubt, strange = torch.rand(2, n, generator=generator)
        wrong = torch.rand(n, generator=generator) < 0.4 * doubt**3 + 0.05 * strange**4
        return Calibration(by_scores(doubt, strange + doubt + 0.1), wrong.long(), grid)

    generator = torch.Generator().manual_seed(0)
    grid = torch.rand(200, generator=generator)
    fresh, broken, fitted = digits(40_000), 0, 0
    for _ in range(500):
        try:
            rule = CalibratedRule.fit(digits(400), wishes)
        except InputError:
            continue  # no rule, no broken promise
        answered = ~rule.refuses(fresh.evidence)
        broken += int((fresh.labels[answered] != 0).double().mean() > wishes.risk)
        fitted += 1
    assert fitted > 250
    assert broken / 500 <= wishes.delta + 4 * math.sqrt(wishes.delta * (1 - wishes.delta) / 500)


def test_the_fitted_rule_answers_what_it_was_fitted_for(random_evidence: RandomEvidence) -> None:
    evidence = random_evidence(1000, 3)
    wishes = Wishes(risk=0.02, delta=0.1, alpha=0.05)
    rule = CalibratedRule.fit(calibration_of(evidence), wishes)
    assert (rule.risk, rule.delta, rule.alpha) == (0.02, 0.1, 0.05)
    strange = evidence.unfamiliarity > rule.unfamiliar_threshold
    assert strange.sum() == 49  # k = ⌈1001 · 0.95⌉ = 951 are not
    assert rule.ambiguous_threshold == evidence.total.max().item()  # no error, so none is ambiguous
    assert rule.refuses(evidence).equal(strange)


def test_a_risk_that_cannot_be_shown_names_one_that_can(random_evidence: RandomEvidence) -> None:
    evidence = random_evidence(1000, 3)
    labels = evidence.mean.argmax(-1)
    labels[::12] = (labels[::12] + 1) % 10  # whatever the entropy
    calibration = calibration_of(evidence, labels)
    wishes = Wishes(risk=0.01, delta=0.1, alpha=0.05)
    with pytest.raises(
        InputError, match=r"^the surest of these 950 [^\n]* at most 0\.01 [^\n]*: ask for a risk of"
    ) as caught:
        fit_rule("calibrated", calibration, wishes)
    found = re.search(r"ask for a risk of (\S+)\.$", str(caught.value))
    assert found
    assert 0.03 < float(found[1]) < 0.3
    assert fit_rule("calibrated", calibration, Wishes(float(found[1]), wishes.delta, wishes.alpha))


def test_digits_that_are_all_wrong_can_show_no_risk(random_evidence: RandomEvidence) -> None:
    evidence = random_evidence(300, 0)
    wrong = (evidence.mean.argmax(-1) + 1) % 10
    with pytest.raises(InputError, match=r"nor any higher one: train a better network, [^\n]*\.$"):
        fit_rule("calibrated", calibration_of(evidence, wrong), Wishes(0.05, 0.05, 0.05))


@pytest.mark.parametrize("name", RULES)
@given(st.integers(1, 400), st.floats(0.005, 0.5), st.floats(0.005, 0.5), st.floats(0.005, 0.5))
def test_what_is_known_beforehand_to_be_too_few_digits_is_refused_in_the_same_words(
    random_evidence: RandomEvidence, name: str, n: int, risk: float, delta: float, alpha: float
) -> None:
    wishes = Wishes(risk, delta, alpha, refuse=alpha)
    try:
        RULES[name].require_fittable(n, wishes)
    except InputError as error:
        with pytest.raises(InputError, match=re.escape(str(error))):
            fit_rule(name, calibration_of(random_evidence(n, 0)), wishes)
        return
    evidence = by_scores(torch.zeros(n), torch.rand(n) + 0.1)  # the easiest digits there can be
    fit_rule(name, calibration_of(evidence), wishes)
