"""Strictness: which promises are offered, and that a stricter one never answers more."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from bnn.checkpoint import Checkpoint
from bnn.decide import CalibratedRule, Classifier, EntropyRule, Evidence, MedianRule
from bnn.decide.abstention import AbstentionRule, Calibration
from bnn.decide.rules import fit_rule
from bnn.page.strictness import AS_LOADED, RISKS, in_words, offered, strictness_choice

MakeCheckpoint = Callable[..., Checkpoint]
RandomEvidence = Callable[[int, int], Evidence]


@pytest.fixture(scope="module")
def promising(make_checkpoint: MakeCheckpoint, random_evidence: RandomEvidence) -> Classifier:
    """An untrained classifier whose 3,000 calibration digits are wrong only where it doubts most."""
    evidence = random_evidence(3000, 0)
    labels = evidence.mean.argmax(-1)
    doubtful = evidence.total > evidence.total.quantile(0.9)
    labels = torch.where(doubtful, (labels + 1) % 10, labels)
    calibration = Calibration(evidence, labels, evidence.total)
    return Classifier(make_checkpoint(calibration=calibration.tensors()))


def refused(classifier: Classifier, rule: AbstentionRule, evidence: Evidence) -> torch.Tensor:
    blank = torch.zeros(len(evidence), dtype=torch.bool)
    return torch.from_numpy(classifier.with_rule(rule).decide(evidence, blank).labels < 0)


def assert_stricter_answers_less(classifier: Classifier, evidence: Evidence) -> None:
    rules = [rule for rule in offered(classifier).values() if isinstance(rule, CalibratedRule)]
    assert [rule.risk for rule in rules] == sorted((rule.risk for rule in rules), reverse=True)
    for laxer, stricter in pairwise(rules):
        assert not (refused(classifier, laxer, evidence) & ~refused(classifier, stricter, evidence)).any()
    assert refused(classifier, rules[-1], evidence).sum() > refused(classifier, rules[0], evidence).sum()


def test_what_ships_offers_every_promise_and_keeps_its_own_at_first(classifier: Classifier) -> None:
    promises = offered(classifier)
    assert list(promises) == [in_words(risk) for risk in RISKS]
    assert promises[in_words(classifier.wishes.risk)] is classifier.rule
    choice = strictness_choice(classifier, promises, "here")
    assert promises[choice.value] is classifier.rule
    assert [value for _, value in choice.choices] == list(promises)


@pytest.mark.slow
def test_a_stricter_promise_never_answers_more(classifier: Classifier, promising: Classifier) -> None:
    assert_stricter_answers_less(classifier, classifier.calibration.evidence)
    assert_stricter_answers_less(promising, promising.calibration.evidence)


def test_every_promise_is_kept_on_the_digits_it_was_made_on(promising: Classifier) -> None:
    evidence, labels = promising.calibration.evidence, promising.calibration.labels
    wrong = evidence.mean.argmax(-1) != labels
    for rule in offered(promising).values():
        answered = ~rule.refuses(evidence)
        if isinstance(rule, CalibratedRule):
            assert (wrong & answered).sum() <= rule.risk * answered.sum()


def test_what_the_digits_do_not_show_is_not_offered(promising: Classifier) -> None:
    few = replace(promising.calibration, evidence=promising.calibration.evidence[:700])
    few = replace(few, labels=promising.calibration.labels[:700])
    promises = offered(Classifier(replace(promising.checkpoint, calibration=few.tensors())))
    # 0.95 of 700 digits are not enough for 1 in 1,000, whatever they show.
    assert in_words(RISKS[0]) in promises
    assert in_words(RISKS[-1]) not in promises


@pytest.mark.parametrize("rule", [EntropyRule(0.4, 0.05), MedianRule(0.2)])
def test_a_rule_that_promises_nothing_is_offered_beside_those_that_do(
    promising: Classifier, rule: AbstentionRule
) -> None:
    classifier = promising.with_rule(rule)
    promises = offered(classifier)
    assert next(iter(promises)) == AS_LOADED
    assert promises[AS_LOADED] is rule
    assert len(promises) > 1
    assert strictness_choice(classifier, promises, "here").value == AS_LOADED


def test_where_nothing_can_be_promised_the_rule_stands_alone(make_checkpoint: MakeCheckpoint) -> None:
    classifier = Classifier(make_checkpoint())  # of 60 digits, mostly wrong
    assert offered(classifier) == {AS_LOADED: classifier.rule}


@pytest.mark.parametrize("risk", [0.03, 0.0075, 0.0020001])
def test_a_promise_of_ones_own_stands_in_its_place_though_the_evidence_cannot_make_it(
    promising: Classifier, make_checkpoint: MakeCheckpoint, risk: float
) -> None:
    wishes = replace(promising.wishes, risk=risk, alpha=0.01)
    own = fit_rule("calibrated", promising.calibration, wishes)
    supported = promising.with_rule(own)
    alone = Classifier(make_checkpoint(rule=own.to_dict()))  # whose evidence supports nothing
    for classifier in (supported, alone):
        promises = offered(classifier)
        risks = [rule.risk for rule in promises.values() if isinstance(rule, CalibratedRule)]
        assert risks == sorted(risks, reverse=True)
        assert promises[in_words(risk)] is classifier.rule
        assert promises[strictness_choice(classifier, promises, "here").value] is classifier.rule
    assert len(offered(alone)) == 1
