"""Three figures on how far to trust the classifier: plots of calibration digits, and the same as numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from numpy.typing import NDArray

from bnn.app.examples import FOOLING, STRANGE, examples
from bnn.app.plots import Axis, Plot, round_ticks
from bnn.classifier import Classifier
from bnn.core.task import are_digits, worded
from bnn.data.generated import NOISE as NOISE_SETS
from bnn.data.pictures import framed
from bnn.data.preprocess import prepare
from bnn.numerals import percent, percent_interval
from bnn.rules.curves import reliability, risk_coverage
from bnn.rules.risk_control import exact_interval

BY_RULE, BY_ENTROPY = "refusing by the rule's score", "refusing by the entropy alone"
LEAST_ANSWERED = 0.8  # where the risk-coverage plot begins
CURVE_POINTS = 400  # of each of its curves, which have one for each digit
ANSWERED = (1.0, 0.99, 0.98, 0.95, 0.9)  # the shares whose errors are given as numbers
CONFIDENCE_BINS, LEAST_DIGITS = 20, 20  # of the reliability plot, before those with fewer digits are joined
LEVEL = 0.95  # of its intervals
DIGITS, NOISE, DRAWN = "digits", "noise", f"drawings under “{STRANGE}” and “{FOOLING}”"
KINDS = {"first": DIGITS, "second": NOISE, "drawn": DRAWN}  # by how they are drawn
OF_EACH = 8  # generated images of each kind of noise
BINS = 24  # of the familiarity plot
MOST_UNFAMILIAR = 100.0  # its right end, which stands for all that is beyond

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Digits that were given about the same probability.

    Attributes:
        given: their likeliest digit's mean probability.
        right: how many of them it was right about.
        digits: how many they are.
    """

    given: float
    right: int
    digits: int

    @property
    def share(self) -> float:
        """The share that it was right about."""
        return self.right / self.digits

    @property
    def interval(self) -> tuple[float, float]:
        """The exact interval of that share (Clopper & Pearson 1934), at `LEVEL`."""
        return exact_interval(self.right, self.digits, LEVEL)


def risk_curves(classifier: Classifier) -> dict[str, tuple[Array, Array]]:
    """(coverage, selective risk) of the calibration digits: by the rule's score, and by the entropy alone."""
    evidence, labels = classifier.calibration.evidence, classifier.calibration.labels
    errors = (evidence.mean.argmax(1) != labels).numpy()
    scores = {BY_RULE: classifier.rule.score(evidence), BY_ENTROPY: evidence.total}
    return {name: risk_coverage(errors, score.numpy()) for name, score in scores.items()}


def as_set(classifier: Classifier) -> tuple[float, float]:
    """The share of the calibration digits that the rule answers, and the share of wrong ones among them."""
    evidence, labels = classifier.calibration.evidence, classifier.calibration.labels
    answered = ~classifier.rule.refuses(evidence)
    wrong = (evidence.mean.argmax(1) != labels) & answered
    return answered.double().mean().item(), wrong.sum().item() / max(1, int(answered.sum()))


def reliability_bins(classifier: Classifier) -> list[Bin]:
    """The calibration digits by the probability they were given, in bins of `LEAST_DIGITS` at least."""
    evidence, labels = classifier.calibration.evidence, classifier.calibration.labels
    given, right, share = reliability(evidence.mean.numpy(), labels.numpy(), CONFIDENCE_BINS)
    counts = (share * len(labels)).round().astype(int)
    return [
        Bin(
            float(np.average(given[group], weights=counts[group])),
            round(right[group] @ counts[group]),
            int(counts[group].sum()),
        )
        for group in joined(counts.tolist(), LEAST_DIGITS)
    ]


def joined(counts: Sequence[int], least: int) -> list[list[int]]:
    """The indices of `counts` in groups of neighbours that sum up to `least` each, where all together do."""
    groups: list[list[int]] = []
    total = least
    for index, count in enumerate(counts):
        if total >= least:
            groups.append([])
            total = 0
        groups[-1].append(index)
        total += count
    if len(groups) > 1 and total < least:
        groups[-2:] = [groups[-2] + groups[-1]]
    return groups


def unfamiliarities(classifier: Classifier) -> dict[str, Array]:
    """How unfamiliar the calibration digits are, generated noise, and what is drawn and should be refused."""
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(np.concatenate([make(rng)[:OF_EACH] for make in NOISE_SETS.values()]))
    drawn = [framed(example.image) for example in examples() if example.group in (STRANGE, FOOLING)]
    others = classifier.evidence(torch.cat([noise.unsqueeze(1), prepare(drawn)])).ood
    digits = classifier.calibration.evidence.ood
    sets = {DIGITS: digits, NOISE: others[: len(noise)]}
    if are_digits(classifier.task.names):  # of other classes one may look like what is drawn
        sets[DRAWN] = others[len(noise) :]
    return {name: values.numpy().astype(np.float64) for name, values in sets.items()}


def figures_html(classifier: Classifier) -> str:
    """The three figures."""
    made = (
        risk_figure(risk_curves(classifier), as_set(classifier)),
        reliability_figure(reliability_bins(classifier)),
        familiarity_figure(unfamiliarities(classifier), classifier.rule.thresholds.get("ood")),
    )
    return worded(classifier.task.names, f'<div class="figures">{"".join(made)}</div>')


def risk_figure(curves: dict[str, tuple[Array, Array]], now: tuple[float, float]) -> str:
    """How many errors are left as more is refused; `now` is (coverage, selective risk) of the rule."""
    worst = 100 * max(risk[coverage >= LEAST_ANSWERED].max() for coverage, risk in curves.values())
    high = max(worst, 100 * now[1], 0.1)
    across = Axis("answered (%)", 100 * LEAST_ANSWERED, 100, (80, 85, 90, 95, 100))
    up = Axis("wrong among the answered (%)", 0, high, round_ticks(high))
    caption = f"It answers {percent(now[0], '.1f')} of them, of which {percent(now[1], '.2f')} wrongly."
    plot = Plot(across, up, caption, zip(("first", "second"), curves, strict=True))
    for name, (coverage, risk) in zip(("second", "first"), reversed(curves.values()), strict=True):
        shown = np.flatnonzero(coverage >= LEAST_ANSWERED)
        few = shown[np.unique(np.linspace(0, len(shown) - 1, CURVE_POINTS).round().astype(int))]
        plot.line(100 * coverage[few], 100 * risk[few], name)
    if now[0] >= LEAST_ANSWERED:
        plot.dot(100 * now[0], 100 * now[1])
    rows = [
        [
            percent(share),
            *(percent(risk[math.ceil(share * len(risk)) - 1], ".2f") for _, risk in curves.values()),
        ]
        for share in ANSWERED
    ]
    heads = ("answered", *(f"wrong, {name}" for name in curves))
    return figure_html(
        "Errors left as it refuses more", plot, f"The dot is the rule as it is set. {caption}", heads, rows
    )


def reliability_figure(bins: Sequence[Bin]) -> str:
    """How often it is right, by the probability that it gives."""
    low = 10 * math.floor(10 * min(min(one.given, one.interval[0]) for one in bins))
    ticks = range(low, 101, 20 if low < 50 else 10)
    up = Axis("right (%)", low, 100, ticks)
    few = "; ".join(f"{one.digits:,} given {percent(one.given, '.0f')}: {_right(one)}" for one in bins)
    plot = Plot(
        Axis("probability given (%)", low, 100, ticks),
        up,
        f"Digits by the probability given to their likeliest digit, and how many were right. {few}.",
        [("second", "as it would be, were its probabilities exact")],
    )
    plot.line((low, 100), (low, 100), "second")
    for one in bins:
        ends = 100 * one.interval[0], 100 * one.interval[1]
        plot.interval(100 * one.given, 100 * one.share, ends, f"{one.digits:,}")
    caption = (
        f"Dots with their {percent(LEVEL)} intervals; below, how many digits each stands for. Where those "
        "are few, nothing finer can be said."
    )
    rows = [[percent(one.given, ".1f"), f"{one.digits:,}", _right(one)] for one in bins]
    heads = ("probability given", "digits", f"right ({percent(LEVEL)} interval)")
    return figure_html("Are its probabilities right?", plot, caption, heads, rows)


def familiarity_figure(sets: dict[str, Array], limit: float | None) -> str:
    """How unfamiliar digits and others look; beyond the `limit`, where there is one, they are refused."""
    edges = np.linspace(0, MOST_UNFAMILIAR, BINS + 1)
    shares = {name: 100 * _histogram(sets[name], edges) for name in (DIGITS, NOISE)}
    high = max(values.max() for values in shares.values())
    beyond = {} if limit is None else {name: (values > limit).mean() for name, values in sets.items()}
    caption = ", ".join(f"{percent(share, '.1f')} of the {name}" for name, share in beyond.items())
    plot = Plot(
        Axis("unfamiliarity (100: that and more)", 0, MOST_UNFAMILIAR, (0, 20, 40, 60, 80, 100)),
        Axis("share of the images (%)", 0, high, round_ticks(high)),
        f"Refused as unfamiliar: {caption}." if caption else "How unfamiliar digits and others look.",
        [(kind, name) for kind, name in KINDS.items() if name in sets],
    )
    for name, values in zip(("first", "second"), shares.values(), strict=True):
        plot.steps(edges, values, name)
    if DRAWN in sets:
        plot.marks(sets[DRAWN].clip(0, MOST_UNFAMILIAR), high / 2, "drawn")
    if limit is not None and limit < MOST_UNFAMILIAR:
        plot.upright(limit, "refused from here on")
    heads = ("images", "how many", "lowest tenth", "half", "highest tenth")
    rows = [
        [name, f"{len(values):,}", *(f"{quantile:.1f}" for quantile in np.quantile(values, (0.1, 0.5, 0.9)))]
        for name, values in sets.items()
    ]
    return figure_html(
        "How unfamiliar digits and others look",
        plot,
        f"Refused as unfamiliar: {caption}." if caption else "This rule refuses nothing as unfamiliar.",
        heads,
        rows,
    )


def figure_html(
    title: str, plot: Plot, caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]
) -> str:
    """A `plot` under its `title`, its caption, and the same as a table that unfolds.

    Args:
        title, caption: words.
        plot: drawn.
        heads: of the table's columns.
        rows: of the table, each named by its first cell.
    """
    cells = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(one)}</td>" for one in others)}</tr>'
        for first, *others in rows
    )
    return (
        f"<figure><h3>{escape(title)}</h3>{plot.svg()}<figcaption>{escape(caption)}</figcaption>"
        f"<details><summary>As numbers</summary><table><thead><tr>{cells}</tr></thead>"
        f"<tbody>{body}</tbody></table></details></figure>"
    )


def _right(one: Bin) -> str:
    return f"{percent(one.share, '.1f')} {percent_interval(one.interval, '.1f')}"


def _histogram(values: Array, edges: Array) -> Array:
    counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
    return np.asarray(counts / len(values), np.float64)
