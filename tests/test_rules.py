"""Abstention rules: their promises, by brute force and by hand, on evidence and on plain arrays."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core.checkpoint import Checkpoint
from bnn.core.evidence import Evidence
from bnn.core.uncertainty import Predictive
from bnn.errors import InputError
from bnn.rules.abstention import MEANT_SHARE, AbstentionRule, Calibration, RefuseAll
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.promise import PROMISES, Promise, rounded_up
from bnn.rules.risk_control import exact_interval
from bnn.rules.table import RULES, fit_rule, rule_from_dict
from bnn.rules.thresholds import ConfidenceRule, EntropyRule, MedianRule

RandomEvidence = Callable[..., Evidence]

WITHOUT_SCORES = CalibratedRule(None, 0.5, 0.01, 0.05, 0.01)
RULES_BY_HAND = [
    *(EntropyRule(0.5, 0.02), ConfidenceRule(0.25, 0.1), MedianRule(0.2), MedianRule(0.0)),
    *(CalibratedRule(6.0, 0.5, 0.01, 0.05, 0.01), CalibratedRule(0.5, 2.5, 0.01, 0.05, 0.01)),
    *(CalibratedRule(-3.0, 0.5, 0.01, 0.05, 0.01), CalibratedRule(0.0, 2.5, 0.01, 0.05, 0.01)),
    *(WITHOUT_SCORES, RefuseAll("a test wants it.")),
]


def calibration_of(evidence: Evidence, labels: Tensor | None = None) -> Calibration:
    """Calibration images, by default all of them what they seem; thresholds to try are their entropies."""
    return Calibration(evidence, evidence.mean.argmax(-1) if labels is None else labels, evidence.total)


def by_scores(entropy: Tensor, ood: Tensor, novelty: Tensor | None = None, classes: int = 10) -> Evidence:
    """Evidence of these entropies and OOD scores, (n,), all for the class 0; the rest is idle."""
    n, rest = len(entropy), torch.zeros(len(entropy))
    first = torch.eye(classes)[torch.zeros(n, dtype=torch.long)]
    novelty = ood if novelty is None else novelty
    return Evidence(Predictive(first, first, entropy, entropy, rest), {"a": ood / 2}, ood, novelty)


@pytest.mark.parametrize("name", ["entropy", "confidence"])
@given(seed=st.integers(0, 999), refuse=st.floats(0.01, 0.6))
def test_a_fitted_rule_refuses_at_most_its_share_of_its_own_calibration_set(
    random_evidence: RandomEvidence, name: str, seed: int, refuse: float
) -> None:
    evidence = random_evidence(150, seed)
    rule = fit_rule(name, calibration_of(evidence), Promise(refuse=refuse))
    share = rule.refuses(evidence).float().mean().item()
    assert share <= refuse
    assert share > refuse - 2 / 150  # and not needlessly few


def test_the_median_rule_by_hand() -> None:
    medians = torch.tensor([[0.1, 0.3, 0.15], [0.1, 0.19, 0.1], [0.2, 0.0, 0.1], [0.0, 0.0, 0.21]])
    predictive = Predictive(medians, medians, *torch.zeros(3, 4))
    evidence = Evidence(predictive, {}, torch.zeros(4), torch.zeros(4))
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
    rule = kind.fit_on(calibration_of(evidence), Promise(refuse=0.1))
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
    assert (score <= rule.highest_score(10) + 1e-6).all()
    assert (score >= -1e-6).all()
    explained = (evidence.novelty <= 0) & (evidence.total.exp() <= MEANT_SHARE * 10)
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
        *(
            CALIBRATED | {name: value}
            for name in CALIBRATED
            for value in NO_SHARES
            if (name, value) != ("unfamiliar_threshold", None)
            and (name, value) != ("unfamiliar_threshold", -1)
        ),
        *(CALIBRATED | {name: value} for name in ("risk", "delta", "alpha") for value in (0, 1, 1.5)),
        CALIBRATED | {"refuse": 0.05},
        {"name": "refuse-all"},
        {"name": "refuse-all", "why": 3},
        {"name": "refuse-all", "why": "so", "instead_of": None},
        {"name": "refuse-all", "why": "so", "wanted": 7},
        {"name": "refuse-all", "why": "so", "wanted": {"risk": 2}},
        {"name": "refuse-all", "why": "so", "wanted": {"luck": 0.1}},
        {"name": "refuse-all", "why": "so", "wanted": [0.1]},
        {"name": "x" * 100_000},
    ],
)
def test_damaged_values_stand_for_no_rule(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^[^\n]{1,500}\.$"):
        rule_from_dict(values)


def test_an_unknown_rule_names_those_there_are(random_evidence: RandomEvidence) -> None:
    with pytest.raises(InputError, match="calibrated, entropy, confidence, median"):
        fit_rule("oracle", calibration_of(random_evidence(20, 0)), Promise())


def test_reasons_by_hand() -> None:
    entropy = torch.tensor([0.1, 0.9, 0.9, 0.9, 0.1])
    novelty = torch.tensor([5.0, -8.0, 7.0, 0.0, 9.0])
    evidence = by_scores(entropy, torch.full((5,), 30.0), novelty)
    expected = ["answered", "ambiguous", "unfamiliar", "ambiguous", "answered"]
    assert EntropyRule(0.5, 0.02).decide(evidence).reasons.tolist() == expected
    lenient = CalibratedRule(100.0, 0.5, 0.01, 0.05, 0.01)  # to which nothing here is strange
    assert lenient.decide(evidence).reasons.tolist() == [
        why.replace("unfamiliar", "ambiguous") for why in expected
    ]
    strict = CalibratedRule(1.0, 0.5, 0.01, 0.05, 0.01)  # to which everything is
    assert strict.decide(evidence).reasons.tolist() == [
        "unfamiliar" if new > 0 else "ambiguous" for new in novelty.tolist()
    ]


@pytest.mark.parametrize(("classes", "few"), [(2, 2), (3, 2.5), (4, 2.5), (6, 3), (10, 5)])
def test_what_could_be_most_classes_is_unfamiliar_and_what_could_be_few_is_ambiguous(
    classes: int, few: float
) -> None:
    meant = torch.tensor([1.2, 0.99 * few, min(1.01 * few, classes), classes])
    evidence = by_scores(meant.log(), torch.full((4,), 30.0), torch.full((4,), -9.0), classes)
    most = "unfamiliar" if classes > 2 else "ambiguous"  # between two an image may well leave the choice
    reasons = CalibratedRule(1.0, 0.1, 0.01, 0.05, 0.01).decide(evidence).reasons.tolist()
    assert reasons == ["ambiguous", "ambiguous", most, most]


def test_of_two_classes_one_of_them_is_always_left() -> None:
    probs = torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.99, 0.01]])
    for rule in (EntropyRule(0.1, 0.1), ConfidenceRule(0.1, 0.1), MedianRule(0.9)):
        assert rule.decide(probs).reasons.tolist() == ["ambiguous", "ambiguous", "answered"]


@pytest.mark.parametrize("name", ["risk", "delta", "alpha", "refuse"])
@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, math.nan, math.inf, -math.inf])
def test_a_wish_outside_0_and_1_is_named(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^{name} must lie between 0 and 1, and [-.\w]+ does not\.$"):
        Promise(**{name: value})


@given(st.floats(1e-8, 1, exclude_min=True))
def test_a_wish_is_rounded_up_to_two_digits(share: float) -> None:
    rounded = rounded_up(share)
    assert share <= rounded <= share * 1.1
    assert float(f"{rounded:.1e}") == rounded == rounded_up(rounded)


def test_the_calibrated_rule_by_hand() -> None:
    entropy = torch.tensor([0.1, 0.5, 0.6, 0.1, 2.2])
    evidence = by_scores(entropy, torch.tensor([10.0, 20.0, 3.0, 20.5, 40.0]))
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
    ood = torch.randint(-30, 30, (n,), generator=generator).float()
    evidence, promise = by_scores(torch.zeros(n), ood), Promise(risk=0.9, delta=0.9, alpha=alpha)
    refused = 0
    for fresh in range(n):  # each digit in turn, the others being the calibration set
        others = torch.arange(n) != fresh
        rule = CalibratedRule.fit_on(calibration_of(evidence[others]), promise)
        refused += int(rule.refuses(evidence[~others]))
    assert refused <= alpha * n + 1e-9


def test_the_calibrated_rule_keeps_its_promise_of_the_risk_among_all_that_it_answers() -> None:
    """The doubt, the strangeness and the errors hang together, and both thresholds are fitted at once."""
    promise = Promise(risk=0.05, delta=0.2, alpha=0.1)

    def digits(n: int) -> Calibration:
        doubt, strange = torch.rand(2, n, generator=generator)
        wrong = torch.rand(n, generator=generator) < 0.4 * doubt**3 + 0.05 * strange**4
        return Calibration(by_scores(doubt, strange + doubt + 0.1), wrong.long(), grid)

    generator = torch.Generator().manual_seed(0)
    grid = torch.rand(200, generator=generator)
    fresh, broken, fitted = digits(40_000), 0, 0
    for _ in range(500):
        try:
            rule = CalibratedRule.fit_on(digits(400), promise)
        except InputError:
            continue  # no rule, no broken promise
        answered = ~rule.refuses(fresh.evidence)
        broken += int((fresh.labels[answered] != 0).double().mean() > promise.risk)
        fitted += 1
    assert fitted > 250
    assert broken / 500 <= promise.delta + 4 * math.sqrt(promise.delta * (1 - promise.delta) / 500)


def test_the_fitted_rule_answers_what_it_was_fitted_for(random_evidence: RandomEvidence) -> None:
    evidence = random_evidence(1000, 3)
    promise = Promise(risk=0.02, delta=0.1, alpha=0.05)
    rule = CalibratedRule.fit_on(calibration_of(evidence), promise)
    assert (rule.risk, rule.delta, rule.alpha) == (0.02, 0.1, 0.05)
    strange = evidence.ood > rule.thresholds["ood"]
    assert strange.sum() == 49  # k = ⌈1001 · 0.95⌉ = 951 are not
    assert rule.ambiguous_threshold == evidence.total.max().item()  # no error, so none is ambiguous
    assert rule.refuses(evidence).equal(strange)


def test_a_risk_that_cannot_be_shown_names_one_that_can(random_evidence: RandomEvidence) -> None:
    evidence = random_evidence(1000, 3)
    labels = evidence.mean.argmax(-1)
    labels[::12] = (labels[::12] + 1) % 10  # whatever the entropy
    calibration = calibration_of(evidence, labels)
    promise = Promise(risk=0.01, delta=0.1, alpha=0.05)
    with pytest.raises(
        InputError, match=r"^the surest of these 950 [^\n]* at most 0\.01 [^\n]*: ask for a risk of"
    ) as caught:
        fit_rule("calibrated", calibration, promise)
    found = re.search(r"ask for a risk of (\S+)\.$", str(caught.value))
    assert found
    assert 0.03 < float(found[1]) < 0.3
    assert fit_rule("calibrated", calibration, Promise(float(found[1]), promise.delta, promise.alpha))


def test_digits_that_are_all_wrong_can_show_no_risk(random_evidence: RandomEvidence) -> None:
    evidence = random_evidence(300, 0)
    wrong = (evidence.mean.argmax(-1) + 1) % 10
    with pytest.raises(InputError, match=r"nor any higher one: train a better network, [^\n]*\.$"):
        fit_rule("calibrated", calibration_of(evidence, wrong), Promise(0.05, 0.05, 0.05))


@pytest.mark.parametrize("name", RULES)
@given(st.integers(1, 400), st.floats(0.005, 0.5), st.floats(0.005, 0.5), st.floats(0.005, 0.5))
def test_what_is_known_beforehand_to_be_too_few_digits_is_refused_in_the_same_words(
    random_evidence: RandomEvidence, name: str, n: int, risk: float, delta: float, alpha: float
) -> None:
    promise = Promise(risk, delta, alpha, refuse=alpha)
    try:
        RULES[name].require_fittable(n, promise)
    except InputError as error:
        with pytest.raises(InputError, match=re.escape(str(error))):
            fit_rule(name, calibration_of(random_evidence(n, 0)), promise)
        return
    evidence = by_scores(torch.zeros(n), torch.rand(n) + 0.1)  # the easiest digits there can be
    fit_rule(name, calibration_of(evidence), promise)


# What every rule does.


def measures(evidence: Evidence) -> dict[str, Tensor]:
    return {"total": evidence.total, "ood": evidence.ood, "doubt": 1 - evidence.mean.amax(-1)}


@pytest.mark.parametrize("rule", RULES_BY_HAND)
@given(seed=st.integers(0, 999))
def test_it_refuses_what_is_above_one_of_its_thresholds_and_nothing_else(
    random_evidence: RandomEvidence, rule: AbstentionRule, seed: int
) -> None:
    evidence = random_evidence(60, seed)
    if not rule.thresholds:
        assert isinstance(rule, MedianRule | RefuseAll)  # of which one compares medians, and one nothing
        return
    above = [measures(evidence)[name] > highest for name, highest in rule.thresholds.items()]
    assert rule.refuses(evidence).equal(torch.stack(above).any(0))


WRONG = st.sampled_from((math.nan, math.inf, -math.inf))


@pytest.mark.parametrize("rule", RULES_BY_HAND)
@given(data=st.data(), seed=st.integers(0, 99))
def test_what_is_not_finite_anywhere_is_refused_and_has_the_highest_score(
    random_evidence: RandomEvidence, rule: AbstentionRule, data: st.DataObject, seed: int
) -> None:
    sound = random_evidence(12, seed)
    tensors = {name: value.clone() for name, value in sound.tensors().items()}
    spoilt = data.draw(st.sets(st.integers(0, 11), min_size=1, max_size=5), "images")
    for image in spoilt:
        name = data.draw(st.sampled_from(sorted(tensors)), "where")
        wrong = math.nan if name == "joined/novelty" else data.draw(WRONG, "what")
        tensors[name][image].view(-1)[-1] = wrong
    evidence = _of_tensors(tensors)
    kept = torch.tensor([image not in spoilt for image in range(12)])
    assert rule.refuses(evidence)[~kept].all()
    assert rule.score(evidence)[~kept].eq(np.float32(rule.highest_score(10)).item()).all()
    assert rule.unfamiliar(evidence)[~kept].all()
    for said in (rule.refuses, rule.score, rule.unfamiliar):
        assert said(evidence)[kept].equal(said(sound)[kept])
    decided = rule.decide(_as_fitted(rule, evidence))
    if rule != WITHOUT_SCORES:
        assert (decided.labels[~kept.numpy()] == -1).all()
        assert set(decided.reasons[~kept.numpy()]) == {"unfamiliar"}
    assert np.isfinite(decided.scores).all()


def _of_tensors(tensors: dict[str, Tensor]) -> Evidence:
    """As `Evidence.from_tensors`, which takes none that are not finite."""
    groups: dict[str, dict[str, Tensor]] = {"predictive": {}, "surprise": {}, "joined": {}}
    for key, value in tensors.items():
        group, _, name = key.partition("/")
        groups[group][name] = value
    return Evidence(Predictive(**groups["predictive"]), groups["surprise"], **groups["joined"])


def _as_fitted(rule: AbstentionRule, evidence: Evidence) -> Evidence:
    """`evidence` without OOD scores where `rule` was fitted without."""
    return replace(evidence, surprises={}) if rule == WITHOUT_SCORES else evidence


@pytest.mark.parametrize("rule", RULES_BY_HAND)
def test_its_decisions_are_what_it_refuses_why_and_by_how_much(
    random_evidence: RandomEvidence, rule: AbstentionRule
) -> None:
    evidence = _as_fitted(rule, random_evidence(200, 1))
    decided, refused = rule.decide(evidence), rule.refuses(evidence).numpy()
    unfamiliar = rule.unfamiliar(evidence).numpy()
    assert np.array_equal(decided.labels == -1, refused)
    assert np.array_equal(decided.labels[~refused], rule.labels(evidence).numpy()[~refused])
    assert np.array_equal(decided.reasons == "answered", ~refused)
    assert np.array_equal((decided.reasons == "unfamiliar")[refused], unfamiliar[refused])
    assert np.array_equal(decided.scores, rule.score(evidence).numpy())
    assert decided.labels.dtype == np.int64
    assert decided.scores.dtype == np.float32


def test_what_each_rule_says_of_itself() -> None:
    said = [rule.describe().replace("\N{NO-BREAK SPACE}", " ") for rule in RULES_BY_HAND]
    assert all(re.fullmatch(r"[A-Z][^\n]+[^.]\.", sentence) for sentence in said)
    assert "refuse at most 2 %: those whose predictive entropy (nats) is above 0.5." in said[0]
    assert "refuse at most 10 %: those whose doubt" in said[1]
    assert "above 0.2; it promises nothing." in said[2]
    answers = "answer at most 1 % wrongly (with 95 % confidence)"
    assert said[4].endswith(f"{answers} and to call at most 1 % unfamiliar.")
    assert said[-2].endswith(f"{answers}.")  # without scores
    assert said[-1] == "Refuses every image: a test wants it."


@pytest.mark.parametrize("name", RULES)
def test_a_rule_fitted_anew_as_it_was_asked_is_the_same(random_evidence: RandomEvidence, name: str) -> None:
    calibration = calibration_of(random_evidence(500, 0))
    wanted = Promise(risk=0.05, delta=0.1, alpha=0.04, refuse=0.2)
    rule = fit_rule(name, calibration, wanted)
    assert set(rule.controls) <= set(PROMISES)
    promise = rule.promise
    assert (promise is None) == (not rule.controls)
    if promise is not None:
        assert all(getattr(promise, control) == getattr(wanted, control) for control in rule.controls)
        kind, asked = rule.asked
        assert fit_rule(kind, calibration, asked) == rule


def test_the_rule_that_refuses_everything_remembers_what_was_wanted(random_evidence: RandomEvidence) -> None:
    wanted = Promise(risk=0.3)
    rule = RefuseAll("the network is no good.", "entropy", wanted)
    assert rule.asked == ("entropy", wanted)
    assert rule_from_dict(rule.to_dict()) == rule
    assert rule.promise is None
    decided = rule.decide(random_evidence(30, 0))
    assert set(decided.labels.tolist()) == {-1}
    assert set(decided.scores.tolist()) == {1.0}


# Plain arrays, of this library or any other.


def logistic_regression(classes: int) -> tuple[LogisticRegression, Any, Any, Any, Any]:
    """Of scikit-learn's digits below `classes`: a model, and what to calibrate and to test it on."""
    images, labels = load_digits(return_X_y=True)
    images, labels = images[labels < classes] / 16, labels[labels < classes]
    x_train, x_rest, y_train, y_rest = train_test_split(images, labels, test_size=0.75, random_state=0)
    x_cal, x_test, y_cal, y_test = train_test_split(x_rest, y_rest, test_size=0.5, random_state=0)
    return LogisticRegression(max_iter=2000).fit(x_train, y_train), x_cal, y_cal, x_test, y_test


@pytest.mark.parametrize(("classes", "risk"), [(2, 0.03), (3, 0.03), (10, 0.03)])
def test_another_librarys_probabilities_in_three_lines(classes: int, risk: float) -> None:
    model, x_cal, y_cal, x_test, y_test = logistic_regression(classes)
    rule = CalibratedRule.fit(model.predict_proba(x_cal), y_cal, Promise(risk=risk))
    decided = rule.decide(model.predict_proba(x_test))

    answered = decided.labels >= 0
    wrong = int((decided.labels != y_test)[answered].sum())
    # More errors than this one would see once in a thousand times, were the promise kept.
    assert binomtest(wrong, int(answered.sum()), risk, alternative="greater").pvalue > 1e-3
    assert answered.mean() > 0.8
    assert np.array_equal(decided.labels[answered], model.predict(x_test)[answered])
    assert rule.unfamiliar_threshold is None
    with pytest.raises(InputError, match=r"^\d+ calibration images cannot show a risk of at most 0\.0001 "):
        CalibratedRule.fit(model.predict_proba(x_cal), y_cal, Promise(risk=0.0001))


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_another_librarys_probabilities_and_scores_in_three_lines(classes: int) -> None:
    model, x_cal, y_cal, x_test, y_test = logistic_regression(classes)

    def strangeness(images: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.abs(images.mean(1) - x_cal.mean())

    alpha, risk = 0.1, 0.05
    promise = Promise(risk=risk, alpha=alpha)
    rule = CalibratedRule.fit(model.predict_proba(x_cal), y_cal, promise, scores=strangeness(x_cal))
    decided = rule.decide(model.predict_proba(x_test), strangeness(x_test))

    answered, strange = decided.labels >= 0, decided.reasons == "unfamiliar"
    wrong = int((decided.labels != y_test)[answered].sum())
    assert binomtest(wrong, int(answered.sum()), risk, alternative="greater").pvalue > 1e-3
    assert binomtest(int(strange.sum()), len(strange), alpha, alternative="greater").pvalue > 1e-3
    assert answered.mean() > 0.7
    inverted = rule.decide(model.predict_proba(1 - x_test), strangeness(1 - x_test))
    assert (inverted.reasons == "unfamiliar").mean() > 0.9


def test_a_stricter_promise_answers_less_and_stays_among_what_the_other_answers() -> None:
    model, x_cal, y_cal, x_test, _ = logistic_regression(10)
    probs = model.predict_proba(x_cal)
    lenient, strict = (CalibratedRule.fit(probs, y_cal, Promise(risk=risk)) for risk in (0.1, 0.02))
    answers = [rule.decide(model.predict_proba(x_test)).labels >= 0 for rule in (lenient, strict)]
    assert answers[1].sum() < answers[0].sum()
    assert not (answers[1] & ~answers[0]).any()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("scored", [False, True])
def test_every_rule_takes_arrays_of_any_kind(
    random_evidence: RandomEvidence, name: str, classes: int, scored: bool
) -> None:
    probs = random_evidence(150, 0, classes).mean.double()
    labels = probs.argmax(1)
    scores = torch.randn(150, generator=torch.Generator().manual_seed(0)).double() if scored else None
    promise = Promise(risk=0.1, delta=0.1, alpha=0.1, refuse=0.2)

    def fitted(as_kind: Callable[[Tensor], Any]) -> tuple[AbstentionRule, list[list[Any]]]:
        given = None if scores is None else as_kind(scores)
        rule = RULES[name].fit(as_kind(probs), as_kind(labels), promise, scores=given)
        return rule, [part.tolist() for part in rule.decide(as_kind(probs), given)]

    kinds: list[Callable[[Tensor], Any]] = [
        lambda values: values,
        lambda values: values.float() if values.is_floating_point() else values.int(),
        lambda values: values.clone().requires_grad_(values.is_floating_point()),
        lambda values: values.numpy(),
        lambda values: np.asfortranarray(values.numpy()),
        lambda values: values.numpy()[::-1].copy()[::-1],
        lambda values: _read_only(values.numpy().copy()),
        lambda values: values.tolist(),
        lambda values: tuple(values.tolist()),
    ]
    expected = fitted(kinds[0])
    assert all(fitted(kind) == expected for kind in kinds[1:])
    # Of an ensemble whose draws agree; there are as many as make no rounding.
    rule, decided = fitted(lambda values: values.expand(4, -1, -1) if values.ndim == 2 else values)
    assert type(rule) is type(expected[0])
    assert decided[:2] == expected[1][:2]
    np.testing.assert_allclose(decided[2], expected[1][2], atol=1e-6)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def test_an_ensembles_arrays_are_decided_as_its_evidence() -> None:
    generator = torch.Generator().manual_seed(0)
    votes = (4 * torch.randn(7, 80, 3, generator=generator)).softmax(-1)
    evidence = Evidence.of(votes)
    for name, value in Predictive.of(votes).tensors().items():
        assert evidence.predictive.tensors()[name].equal(value)
    for rule in (EntropyRule(0.5, 0.1), ConfidenceRule(0.3, 0.1), MedianRule(0.5), WITHOUT_SCORES):
        of_arrays, of_evidence = rule.decide(votes.numpy()), rule.decide(evidence)
        for name in of_arrays._fields:
            assert np.array_equal(getattr(of_arrays, name), getattr(of_evidence, name))
        assert rule.decide(votes[:, :0]).labels.shape == (0,)


def test_many_probabilities_are_summarised_a_part_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = torch.rand(5, 83, 3, generator=torch.Generator().manual_seed(0)).softmax(-1)
    whole, at_once = Evidence.of(votes).tensors(), []
    of = Predictive.of

    def watched(probs: Tensor) -> Predictive:
        at_once.append(probs.numel())
        return of(probs)

    monkeypatch.setattr("bnn.core.evidence.MOST_SUMMARISED", 100)
    monkeypatch.setattr(Predictive, "of", watched)
    in_parts = Evidence.of(votes).tensors()
    assert max(at_once) <= 100
    for name, value in whole.items():
        torch.testing.assert_close(in_parts[name], value)


def test_evidence_is_no_view_of_what_was_given() -> None:
    probs, scores = np.full((3, 2), 0.5, np.float32), np.ones(3, np.float32)
    evidence = Evidence.of(probs, scores)
    of_tensors = Evidence.of(torch.from_numpy(probs), torch.from_numpy(scores))
    probs[:], scores[:] = 7, 7
    assert evidence.mean.max() == of_tensors.mean.max() == 0.5
    assert evidence.ood.max() == of_tensors.ood.max() == 1


EVEN = np.full((20, 4), 0.25)


def spoilt_at(where: tuple[int, ...], value: float) -> NDArray[np.float64]:
    probs = EVEN.copy()
    probs[where] = value
    return probs


@pytest.mark.parametrize(
    ("probs", "why"),
    [
        (EVEN * 0.9, "sum to 1"),
        (EVEN * 4, "sum to 1"),
        (spoilt_at((3, 2), 0.27), "sum to 1"),
        (spoilt_at((3, 2), math.nan), "without NaN"),
        (spoilt_at((3, 2), math.inf), "sum to 1"),
        (np.tile([1.2, -0.2, 0, 0], (20, 1)), "between 0 and 1"),
        (np.log(EVEN), "between 0 and 1"),
        (EVEN[0], r"not \(4,\)"),
        (EVEN[:, :1] * 4, r"at least 2 classes, not \(1, 20, 1\)"),
        (EVEN[None, None], r"not \(1, 1, 20, 4\)"),
        (np.zeros((0, 20, 4)), r"not \(0, 20, 4\)"),
        (0.5, r"not \(\)"),
        ("probabilities", "array of numbers"),
        (None, "array of numbers"),
        ([[0.5, 0.5], [1.0]], "array of numbers"),
        ([["a", "b"]], "array of numbers"),
        (EVEN.astype(complex), "array of numbers"),
        (torch.tensor(EVEN) * 1j, "array of numbers"),
    ],
)
def test_what_are_no_probabilities_is_refused_in_one_sentence(probs: Any, why: str) -> None:
    with pytest.raises(InputError, match=rf"^probabilities must [^\n]*{why}[^\n]*\.$"):
        WITHOUT_SCORES.decide(probs)
    with pytest.raises(InputError, match=rf"^probabilities must [^\n]*{why}[^\n]*\.$"):
        CalibratedRule.fit(probs, np.zeros(20, int))


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        (np.ones(19), r"20 numbers, one an image, not of shape \(19,\)"),
        (np.ones((20, 1)), r"20 numbers, one an image, not of shape \(20, 1\)"),
        (1.0, r"20 numbers, one an image, not of shape \(\)"),
        (spoilt_at((3, 2), math.nan)[:, 2], "finite numbers, without NaN"),
        (spoilt_at((3, 2), math.inf)[:, 2], "finite numbers, without NaN"),
        (spoilt_at((3, 2), 1e300)[:, 2], "finite numbers, without NaN"),
        (["a"] * 20, "an array of numbers"),
        ([[1.0], 2.0], "an array of numbers"),
    ],
)
def test_what_are_no_scores_is_refused_in_one_sentence(scores: Any, why: str) -> None:
    with pytest.raises(InputError, match=rf"^scores must be {why}[^\n]*\.$"):
        CalibratedRule(1.0, 0.5, 0.01, 0.05, 0.01).decide(EVEN, scores)
    with pytest.raises(InputError, match=rf"^scores must be {why}[^\n]*\.$"):
        CalibratedRule.fit(EVEN, np.zeros(20, int), scores=scores)


@pytest.mark.parametrize(
    "labels",
    [
        *(np.zeros(19, int), np.zeros(21, int), np.zeros((20, 1), int), np.zeros(0, int), 3, None),
        *(np.zeros(20), np.zeros(20, bool), np.full(20, 4), np.full(20, -1), np.full(20, 2**62), ["1"] * 20),
        *([1, [2]], torch.zeros(20), np.full(20, math.nan)),
    ],
)
def test_labels_that_are_none_are_refused_in_one_sentence(labels: Any) -> None:
    for rule in RULES.values():
        with pytest.raises(InputError, match=r"^(20 images need as many labels|a label must be)[^\n]*\.$"):
            rule.fit(EVEN, labels)


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_is_fitted_to_no_image_or_to_one(n: int) -> None:
    for rule in RULES.values():
        with pytest.raises(InputError, match=r"^(there are no images|one image is none to)[^\n]*\.$"):
            rule.fit(EVEN[:n], np.zeros(n, int))


def test_a_rule_is_asked_with_scores_where_it_was_fitted_with_some_and_only_there() -> None:
    with_scores = CalibratedRule(1.0, 2.0, 0.01, 0.05, 0.01)
    with pytest.raises(InputError, match=r"^the rule was fitted with OOD scores and is asked without any: "):
        with_scores.decide(EVEN)
    with pytest.raises(InputError, match=r"^the rule was fitted without OOD scores and is asked with any: "):
        WITHOUT_SCORES.decide(EVEN, np.ones(20))
    assert (with_scores.decide(EVEN, np.ones(20)).labels == 0).all()


@dataclass(frozen=True)
class GapRule(AbstentionRule):
    """Answers where the likeliest class is ahead of the next by more than `gap`."""

    gap: float

    name: ClassVar[str] = "gap"

    def answers(self, evidence: Evidence) -> Tensor:
        return self.reluctance(evidence) < 1 - self.gap

    def reluctance(self, evidence: Evidence) -> Tensor:
        best, second = evidence.mean.topk(2).values.T
        return 1 - (best - second)

    def highest_score(self, classes: int) -> float:
        return 1.0

    @classmethod
    def fit_on(cls, calibration: Calibration, promise: Promise) -> Self:
        return cls(promise.refuse)

    @classmethod
    def require_fittable(cls, n: int, promise: Promise) -> None:
        """Nothing is fitted."""

    def describe(self) -> str:
        return f"Answers where one class is ahead by {self.gap}."


def test_a_rule_added_in_one_place_works_from_fit_to_checkpoint(
    make_checkpoint: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(RULES, "gap", GapRule)
    probs = np.array([[0.5, 0.3, 0.2], [0.45, 0.05, 0.5], [0.1, 0.1, 0.8]])
    rule = GapRule.fit(probs, [0, 1, 2], Promise(refuse=0.1))
    assert rule.decide(probs).labels.tolist() == [0, -1, 2]
    np.testing.assert_allclose(rule.decide(probs).scores, [0.8, 0.95, 0.3], atol=1e-6)
    assert rule_from_dict(rule.to_dict()) == rule
    classifier = Classifier(make_checkpoint()).with_promise(rule="gap", refuse=0.04)
    images = np.random.default_rng(0).random((40, 28, 28), np.float32)
    prediction = classifier.predict(images)
    best = np.sort(prediction.probs, axis=1)
    assert np.array_equal(prediction.labels >= 0, best[:, -1] - best[:, -2] > 0.04)
    assert 0 < (prediction.labels >= 0).sum() < 40
    classifier.save(tmp_path / "gap.safetensors")
    again = Classifier.load(tmp_path / "gap.safetensors")
    assert again.rule == classifier.rule
    assert again.predict(images).plain() == prediction.plain()


@given(trials=st.integers(1, 20_000), share=st.floats(0, 1), level=st.floats(0.5, 0.999))
def test_the_exact_interval_is_scipys(trials: int, share: float, level: float) -> None:
    events = round(share * trials)
    expected = binomtest(events, trials).proportion_ci(level, method="exact")
    assert exact_interval(events, trials, level) == pytest.approx(tuple(expected), rel=1e-8, abs=1e-12)
