"""The tab that says how far to trust the classifier: its promise, its results, its curves, its training."""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

import gradio as gr

from bnn.app.figures import figures_html
from bnn.classifier import Classifier
from bnn.numerals import percent, percent_interval

_NOT_EVALUATED = (
    "The rule was fitted on these very digits. <code>bnn evaluate --record</code> measures it on digits that "
    "it has never met, and keeps the numbers for this page."
)
_LIMITS = (
    "It reads upright digits. Its promise holds for digits like those it learnt; in other hands "
    "it refuses more: a 1 with a flag, for one, is often refused. What is no digit may still have its shape. "
    "Of letters that fill their frame, as in the table above, nearly all are refused; of those drawn on the "
    "pad, with the strokes of a digit, about seven in ten, of doodles nine in ten. Digits that are turned "
    "or half covered can be taken for others."
)
_STRANGERS = {  # sets that are no digits, in words
    "notMNIST": "letters",
    "EMNIST": "handwritten letters",
    "KMNIST": "Japanese characters",
    "FashionMNIST": "clothes",
    "capitals": "drawn capitals",
    "small-letters": "drawn small letters",
    "doodles": "drawn things",
    "noise": "grey noise",
    "gaussian-noise": "soft grey noise",
    "salt-and-pepper": "white specks",
    "stripes": "stripes",
    "blankish": "nearly blank images",
    "strokes": "random strokes",
    "chimeras": "digits put together wrongly",
}
_HANDS = {"digits": "scikit-learn's", "mnist": "MNIST's", "drawn": "drawn by this project"}  # by whose

Row = tuple[str, str, str]  # what was measured, the number, what it means


def card_tab(classifier: Classifier) -> None:
    """Lays the tab out where it is called, within a `gr.Blocks`."""
    gr.HTML(f"<p>{escape(classifier.describe())}</p>", js_on_load=None)
    gr.HTML(results_html(classifier.record), elem_id="results", js_on_load=None)
    heading = f"<h2>On its {len(classifier.calibration.labels):,} calibration digits</h2>"
    gr.HTML(heading + figures_html(classifier), elem_id="figures", js_on_load=None)
    gr.HTML(training_html(classifier.record), elem_id="training", js_on_load=None)


def results_html(record: Mapping[str, Any]) -> str:
    """What was measured, as a table: on test digits where the record has that, else on calibration digits."""
    evaluation = record.get("evaluation")
    if not isinstance(evaluation, Mapping):
        rows = [*_calibration_rows(record.get("calibration", {}))]
        return f"<h2>Results on its calibration digits</h2><p>{_NOT_EVALUATED}</p>{_table(rows)}"
    digits = evaluation["in_distribution"]
    rows = [*_digit_rows(digits), *map(_stranger_row, evaluation["out_of_distribution"])]
    rows += map(_shifted_row, evaluation["shifted"])
    return f"<h2>Results on {digits['n']:,} test digits ({escape(digits['name'])})</h2>{_table(rows)}"


def training_html(record: Mapping[str, Any]) -> str:
    """How the checkpoint was trained, and what that leaves out, in a few sentences."""
    config, data, training = (record.get(name, {}) for name in ("config", "data", "training"))
    if not (config and data):
        return ""
    count = config["components"]
    guides = "one mean-field guide" if count == 1 else f"{count} independently trained mean-field guides"
    text = (
        f"The posterior is a mixture of {guides} over the weights of a {config['network']} network, fitted "
        f"by stochastic variational inference in {config['epochs']} epochs on {data['trained_on']:,} digits "
        f"of {data['name']}, the KL term weighed by beta = {config['beta']:g}. {data['calibrated_on']:,} "
        "other digits were held out to calibrate the rule. No image of anything but digits was used. "
        f"Seed {config['seed']}.{' It was interrupted.' if training.get('interrupted') else ''}"
    )
    return f"<h2>How it was trained</h2><p>{escape(text)}</p><h2>Where it ends</h2><p>{_LIMITS}</p>"


def _digit_rows(digits: Mapping[str, Any]) -> Iterator[Row]:
    yield (
        "answered",
        _measured(digits, "coverage"),
        "of the digits; the others are refused",
    )
    yield (
        "wrong when answered",
        _measured(digits, "selective_risk"),
        f"{digits['errors']:,} of {digits['answered']:,} answers",
    )
    yield (
        "right if forced",
        _measured(digits, "accuracy"),
        "were it not allowed to refuse",
    )
    yield "NLL", f"{digits['nll']:.4f} nats", "how surprised it is by the truth; 0 is best"
    yield "ECE", _measured(digits, "ece"), "how far its probabilities are off; 0 is best"
    yield "AURC", percent(digits["aurc"], ".4f"), "errors left, averaged over all shares answered; 0 is best"


def _stranger_row(row: Mapping[str, Any]) -> Row:
    name = row["name"]
    shown = _measured(row, "refused")
    return (
        f"{_STRANGERS[name]} refused ({name})" if name in _STRANGERS else f"{name} refused",
        shown,
        f"of {row['n']:,} images that are no digits; AUROC {row['auroc']:.4f}",
    )


def _shifted_row(row: Mapping[str, Any]) -> Row:
    whose = _HANDS.get(row["name"], row["name"])
    shown = _measured(row, "coverage")
    answers = f"{row['errors']:,} of {row['answered']:,} answers wrong"
    return f"digits in other handwriting answered ({whose})", shown, f"of {row['n']:,} digits; {answers}"


def _calibration_rows(measured: Mapping[str, Any]) -> Iterator[Row]:
    if measured:
        yield "answered", percent(measured["coverage"], ".2f"), f"of {measured['digits']:,} digits"
        yield "wrong when answered", f"{measured['errors_among_answered']:,} digits", ""
        yield "right if forced", percent(measured["accuracy"], ".2f"), "were it not allowed to refuse"
        yield "NLL", f"{measured['nll']:.4f} nats", "how surprised it is by the truth; 0 is best"


def _table(rows: Iterable[Row]) -> str:
    lines = (
        f'<tr><th scope="row">{escape(what)}</th><td>{escape(value)}</td><td>{escape(meaning)}</td></tr>'
        for what, value, meaning in rows
    )
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def _measured(row: Mapping[str, Any], name: str) -> str:
    """A share of `row` with its interval."""
    return f"{percent(row[name], '.2f')} {percent_interval(row['intervals'][name], '.2f')}".strip()
