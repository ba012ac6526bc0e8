"""Strictness: which promises are offered, what they cost, and that a stricter one never answers more."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product

import gradio as gr
import numpy as np
import pytest
import torch

from bnn.app.strictness import AS_LOADED, RISKS, in_words, offered, strictness_controls
from bnn.classifier import Classifier
from bnn.core.checkpoint import Checkpoint
from bnn.core.evidence import Evidence
from bnn.rules.abstention import AbstentionRule, Calibration
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.table import fit_rule
from bnn.rules.thresholds import EntropyRule, MedianRule

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


def without(promising: Classifier, digits: int) -> Classifier:
    """`promising` with so many calibration digits only."""
    evidence, labels = promising.calibration.evidence[:digits], promising.calibration.labels[:digits]
    few = replace(promising.calibration, evidence=evidence, labels=labels)
    return Classifier(replace(promising.checkpoint(), calibration=few.tensors()))


def test_what_ships_can_promise_every_pair_and_keeps_its_own_at_first(classifier: Classifier) -> None:
    promises = offered(classifier)
    assert promises.risks == [in_words(risk) for risk in RISKS]
    assert promises.alphas == ["1 in 200", "1 in 100", "1 in 50", "1 in 20"]
    assert set(promises.rules) == set(product(promises.risks, promises.alphas))
    assert promises.first == (in_words(classifier.promise.risk), in_words(classifier.promise.alpha))
    assert promises.rule(*promises.first) is classifier.rule


def test_each_rule_promises_what_its_words_say(classifier: Classifier, promising: Classifier) -> None:
    for one in (classifier, promising):
        for (risk, alpha), rule in offered(one).rules.items():
            assert isinstance(rule, CalibratedRule)
            assert (in_words(rule.risk), in_words(rule.alpha)) == (risk, alpha)
            assert rule.delta == one.promise.delta


@pytest.mark.slow
def test_of_one_familiarity_a_stricter_promise_never_answers_more(
    classifier: Classifier, promising: Classifier
) -> None:
    for one in (classifier, promising):
        promises, evidence = offered(one), one.calibration.evidence
        for alpha in promises.alphas:
            kept = [pair for risk in promises.risks if (pair := (risk, alpha)) in promises.rules]
            answered = [~promises.rule(*pair).refuses(evidence) for pair in kept]
            for laxer, stricter in pairwise(answered):
                assert not (stricter & ~laxer).any()
        assert len(kept) > 1


def test_a_stricter_familiarity_refuses_more_as_unlike_a_digit(promising: Classifier) -> None:
    promises, evidence = offered(promising), promising.calibration.evidence
    strange = [promises.rules[in_words(RISKS[0]), alpha].unfamiliar(evidence) for alpha in promises.alphas]
    for laxer, stricter in pairwise(strange):
        assert not (laxer & ~stricter).any()
        assert stricter.sum() > laxer.sum()


def test_every_promise_is_kept_on_the_digits_it_was_made_on(promising: Classifier) -> None:
    evidence, labels = promising.calibration.evidence, promising.calibration.labels
    wrong = evidence.mean.argmax(-1) != labels
    for rule in offered(promising).rules.values():
        assert isinstance(rule, CalibratedRule)
        answered = ~rule.refuses(evidence)
        assert (wrong & answered).sum() <= rule.risk * answered.sum()
        assert (rule.refuses(evidence) & rule.unfamiliar(evidence)).sum() <= rule.alpha * (len(labels) + 1)


def test_what_the_digits_do_not_show_is_offered_and_told_and_decided_as_loaded(promising: Classifier) -> None:
    few = without(promising, 700)  # of which 0.995 are not enough for 1 in 1,000, whatever they show
    promises = offered(few)
    assert promises.risks == offered(promising).risks[:1] + [in_words(risk) for risk in RISKS]
    pair = in_words(RISKS[-1]), in_words(0.005)
    assert pair not in promises.rules
    assert promises.rule(*pair) is few.rule
    told = promises.cost(*pair)
    assert told.startswith(
        "The digits it was tuned on cannot promise 1 in 1,000 wrong with 1 in 200 unfamiliar"
    )
    assert "decides as it was loaded" in told
    kept = in_words(RISKS[0]), in_words(0.005)
    assert kept in promises.rules
    assert promises.cost(*kept).startswith("Of 700 real digits")


@pytest.mark.parametrize("rule", [EntropyRule(0.4, 0.05), MedianRule(0.2)])
def test_a_rule_that_promises_nothing_is_offered_beside_those_that_do(
    promising: Classifier, rule: AbstentionRule
) -> None:
    promises = offered(promising.with_rule(rule))
    assert promises.risks[0] == promises.first[0] == AS_LOADED
    for alpha in promises.alphas:
        assert promises.rule(AS_LOADED, alpha) is rule
        assert promises.cost(AS_LOADED, alpha).startswith("As it was loaded, it promises nothing")
    assert len(promises.rules) > 1


def test_where_nothing_can_be_promised_the_rule_stands_alone(make_checkpoint: MakeCheckpoint) -> None:
    classifier = Classifier(make_checkpoint())  # of 60 digits, mostly wrong
    promises = offered(classifier)
    assert promises.rules == {}
    for pair in product(promises.risks, promises.alphas):
        assert promises.rule(*pair) is classifier.rule
        assert "as it was loaded" in promises.cost(*pair).lower()


@pytest.mark.parametrize("value", [None, "", "no such promise", AS_LOADED])
def test_what_is_no_choice_is_decided_as_loaded(classifier: Classifier, value: str | None) -> None:
    assert offered(classifier).rule(value, value) is classifier.rule


@pytest.mark.parametrize("risk", [0.03, 0.0075, 0.0020001])
@pytest.mark.parametrize("alpha", [0.01, 0.0300001, 0.0499999])
def test_promises_of_ones_own_stand_in_their_place_though_the_evidence_cannot_make_them(
    promising: Classifier, make_checkpoint: MakeCheckpoint, risk: float, alpha: float
) -> None:
    promise = replace(promising.promise, risk=risk, alpha=alpha)
    own = fit_rule("calibrated", promising.calibration, promise)
    supported = promising.with_rule(own)
    alone = Classifier(make_checkpoint(rule=own.to_dict()))  # whose evidence supports nothing
    for classifier in (supported, alone):
        promises = offered(classifier)
        assert promises.first == (in_words(risk), in_words(alpha))
        assert promises.rule(*promises.first) is classifier.rule
        shares = [int(words.removeprefix("1 in ").replace(",", "")) for words in promises.risks]
        assert shares == sorted(set(shares))
        shares = [int(words.removeprefix("1 in ").replace(",", "")) for words in promises.alphas]
        assert shares == sorted(set(shares), reverse=True)
    assert list(offered(alone).rules) == [promises.first]


def test_the_cost_is_what_the_calibration_digits_meet(classifier: Classifier, promising: Classifier) -> None:
    for one in (classifier, promising):
        promises, calibration = offered(one), one.calibration
        fine = np.full(len(calibration), "")
        for pair in promises.rules:
            met = one.with_rule(promises.rule(*pair)).decide(calibration.evidence, fine)
            told = promises.cost(*pair).replace("\N{NO-BREAK SPACE}", " ")
            share = {name: 100 * (met.reasons == name).mean() for name in ("unfamiliar", "ambiguous")}
            wrong = ((met.labels >= 0) & (met.labels != calibration.labels.numpy())).sum()
            assert f"Of {len(calibration):,} real digits" in told
            assert f"it refuses {sum(share.values()):.2f} %" in told
            assert f"{share['unfamiliar']:.2f} % as unfamiliar" in told
            assert f"{share['ambiguous']:.2f} % as ambiguous" in told
            assert re.search(rf" {wrong:,} (is|are) wrong\.$", told)


def test_controls_offer_the_promises_and_start_with_the_one_that_is_kept(classifier: Classifier) -> None:
    promises = offered(classifier)

    async def laid_out() -> tuple[gr.Radio, gr.Radio]:
        with gr.Blocks():
            return strictness_controls(promises, "here-")

    controls = asyncio.run(laid_out())  # without a running loop Gradio opens one and never closes it
    assert [control.elem_id for control in controls] == ["here-strictness", "here-familiarity"]
    assert tuple(control.value for control in controls) == promises.first
    offers = [[value for _, value in control.choices] for control in controls]
    assert offers == [promises.risks, promises.alphas]
