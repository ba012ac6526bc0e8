"""The plots of a report, as SVG. Colours are Okabe & Ito's, which the colour-blind can tell apart."""

import io
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from bnn.core.task import are_digits, worded
from bnn.evaluation import metrics
from bnn.evaluation.results import Report
from bnn.rules import curves

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
CYCLE = (ORANGE, GREEN, VERMILION, PURPLE, SKY, "#000000")
DASHES = ("-", "--", ":", "-.")
CORRUPTED = {  # line, colour and name of each measure of corrupted digits
    "accuracy": (".--", BLUE, "right if forced to answer"),
    "coverage": (".-", GREEN, "answered"),
    "selective_risk": (".:", VERMILION, "wrong among the answered"),
}
LEADING = 4  # digits drawn of the rotating digit
BINS = 40  # of a histogram
LEAST_OOD = 0.1  # left end of the axis of OOD scores
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
        "uncertainty": (uncertainty, "How uncertain each set's images are, and how far out of distribution."),
        "rotation": (rotation, "A digit turned by half a circle; shaded where the answer is refused."),
    }
    if report.robustness:
        caption = "Digits corrupted in several ways, from mildly (1) to severely (5)."
        drawings["robustness"] = robustness, caption
    names = report.in_distribution.prediction.names
    with mpl.rc_context(STYLE):
        return {
            name: Plot(as_svg(draw(report)), worded(names, caption))
            for name, (draw, caption) in drawings.items()
        }


def risk_coverage(report: Report) -> Figure:
    """Selective risk against coverage by the rule's score and the ensemble's; where the rule stands."""
    prediction, labels = report.in_distribution.prediction, report.in_distribution.labels
    errors = prediction.probs.argmax(1) != labels
    figure, axes = _figure(
        "Risk and coverage", worded(prediction.names, "coverage (share of digits answered, %)")
    )
    for score, dash, colour, label in (
        (prediction.refusal_score, "-", BLUE, "all thresholds on the refusal score"),
        (prediction.total, "--", ORANGE, "all thresholds on the ensemble's entropy alone"),
    ):
        coverage, risk = curves.risk_coverage(errors, score)
        axes.plot(100 * coverage, 100 * risk, dash, color=colour, label=label)
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
    confidence, right, share = curves.reliability(
        report.in_distribution.prediction.probs, report.in_distribution.labels
    )
    names = report.in_distribution.prediction.names
    across = worded(names, "probability of the likeliest digit (mean of the bin)")
    figure, axes = _figure("Reliability", across)
    axes.plot((0, 1), (0, 1), "--", color="grey", label="perfect calibration")
    axes.bar(confidence, share, width=0.02, color=SKY, label=worded(names, "share of all digits"))
    axes.plot(confidence, right, "o-", color=BLUE, label="share of right ones")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="share")
    axes.legend(loc="upper left")
    return figure


def uncertainty(report: Report) -> Figure:
    """Histograms of total and epistemic uncertainty and of the OOD score for every set."""
    figure = Figure(figsize=(9.5, 7.6), layout="constrained")
    panels = figure.subplot_mosaic([["total", "epistemic"], ["ood_score", "."]], sharey=True)
    for measure in ("total", "epistemic"):
        highest = max(1e-3, *(getattr(judged.prediction, measure).max() for _, judged in report.sets))
        _histograms(panels[measure], report, measure, np.linspace(0, highest, BINS + 1))
        title, unit = f"{measure.capitalize()} uncertainty", f"{measure} uncertainty (nats)"
        panels[measure].set(title=title, xlabel=unit)
    _ood_scores(panels["ood_score"], report)
    for side in ("total", "ood_score"):
        panels[side].set_ylabel("share of the set's images (%)")
    figure.legend(*panels["ood_score"].get_legend_handles_labels(), loc="lower right", ncols=1)
    return figure


def rotation(report: Report) -> Figure:
    """Probabilities of the leading digits, and epistemic uncertainty, against the angle."""
    angles, prediction = report.rotation.angles, report.rotation.prediction
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    names = prediction.names
    for rank, label in enumerate(prediction.probs.max(0).argsort()[::-1][:LEADING].tolist()):
        shown = f"digit {names[label]}" if are_digits(names) else names[label]
        colour, dash = (BLUE, *CYCLE)[rank], DASHES[rank]
        top.plot(angles, prediction.probs[:, label], dash, marker=".", color=colour, label=shown)
    bottom.plot(angles, prediction.epistemic, marker=".", color=PURPLE)
    for axes in (top, bottom):
        _shade_refused(axes, report)
    top.set(
        title=f"{worded(names, 'A digit')} turned: {report.rotation.source}",
        ylabel="predictive probability",
        ylim=(-0.02, 1.02),
    )
    bottom.set(xlabel="rotation (degrees, anticlockwise)", ylabel="epistemic\nuncertainty (nats)")
    bottom.set_xticks(range(0, 181, 30))
    figure.legend(*top.get_legend_handles_labels(), loc="outside right upper")
    return figure


def robustness(report: Report) -> Figure:
    """Accuracy, coverage and error among the answered against strength, a panel for each corruption."""
    rows = report.numbers["robustness"]
    names = list(dict.fromkeys(row["corruption"] for row in rows))
    figure = Figure(figsize=(9.5, 5.2), layout="constrained")
    panels = figure.subplots(2, math.ceil(len(names) / 2), sharex=True, sharey=True).ravel()
    for axes, name in zip(panels, names, strict=False):
        cells = [row for row in rows if row["corruption"] == name]
        for measure, (dash, colour, label) in CORRUPTED.items():
            shares = np.array([cell[measure] for cell in cells], np.float64)  # None, if unanswered, is a gap
            axes.plot([cell["strength"] for cell in cells], 100 * shares, dash, color=colour, label=label)
        axes.set(title=name.capitalize(), xlabel="strength", ylim=(-3, 103))
    for axes in panels[len(names) :]:
        axes.remove()
    classes = report.in_distribution.prediction.names
    figure.supylabel(worded(classes, "share of the digits, or of the answers (%)"), fontsize="medium")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(CORRUPTED))
    return figure


def _figure(title: str, xlabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=xlabel)
    return figure, axes


def _ood_scores(axes: Axes, report: Report) -> None:
    """Its histograms, of which the first bin holds all that is below, and the rule's threshold."""
    highest = max(10 * LEAST_OOD, *(one.prediction.ood_score.max() for _, one in report.sets))
    _histograms(axes, report, "ood_score", np.geomspace(LEAST_OOD, highest, BINS + 1))
    threshold = report.settings["rule"].get("unfamiliar_threshold")
    if threshold is not None:
        axes.axvline(threshold, color="black", linewidth=1, label="the rule's threshold of the OOD score")
    axes.set(title="OOD score", xlabel="joined OOD score", xscale="log")
    _plain_numbers(axes.xaxis)


def _histograms(axes: Axes, report: Report, measure: str, edges: NDArray[np.float64]) -> None:
    for index, (kind, judged) in enumerate(report.sets):
        values = getattr(judged.prediction, measure).clip(edges[0], edges[-1])
        looks: dict[str, Any] = {"color": BLUE, "alpha": 0.4}
        if index:
            looks = {
                "color": CYCLE[(index - 1) % len(CYCLE)],
                "linestyle": DASHES[(index - 1) // len(CYCLE) % len(DASHES)],
                "histtype": "step",
                "linewidth": 1.5,
            }
        weights = np.full(len(values), 100 / len(values))
        axes.hist(values, edges.tolist(), weights=weights, label=f"{kind}: {judged.images.name}", **looks)
    axes.set_yscale("log")
    _plain_numbers(axes.yaxis)


def _plain_numbers(axis: Axis) -> None:
    """Makes the ticks of a logarithmic axis plain numbers: the default writes powers of ten as formulas."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _shade_refused(axes: Axes, report: Report) -> None:
    angles, refused = report.rotation.angles, report.rotation.prediction.labels < 0
    half = (angles[1] - angles[0]) / 2
    for index, angle in enumerate(angles[refused]):
        label = None if index else "refused"
        axes.axvspan(angle - half, angle + half, color="grey", alpha=0.2, linewidth=0, label=label)


def as_svg(figure: Figure) -> str:
    """`figure` as SVG, the same bytes whenever it is drawn under `STYLE`."""
    text = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name may have letters that the font lacks
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
