"""The tab that says how far to trust the classifier: its promise, its results, its curves, its training."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from bnn.app.arrivals import Arrivals
from bnn.app.figures import figures_html
from bnn.app.strictness import Promises
from bnn.classifier import Classifier
from bnn.core.task import DIGITS, are_digits, worded
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
_LIMITS_OF_OTHERS = (
    "Its promise holds for images like those it learnt, brought in as they were; of others it refuses more. "
    "What is of none of its classes may still look like one. How much of such is refused was measured only "
    "on the sets in the table above, if there are any."
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
_HANDS = {  # by whose
    "digits": "scikit-learn's",
    "mnist": "MNIST's",
    "QMNIST": "QMNIST's",
    "EMNIST-digits": "EMNIST's",
    "USPS": "USPS's",
    "drawn": "drawn by this project",
}

Row = tuple[str, str, str]  # what was measured, the number, what it means


def card_tab(classifier: Classifier, _: Promises, *, arrivals: Arrivals | None = None) -> None:
    """Lays the tab out where it is called, within a `gr.Blocks`; on demand it tells of `arrivals`."""
    gr.HTML(f"<p>{escape(classifier.describe())}</p>", js_on_load=None)
    names = classifier.task.names
    gr.HTML(results_html(classifier.record, names), elem_id="results", js_on_load=None)
    heading = f"<h2>On its {len(classifier.calibration.labels):,} calibration {worded(names, 'digits')}</h2>"
    gr.HTML(heading + figures_html(classifier), elem_id="figures", js_on_load=None)
    if arrivals is not None:
        ask = gr.Button("What programs have sent", size="sm", elem_id="ask-arrivals")
        told = gr.HTML(elem_id="arrivals", js_on_load=None)
        ask.click(arrivals.html, None, told, show_progress="hidden", api_visibility="private")
    gr.HTML(training_html(classifier.record, names), elem_id="training", js_on_load=None)


def results_html(record: Mapping[str, Any], names: Sequence[str] = DIGITS.names) -> str:
    """What was measured, as a table: on test digits where the record has that, else on calibration digits."""
    evaluation = record.get("evaluation")
    if not isinstance(evaluation, Mapping):
        rows = [*_calibration_rows(record.get("calibration", {}))]
        said = worded(names, f"<h2>Results on its calibration digits</h2><p>{_NOT_EVALUATED}</p>")
        return said + _table(_worded(names, rows))
    digits = evaluation["in_distribution"]
    rows = [*_worded(names, _digit_rows(digits)), *_hardest(digits, names)]
    rows += [_stranger_row(row, names) for row in evaluation["out_of_distribution"]]
    rows += [_shifted_row(row, names) for row in evaluation["shifted"]]
    what = worded(names, f"{digits['n']:,} test digits")
    return f"<h2>Results on {what} ({escape(digits['name'])})</h2>{_table(rows)}"


def training_html(record: Mapping[str, Any], names: Sequence[str] = DIGITS.names) -> str:
    """How the checkpoint was trained, and what that leaves out, in a few sentences."""
    config, data, training = (record.get(name, {}) for name in ("config", "data", "training"))
    if not (config and data):
        return ""
    count = config["components"]
    kind = config.get("guide", "mean-field")
    guides = f"one {kind} guide" if count == 1 else f"{count} independently trained {kind} guides"
    things, limits = ("digits", _LIMITS) if are_digits(names) else ("images", _LIMITS_OF_OTHERS)
    learnt = "" if are_digits(names) else f"Its {len(names)} classes: {', '.join(names)}. "
    text = (
        f"{learnt}The posterior is a mixture of {guides} over the weights of a {config['network']} network, "
        f"fitted in {config['epochs']} epochs on "
        f"{data['trained_on']:,} {things} of {data['name']}, the KL term weighed by "
        f"beta = {config['beta']:g}. {data['calibrated_on']:,} other {things} were held out to "
        f"calibrate the rule. {_nothing_else(names)} was used. "
        f"Seed {config['seed']}.{' It was interrupted.' if training.get('interrupted') else ''}"
    )
    return f"<h2>How it was trained</h2><p>{escape(text)}</p><h2>Where it ends</h2><p>{limits}</p>"


def _nothing_else(names: Sequence[str]) -> str:
    return f"No image of anything but {'digits' if are_digits(names) else 'these classes'}"


def _worded(names: Sequence[str], rows: Iterable[Row]) -> list[Row]:
    return [(worded(names, what), worded(names, value), worded(names, says)) for what, value, says in rows]


def _hardest(images: Mapping[str, Any], names: Sequence[str]) -> Iterator[Row]:
    """The class with the fewest right answers, where the classes are not digits."""
    of_classes = images.get("by_class")
    if of_classes and not are_digits(names):
        row = of_classes[0]
        answers = f"{row['errors']:,} of {row['answered']:,} answers wrong"
        yield (
            f"hardest class: {row['kind']}, answered",
            _measured(row, "coverage"),
            f"of {row['n']:,}; {answers}",
        )


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


def _stranger_row(row: Mapping[str, Any], names: Sequence[str]) -> Row:
    name = row["name"]
    shown = _measured(row, "refused")
    others = "that are no digits" if are_digits(names) else "that need not be of its classes"
    return (
        f"{_STRANGERS[name]} refused ({name})" if name in _STRANGERS else f"{name} refused",
        shown,
        f"of {row['n']:,} images {others}; AUROC {row['auroc']:.4f}",
    )


def _shifted_row(row: Mapping[str, Any], names: Sequence[str]) -> Row:
    whose = _HANDS.get(row["name"], row["name"])
    shown = _measured(row, "coverage")
    answers = f"{row['errors']:,} of {row['answered']:,} answers wrong"
    what = "digits in other handwriting" if are_digits(names) else "images from another source"
    return f"{what} answered ({whose})", shown, f"of {row['n']:,} {worded(names, 'digits')}; {answers}"


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
