"""The tab that says how far to trust the classifier: its promise, its results, its curves, its training."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from html import escape
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bnn.app.examples import STRANGE, examples
from bnn.app.words import small_print
from bnn.classifier import Classifier
from bnn.data.generated import GENERATED
from bnn.data.preprocess import prepare
from bnn.evaluation.curves import reliability, risk_coverage

OF_EACH = 20  # generated images of each kind in the plot of familiarity
BINS = 24  # of that plot
MOST_UNFAMILIAR = 100.0  # its right end, which stands for all that is beyond
CONFIDENCE_BINS, LEAST_DIGITS = 10, 10  # of the reliability diagram, and of a bin: fewer say nothing
CURVE_POINTS = 1000  # of the risk-coverage curve, which has one for each digit
_NOT_EVALUATED = (
    "The rule was fitted on these very digits. <code>bnn evaluate --record</code> measures it on digits that "
    "it has never met, and keeps the numbers for this page."
)
_NARROWEST = 290  # pixels of a plot; on a phone they stand one below the other
_LIMITS = (
    "It reads single, upright digits. Its promise holds for digits like those it learnt; in other hands "
    "it refuses more. What is no digit may still have its shape: letters drawn like digits are refused less "
    "often than letters that fill their frame, and digits that are turned or half covered can be taken for "
    "others."
)
_COLOURS = ["#1F88C8", "#D55E00"]  # which the colour-blind can tell apart, seen on light and on dark

Row = tuple[str, str, str]  # what was measured, the number, what it means
Numbers = NDArray[np.floating[Any]] | NDArray[np.integer[Any]]


def card_tab(classifier: Classifier, tab: gr.Tab) -> None:
    """Lays the tab out where it is called, within a `gr.Blocks`; `tab` is the one it stands in."""
    gr.HTML(f"<p>{escape(small_print(classifier.rule, len(classifier.ensemble)))}</p>", js_on_load=None)
    gr.HTML(results_html(classifier.checkpoint.record), elem_id="results", js_on_load=None)
    labels = classifier.calibration.labels
    gr.HTML(f"<h2>On its {len(labels):,} calibration digits</h2>", js_on_load=None)
    with gr.Row(equal_height=False):
        axes = "answered (%)", "wrong among the answered (%)", "refusing by"
        lines = "the rule's score", "entropy alone"
        _plot("Errors left as it refuses more", axes, lines, risk_coverage_data(classifier), x_lim=[80, 100])
        axes = "probability given (%)", "right (%)", "line"
        lines = "this classifier", "perfect calibration"
        _plot("Are its probabilities right?", axes, lines, reliability_data(classifier))
    axes = "unfamiliarity", "share of the images (%)", "images"
    strange = _plot("How unfamiliar digits and others look", axes, ("digits", "letters, doodles, noise"))
    gr.HTML(training_html(classifier.checkpoint.record), elem_id="training", js_on_load=None)

    @cache
    def familiarity() -> pd.DataFrame:
        return familiarity_data(classifier)

    # Computed when somebody looks: it takes a second, and the page should not wait for it.
    tab.select(familiarity, None, strange, show_progress="hidden", api_visibility="private")


def risk_coverage_data(classifier: Classifier) -> pd.DataFrame:
    """The calibration digits' risk-coverage curves: by the rule's score, and by the entropy alone."""
    evidence, labels = classifier.calibration.evidence, classifier.calibration.labels
    errors = (evidence.mean.argmax(1) != labels).numpy()
    scores = {"the rule's score": classifier.rule.score(evidence), "entropy alone": evidence.total}
    curves = []
    for name, score in scores.items():
        coverage, risk = risk_coverage(errors, score.numpy())
        few = np.unique(np.linspace(0, len(risk) - 1, CURVE_POINTS).round().astype(int))
        columns = {"answered (%)": 100 * coverage[few], "wrong among the answered (%)": 100 * risk[few]}
        curves.append(pd.DataFrame(columns | {"refusing by": name}))
    return pd.concat(curves)


def reliability_data(classifier: Classifier) -> pd.DataFrame:
    """How often the calibration digits' likeliest digit is right, by its probability, where that is known."""
    evidence, labels = classifier.calibration.evidence, classifier.calibration.labels
    confidence, right, share = reliability(evidence.mean.numpy(), labels.numpy(), CONFIDENCE_BINS)
    enough = share * len(labels) >= LEAST_DIGITS
    measured = _line(100 * confidence[enough], 100 * right[enough], "this classifier")
    return pd.concat([measured, _line(np.array([0, 100]), np.array([0, 100]), "perfect calibration")])


def familiarity_data(classifier: Classifier) -> pd.DataFrame:
    """Histograms of the unfamiliarity of calibration digits, and of generated images that are no digits."""
    rng = np.random.default_rng(0)
    noise = [image for make in GENERATED.values() for image in make(rng)[:OF_EACH]]
    drawn = [example.image for example in examples() if example.group == STRANGE]
    sets = {
        "digits": classifier.calibration.evidence.unfamiliarity,
        "letters, doodles, noise": classifier.evidence(prepare([*noise, *drawn])).unfamiliarity,
    }
    edges = np.linspace(0, MOST_UNFAMILIAR, BINS + 1)
    return pd.concat([_histogram(values.numpy(), edges, name) for name, values in sets.items()])


def results_html(record: Mapping[str, Any]) -> str:
    """What was measured, as a table: on test digits where the record has that, else on calibration digits."""
    evaluation = record.get("evaluation")
    if not isinstance(evaluation, Mapping):
        rows = [*_calibration_rows(record.get("calibration", {}))]
        return f"<h2>Results on its calibration digits</h2><p>{_NOT_EVALUATED}</p>{_table(rows)}"
    digits = evaluation["familiar"]
    rows = [*_digit_rows(digits), *map(_stranger_row, evaluation["unfamiliar"])]
    rows += map(_elsewhere_row, evaluation["elsewhere"])
    return f"<h2>Results on {digits['n']:,} test digits ({escape(digits['name'])})</h2>{_table(rows)}"


def training_html(record: Mapping[str, Any]) -> str:
    """How the checkpoint was trained, and what that leaves out, in a few sentences."""
    config, data, training = (record.get(name, {}) for name in ("config", "data", "training"))
    if not (config and data):
        return ""
    count = config["components"]
    guides = "one mean-field guide" if count == 1 else f"{count} independently trained mean-field guides"
    told = (
        f"The posterior is a mixture of {guides} over the weights of a {config['network']} network, fitted "
        f"by stochastic variational inference in {config['epochs']} epochs on {data['trained_on']:,} digits "
        f"of {data['name']}, the KL term weighed by beta = {config['beta']:g}. {data['calibrated_on']:,} "
        "other digits were held out to calibrate the rule. No image of anything but digits was used. "
        f"Seed {config['seed']}.{' It was interrupted.' if training.get('interrupted') else ''}"
    )
    return f"<h2>How it was trained</h2><p>{escape(told)}</p><h2>Where it ends</h2><p>{_LIMITS}</p>"


def _plot(
    title: str,
    axes: tuple[str, str, str],
    lines: tuple[str, str],
    data: pd.DataFrame | None = None,
    x_lim: list[float | None] | None = None,
) -> gr.LinePlot:
    """Two `lines` of `data`, whose columns `axes` are x, y and the line's name."""
    x, y, name = axes
    return gr.LinePlot(
        data,
        x=x,
        y=y,
        color=name,
        color_map=dict(zip(lines, _COLOURS, strict=True)),
        title=title,
        x_lim=x_lim,
        height=300,
        min_width=_NARROWEST,
    )


def _digit_rows(digits: Mapping[str, Any]) -> Iterator[Row]:
    intervals = digits["intervals"]
    yield (
        "answered",
        _percent(digits["coverage"], intervals["coverage"]),
        "of the digits; the others are refused",
    )
    yield (
        "wrong when answered",
        _percent(digits["selective_risk"], intervals["selective_risk"]),
        f"{digits['errors']:,} of {digits['answered']:,} answers",
    )
    yield (
        "right if forced",
        _percent(digits["accuracy"], intervals["accuracy"]),
        "were it not allowed to refuse",
    )
    yield "NLL", f"{digits['nll']:.4f} nats", "how surprised it is by the truth; 0 is best"
    yield "ECE", _percent(digits["ece"], intervals["ece"]), "how far its probabilities are off; 0 is best"
    yield "AURC", f"{100 * digits['aurc']:.4f} %", "errors left, averaged over all shares answered; 0 is best"


def _stranger_row(row: Mapping[str, Any]) -> Row:
    shown = _percent(row["refused"], row["intervals"]["refused"])
    return (
        f"refused: {row['name']}",
        shown,
        f"of {row['n']:,} images that are no digits; AUROC {row['auroc']:.4f}",
    )


def _elsewhere_row(row: Mapping[str, Any]) -> Row:
    answers = f"{row['errors']:,} of {row['answered']:,} answers wrong"
    shown = _percent(row["coverage"], row["intervals"]["coverage"])
    return f"answered: {row['name']}", shown, f"of {row['n']:,} digits in other handwriting; {answers}"


def _calibration_rows(told: Mapping[str, Any]) -> Iterator[Row]:
    if told:
        yield "answered", f"{100 * told['coverage']:.2f} %", f"of {told['digits']:,} digits"
        yield "wrong when answered", f"{told['errors_among_answered']:,} digits", ""
        yield "right if forced", f"{100 * told['accuracy']:.2f} %", "were it not allowed to refuse"
        yield "NLL", f"{told['nll']:.4f} nats", "how surprised it is by the truth; 0 is best"


def _table(rows: Iterable[Row]) -> str:
    lines = (
        f'<tr><th scope="row">{escape(what)}</th><td>{escape(value)}</td><td>{escape(meaning)}</td></tr>'
        for what, value, meaning in rows
    )
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def _percent(share: float | None, interval: Sequence[float] | None) -> str:
    if share is None or interval is None:
        return "–"
    return f"{100 * share:.2f} % ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})"


def _line(x: Numbers, y: Numbers, name: str) -> pd.DataFrame:
    return pd.DataFrame({"probability given (%)": x, "right (%)": y, "line": name})


def _histogram(values: Numbers, edges: Numbers, name: str) -> pd.DataFrame:
    counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
    middles = (edges[:-1] + edges[1:]) / 2
    shares = 100 * counts / len(values)
    return pd.DataFrame({"unfamiliarity": middles, "share of the images (%)": shares, "images": name})
