"""Four gauges on one image: pure functions from a decision to numbers and HTML."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from bnn.classifier import Prediction
from bnn.core.uncertainty import MAX_ENTROPY
from bnn.rules.abstention import AbstentionRule
from bnn.rules.calibrated import CalibratedRule


@dataclass(frozen=True)
class Gauge:
    """One number of a decision, shown as a bar.

    Attributes:
        name: what it is called.
        share: how much of the bar is filled, from 0 to 1.
        value: what is written beside it.
        meaning: one line.
    """

    name: str
    share: float
    value: str
    meaning: str


def gauges(prediction: Prediction, rule: AbstentionRule) -> list[Gauge]:
    """Confidence, disagreement, ambiguity and, where `rule` tests it, familiarity of one image."""
    confidence = float(prediction.probs[0].max())
    shown = [
        Gauge("Confidence", confidence, f"{100 * confidence:.0f} %", "the likeliest digit's probability"),
        _doubt("Disagreement", float(prediction.epistemic[0]), "epistemic: networks contradict each other"),
        _doubt("Ambiguity", float(prediction.aleatoric[0]), "aleatoric: each network wavers by itself"),
    ]
    if isinstance(rule, CalibratedRule):
        shown.append(_familiarity(float(prediction.unfamiliarity[0]), rule.unfamiliar_threshold))
    return shown


def gauges_html(shown: Iterable[Gauge]) -> str:
    """`shown` as a list of bars that screen readers read as meters."""
    return f'<dl class="gauges">{"".join(map(_gauge_html, shown))}</dl>'


def _doubt(name: str, nats: float, meaning: str) -> Gauge:
    """Drawn by its square root: most doubts are small, and small ones matter."""
    return Gauge(name, math.sqrt(min(1.0, nats / MAX_ENTROPY)), f"{nats:.2f} nats", meaning)


def _familiarity(unfamiliarity: float, threshold: float) -> Gauge:
    """Half a bar is where the rule begins to refuse."""
    ratio = unfamiliarity / threshold
    value = "like digits it learnt" if ratio < 0.5 else "unusual" if ratio <= 1 else "too strange"
    return Gauge("Familiarity", 1 / (1 + ratio**2), value, "how much this looks like digits it learnt")


def _gauge_html(gauge: Gauge) -> str:
    name, value, meaning = map(escape, (gauge.name, gauge.value, gauge.meaning))
    percent = round(100 * gauge.share)
    return (
        f'<div><dt>{name}</dt><dd><span class="bar" role="meter" aria-label="{name}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent}" aria-valuetext="{value}">'
        f'<span style="width:{percent}%"></span></span>'
        f"<strong>{value}</strong><small>{meaning}</small></dd></div>"
    )
