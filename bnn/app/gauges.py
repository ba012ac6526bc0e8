"""Gauges on one image: pure functions from a decision to numbers and HTML."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from bnn.core.task import worded
from bnn.numerals import percent
from bnn.prediction import Prediction
from bnn.rules.abstention import AbstentionRule

HALF = 30.0  # the unfamiliarity that fills half a bar


@dataclass(frozen=True)
class Limit:
    """Where a rule begins to refuse.

    Attributes:
        words: such as "refused above 0.33".
        refused: the part of the bar where it refuses, from and to.
    """

    words: str
    refused: tuple[float, float]


@dataclass(frozen=True)
class Gauge:
    """One number of a decision, shown as a bar.

    Attributes:
        name: what it is called.
        value: what is written beside it.
        parts: words for each part of the bar, and how much of it that fills; they add up to 1 at most.
        limit: where the rule begins to refuse, None if it does not look at this number.
    """

    name: str
    value: str
    parts: dict[str, float]
    limit: Limit | None = None


def gauges(prediction: Prediction, rule: AbstentionRule) -> list[Gauge]:
    """Confidence, uncertainty and, where `rule` tests it, unfamiliarity of one image."""
    shown = [_confidence(prediction, rule), _uncertainty(prediction, rule)]
    if "ood" in rule.thresholds:
        shown.append(_unfamiliarity(float(prediction.ood_score[0]), rule.thresholds["ood"], prediction.names))
    return shown


def gauges_html(shown: Iterable[Gauge]) -> str:
    """`shown` as a list of bars that screen readers read as meters."""
    return f'<dl class="gauges">{"".join(map(_gauge_html, shown))}</dl>'


def _confidence(prediction: Prediction, rule: AbstentionRule) -> Gauge:
    confidence = float(prediction.probs[0].max())
    limit = None
    if "doubt" in rule.thresholds:
        lowest = _clipped(1 - rule.thresholds["doubt"])
        limit = Limit(f"refused below {percent(lowest, '.0f')}", (0.0, lowest))
    parts = {worded(prediction.names, "the likeliest digit's probability"): confidence}
    return Gauge("Confidence", percent(confidence, ".0f"), parts, limit)


def _uncertainty(prediction: Prediction, rule: AbstentionRule) -> Gauge:
    """The total, and how much of it is the networks' dissent and how much each one's own doubt."""
    total, dissent, doubt = (
        float(nats[0]) for nats in (prediction.total, prediction.epistemic, prediction.aleatoric)
    )
    classes = prediction.probs.shape[1]
    filled, both = _of_nats(total, classes), max(dissent + doubt, 1e-9)
    parts = {
        f"dissent {dissent:.2f}": filled * dissent / both,
        f"doubt {doubt:.2f}": filled * doubt / both,
    }
    limit = None
    if "total" in rule.thresholds:
        highest = rule.thresholds["total"]
        limit = Limit(f"refused above {highest:.2f}", (_of_nats(highest, classes), 1.0))
    return Gauge("Uncertainty", f"{total:.2f} nats", parts, limit)


def _unfamiliarity(unfamiliarity: float, highest: float, names: Sequence[str]) -> Gauge:
    ratio = unfamiliarity / highest
    value = (
        worded(names, "like digits it learnt") if ratio < 0.5 else "unusual" if ratio <= 1 else "too strange"
    )
    parts = {f"measured {unfamiliarity:,.1f}": _of_unfamiliarity(unfamiliarity)}
    limit = Limit(f"refused above {highest:,.1f}", (_of_unfamiliarity(highest), 1.0))
    return Gauge("Unfamiliarity", value, parts, limit)


def _of_nats(nats: float, classes: int) -> float:
    """How much of a bar `nats` fill, by their square root: most doubts are small, and small ones matter."""
    return math.sqrt(_clipped(nats / math.log(classes)))


def _of_unfamiliarity(unfamiliarity: float) -> float:
    """How much of a bar an unfamiliarity fills, which has no highest value."""
    return unfamiliarity / (unfamiliarity + HALF)


def _clipped(share: float) -> float:
    return min(1.0, max(0.0, share))


def _gauge_html(gauge: Gauge) -> str:
    name, value = escape(gauge.name), escape(gauge.value)
    limit = escape(gauge.limit.words) if gauge.limit else ""
    text = "; ".join(filter(None, (value, *map(escape, gauge.parts), limit)))
    bars = "".join(
        f'<span class="part" style="width:{100 * share:.1f}%"></span>' for share in gauge.parts.values()
    )
    return (
        f'<div><dt>{name}</dt><dd><span class="bar" role="meter" aria-label="{name}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{100 * sum(gauge.parts.values()):.0f}" aria-valuetext="{text}">'
        f"{bars}{_refused_html(gauge)}</span>"
        f"<strong>{value}</strong><small>{''.join(_legend(gauge))}</small></dd></div>"
    )


def _refused_html(gauge: Gauge) -> str:
    if gauge.limit is None:
        return ""
    start, end = gauge.limit.refused
    name, place = "refused onwards" if end == 1 else "refused", f"left:{100 * start:.1f}%"
    return f'<span class="{name}" style="{place};width:{100 * (end - start):.1f}%"></span>'


def _legend(gauge: Gauge) -> Iterator[str]:
    """What the parts are and where refusing starts; with several parts, each beside its colour."""
    key = '<i class="key"></i>' if len(gauge.parts) > 1 else ""
    yield from (f"<span>{key}{escape(words)}</span>" for words in gauge.parts)
    if gauge.limit:
        yield f'<span class="limit">{escape(gauge.limit.words)}</span>'
