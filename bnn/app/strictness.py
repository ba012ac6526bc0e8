"""How strict the classifier is: a rule for each pair of promises, fitted on its evidence, and its cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import gradio as gr

from bnn.classifier import Classifier
from bnn.core.task import DIGITS, are_digits, worded
from bnn.errors import InputError
from bnn.numerals import percent
from bnn.rules.abstention import AbstentionRule, Calibration
from bnn.rules.calibrated import CalibratedRule

RISKS = (0.02, 0.01, 0.005, 0.002, 0.001)  # shares of the answers that may be wrong
ALPHAS = (0.005, 0.01, 0.02, 0.05)  # shares of real digits that may be refused as unfamiliar
AS_LOADED = "as it was loaded"
ANNOUNCED = '<div role="status" aria-live="polite">${value}</div>'  # to screen readers, when it changes


@dataclass(frozen=True)
class Promises:
    """The pairs of promises that are offered, in words, and the rules that keep them.

    Attributes:
        loaded: the classifier's own rule, which decides where a pair cannot be promised.
        calibration: of the digits on which the promises are made.
        risks, alphas: what may be chosen of each, the laxest first.
        first: the pair that is chosen at first: the one that `loaded` keeps.
        rules: by their pairs, those that the calibration digits can promise.
    """

    loaded: AbstentionRule
    calibration: Calibration
    risks: list[str]
    alphas: list[str]
    first: tuple[str, str]
    rules: Mapping[tuple[str, str], AbstentionRule]

    def rule(self, risk: str | None, alpha: str | None) -> AbstentionRule:
        """The rule for a pair; the loaded one where it cannot be promised, or is none."""
        return self.rules.get((risk or "", alpha or ""), self.loaded)

    def cost(self, risk: str | None, alpha: str | None) -> str:
        """What a pair costs on the calibration digits, in a sentence or two."""
        rule, evidence, labels = self.rule(risk, alpha), self.calibration.evidence, self.calibration.labels
        refused, strange = rule.refuses(evidence), rule.unfamiliar(evidence)
        wrong = int((~refused & (rule.labels(evidence) != labels)).sum())
        together, unfamiliar, ambiguous = (
            percent(which.double().mean().item(), ".2f")
            for which in (refused, refused & strange, refused & ~strange)
        )
        return (
            f"{self._caveat(risk, alpha)}Of {len(labels):,} real digits that it was tuned on, it refuses "
            f"{together}: {unfamiliar} as unfamiliar and {ambiguous} as ambiguous. "
            f"Of its answers to the others, {wrong:,} {'is' if wrong == 1 else 'are'} wrong."
        )

    def _caveat(self, risk: str | None, alpha: str | None) -> str:
        if risk == AS_LOADED:
            return "As it was loaded, it promises nothing, whatever is chosen of the unfamiliar. "
        if (risk, alpha) in self.rules:
            return ""
        return (
            f"The digits it was tuned on cannot promise {risk} wrong with {alpha} unfamiliar, so it decides "
            "as it was loaded. "
        )


def offered(classifier: Classifier) -> Promises:
    """The rule for each pair of `RISKS` and `ALPHAS`, and the classifier's own, that its evidence supports.

    A rule of another kind than the calibrated one makes no promise, and is offered beside them.
    """
    promise = classifier.promise
    risks = _by_words(sorted((*RISKS, promise.risk), reverse=True), promise.risk)
    alphas = _by_words(sorted((*ALPHAS, promise.alpha)), promise.alpha)
    calibrated = {"risk", "alpha"} <= set(classifier.rule.controls)
    first = in_words(promise.risk) if calibrated else AS_LOADED, in_words(promise.alpha)
    fitted = {pair: _fitted(classifier, risks[pair[0]], alphas[pair[1]]) for pair in product(risks, alphas)}
    rules = {pair: rule for pair, rule in fitted.items() if rule}
    if calibrated:
        rules[first] = classifier.rule  # the very one, which may have been fitted on other evidence
    return Promises(
        classifier.rule,
        classifier.calibration,
        [*risks] if calibrated else [AS_LOADED, *risks],
        [*alphas],
        first,
        rules,
    )


def strictness_controls(
    promises: Promises, prefix: str = "", names: Sequence[str] = DIGITS.names
) -> tuple[gr.Radio, gr.Radio]:
    """Lays out, within a `gr.Blocks`, a choice of each of `promises`, and below them what the pair costs.

    Args:
        promises: that are offered.
        prefix: of the ids of the elements in the page.
        names: of the classes.
    """
    strangers = "letters and doodles" if are_digits(names) else "of what is of no class"
    with gr.Group(elem_classes="controls"):
        with gr.Row():
            risk = gr.Radio(
                promises.risks,
                value=promises.first[0],
                label="Strictness: wrong at most",
                info=worded(
                    names, "of its answers to real digits. The stricter, the more it refuses as ambiguous."
                ),
                elem_id=f"{prefix}strictness",
                min_width=290,
            )
            alpha = gr.Radio(
                promises.alphas,
                value=promises.first[1],
                label="Familiarity: refuses as unfamiliar at most",
                info=f"of real {worded(names, 'digits')}. The more of them, the more {strangers}, too.",
                elem_id=f"{prefix}familiarity",
                min_width=290,
            )
        first = worded(names, promises.cost(*promises.first))
        cost = gr.HTML(first, html_template=ANNOUNCED, elem_id=f"{prefix}cost", js_on_load=None)
    gr.on(
        [risk.input, alpha.input],
        lambda risk, alpha: worded(names, promises.cost(risk, alpha)),
        [risk, alpha],
        cost,
        trigger_mode="always_last",
        show_progress="hidden",
        api_visibility="private",
    )
    return risk, alpha


def _by_words(shares: Iterable[float], own: float) -> dict[str, float]:
    """`shares` by their words; of two with the same words, `own`."""
    return {in_words(share): share for share in shares} | {in_words(own): own}


def _fitted(classifier: Classifier, risk: float, alpha: float) -> AbstentionRule | None:
    try:
        promise = replace(classifier.promise, risk=risk, alpha=alpha)
        return CalibratedRule.fit_if_feasible(classifier.calibration, promise)
    except InputError:  # the digits are too few
        return None


def in_words(share: float) -> str:
    """Such as "1 in 500"."""
    return f"1 in {round(1 / share):,}"
