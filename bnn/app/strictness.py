"""How strict the classifier is: its rule for several promises, fitted on its own evidence."""

from collections.abc import Mapping
from dataclasses import replace

import gradio as gr

from bnn.classifier import Classifier
from bnn.errors import InputError
from bnn.rules.abstention import AbstentionRule
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.thresholds import fit_rule

RISKS = (0.02, 0.01, 0.005, 0.002, 0.001)  # shares of the answers that may be wrong
AS_LOADED = "as it was loaded"

Promises = Mapping[str, AbstentionRule]  # rules by their promise in words


def offered(classifier: Classifier) -> Promises:
    """The rule for each risk of `RISKS`, and for the classifier's own, that its evidence supports.

    The laxest comes first. A rule of another kind than the calibrated one makes no promise, and is offered
    beside them.
    """
    calibrated = isinstance(classifier.rule, CalibratedRule)
    found: dict[str, AbstentionRule] = {} if calibrated else {AS_LOADED: classifier.rule}
    risks = {in_words(risk): risk for risk in (*RISKS, classifier.wishes.risk)}
    for words, risk in sorted(risks.items(), key=lambda item: -item[1]):
        if calibrated and risk == classifier.wishes.risk:
            found[words] = classifier.rule  # the very one, which may have been fitted on other evidence
        elif fitted := _fitted(classifier, risk):
            found[words] = fitted
    return found


def strictness_choice(classifier: Classifier, promises: Promises, elem_id: str) -> gr.Radio:
    """A choice among `promises`, at first the one that `classifier` keeps."""
    calibrated = isinstance(classifier.rule, CalibratedRule)
    return gr.Radio(
        list(promises),
        value=in_words(classifier.wishes.risk) if calibrated else AS_LOADED,
        label="Strictness: wrong at most",
        info="of its answers on digits like those it learnt; stricter refuses more",
        elem_id=elem_id,
    )


def _fitted(classifier: Classifier, risk: float) -> AbstentionRule | None:
    try:
        wishes = replace(classifier.wishes, risk=risk)
        return fit_rule("calibrated", classifier.calibration, wishes)
    except InputError:  # the evidence does not support it
        return None


def in_words(risk: float) -> str:
    """Such as "1 in 500"."""
    return f"1 in {round(1 / risk):,}"
