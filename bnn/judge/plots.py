"""The plots of a report, as SVG. Colours are Okabe & Ito's, which the colour-blind can tell apart."""

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from bnn.judge import metrics
from bnn.judge.results import Report

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
CYCLE = (ORANGE, GREEN, VERMILION, PURPLE, SKY, "#000000")
DASHES = ("-", "--", ":", "-.")
LEADING = 4  # digits drawn of the rotating digit
STYLE: Any = {  # of matplotlib's own type, which has no public name
    "text.parse_math": False,  # names of files and folders are shown as they are
    "svg.hashsalt": "bnn",  # the same report gives the same bytes
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Plot:
    """A drawing and the sentence that says what it shows."""

    svg: str
    caption: str


def plots(report: Report) -> Mapping[str, Plot]:
    """The report's plots by name."""
    drawings = {
        "risk_coverage": (
            risk_coverage,
            "How often answers are wrong as the least certain digits are refused.",
        ),
        "reliability": (reliability, "How often a digit is right that is given a certain probability."),
        "uncertainty": (uncertainty, "How uncertain familiar digits and unfamiliar images are."),
        "rotation": (rotation, "A digit turned by half a circle; shaded where the answer is refused."),
    }
    with mpl.rc_context(STYLE):
        return {name: Plot(_svg(draw(report)), caption) for name, (draw, caption) in drawings.items()}


def risk_coverage(report: Report) -> Figure:
    """Selective risk against coverage, and where the rule stands."""
    prediction, labels = report.familiar.prediction, report.familiar.labels
    errors = prediction.probs.argmax(1) != labels
    coverage, risk = metrics.risk_coverage(errors, prediction.refusal_score)
    figure, axes = _figure("Risk and coverage", "coverage (share of digits answered, %)")
    axes.plot(100 * coverage, 100 * risk, color=BLUE, label="all thresholds on the refusal score")
    chosen = metrics.selective_risk(prediction.labels, labels)
    if chosen is not None:
        place = 100 * metrics.coverage(prediction.labels), 100 * chosen
        axes.plot(*place, "o", color=VERMILION, label="the rule's threshold")
    axes.set(xlim=(0, 102), ylabel="selective risk (wrong among the answered, %)")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def reliability(report: Report) -> Figure:
    """Accuracy against confidence in bins, over the share of images in each."""
    confidence, right, share = metrics.reliability(report.familiar.prediction.probs, report.familiar.labels)
    figure, axes = _figure("Reliability", "probability of the likeliest digit (mean of the bin)")
    axes.plot((0, 1), (0, 1), "--", color="grey", label="perfect calibration")
    axes.bar(confidence, share, width=0.02, color=SKY, label="share of all digits")
    axes.plot(confidence, right, "o-", color=BLUE, label="share of right ones")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="share")
    axes.legend(loc="upper left")
    return figure


def uncertainty(report: Report) -> Figure:
    """Histograms of total and epistemic uncertainty for every set."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, measure in ((left, "total"), (right, "epistemic")):
        _histograms(axes, report, measure)
    left.set_ylabel("share of the set's images (%)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def rotation(report: Report) -> Figure:
    """Probabilities of the leading digits, and epistemic uncertainty, against the angle."""
    angles, prediction = report.rotation.angles, report.rotation.prediction
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for rank, digit in enumerate(prediction.probs.max(0).argsort()[::-1][:LEADING]):
        colour, dash = (BLUE, *CYCLE)[rank], DASHES[rank]
        top.plot(angles, prediction.probs[:, digit], dash, marker=".", color=colour, label=f"digit {digit}")
    bottom.plot(angles, prediction.epistemic, marker=".", color=PURPLE)
    for axes in (top, bottom):
        _shade_refused(axes, report)
    top.set(
        title=f"A digit turned: {report.rotation.source}", ylabel="predictive probability", ylim=(-0.02, 1.02)
    )
    bottom.set(xlabel="rotation (degrees, anticlockwise)", ylabel="epistemic\nuncertainty (nats)")
    bottom.set_xticks(range(0, 181, 30))
    figure.legend(*top.get_legend_handles_labels(), loc="outside right upper")
    return figure


def _figure(title: str, xlabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=xlabel)
    return figure, axes


def _histograms(axes: Axes, report: Report, measure: str) -> None:
    judged = (report.familiar, *report.unfamiliar)
    values = [getattr(one.prediction, measure) for one in judged]
    edges = np.linspace(0, max(1e-3, *(value.max() for value in values)), 41).tolist()
    for index, (one, value) in enumerate(zip(judged, values, strict=True)):
        looks: dict[str, Any] = {"label": f"familiar: {one.source.name}", "color": BLUE, "alpha": 0.4}
        if index:
            looks = {
                "label": f"unfamiliar: {one.source.name}",
                "color": CYCLE[(index - 1) % len(CYCLE)],
                "linestyle": DASHES[(index - 1) // len(CYCLE) % len(DASHES)],
                "histtype": "step",
                "linewidth": 1.5,
            }
        axes.hist(value, edges, weights=np.full(len(value), 100 / len(value)), **looks)
    axes.set(
        title=f"{measure.capitalize()} uncertainty", xlabel=f"{measure} uncertainty (nats)", yscale="log"
    )
    axes.yaxis.set_major_formatter("{x:g}")  # the default one writes powers of ten as formulas
    axes.yaxis.set_minor_formatter(NullFormatter())


def _shade_refused(axes: Axes, report: Report) -> None:
    angles, refused = report.rotation.angles, report.rotation.prediction.labels < 0
    half = (angles[1] - angles[0]) / 2
    for index, angle in enumerate(angles[refused]):
        label = None if index else "refused"
        axes.axvspan(angle - half, angle + half, color="grey", alpha=0.2, linewidth=0, label=label)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name may have letters that the font lacks
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
