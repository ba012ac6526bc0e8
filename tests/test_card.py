"""The card of trust: its curves against the functions that define them, its tables against the record."""

import copy
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bnn.app import card
from bnn.app.card import (
    CONFIDENCE_BINS,
    CURVE_POINTS,
    LEAST_DIGITS,
    MOST_UNFAMILIAR,
    familiarity_data,
    reliability_data,
    results_html,
    risk_coverage_data,
    training_html,
)
from bnn.classifier import Classifier
from bnn.evaluation.curves import reliability, risk_coverage
from bnn.rules.thresholds import EntropyRule

HOSTILE = "<script>alert('1')</script>\"&"
SHARES = {"coverage": 0.975, "selective_risk": 0.0025, "accuracy": 0.9925}
EVALUATION: dict[str, Any] = {
    "familiar": {
        **SHARES,
        **{"name": "mnist", "n": 12_000, "answered": 11_700, "errors": 29},
        **{"nll": 0.0215, "ece": 0.004, "brier": 0.01, "aurc": 0.00025, "aurc_ensemble": 0.0003},
        "intervals": {name: [value - 0.001, value + 0.001] for name, value in SHARES.items()}
        | {"ece": [0.003, 0.005]},
    },
    "unfamiliar": [
        {"name": "notMNIST", "n": 1500, "refused": 0.9375, "auroc": 0.98765}
        | {"intervals": {"refused": [0.92, 0.95]}}
    ],
    "elsewhere": [
        SHARES
        | {"name": "usps", "n": 2007, "answered": 1500, "errors": 7}
        | {"intervals": {"coverage": [0.72, 0.76]}}
    ],
}
TRAINED: dict[str, Any] = {
    "config": {"components": 6, "network": "vgg", "epochs": 30, "beta": 0.1, "seed": 4},
    "data": {"trained_on": 55_000, "calibrated_on": 5_000, "name": "mnist"},
    "training": {"interrupted": False},
}


class Table(HTMLParser):
    """The rows of a table, each a list of its cells' texts; and all tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows:
            self.rows[-1][-1] += data


def table(record: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {what: (value, meaning) for what, value, meaning in Table(results_html(record)).rows}


def of(data: pd.DataFrame, column: str, name: str) -> pd.DataFrame:
    return data[data[column] == name]


# Curves


@pytest.mark.parametrize("points", [CURVE_POINTS, 10**6])
def test_the_risk_coverage_curve_is_the_one_of_all_digits(
    classifier: Classifier, points: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card, "CURVE_POINTS", points)
    evidence, labels = classifier.calibration.evidence, classifier.calibration.labels
    errors, data = (evidence.mean.argmax(1) != labels).numpy(), risk_coverage_data(classifier)
    scores = {"the rule's score": classifier.rule.score(evidence), "entropy alone": evidence.total}
    assert set(data["refusing by"]) == set(scores)
    for name, score in scores.items():
        curve, (coverage, risk) = of(data, "refusing by", name), risk_coverage(errors, score.numpy())
        place = (curve["answered (%)"].to_numpy() / 100 * len(labels)).round().astype(int) - 1
        assert (place[0], place[-1]) == (0, len(labels) - 1)
        assert len(place) == min(points, len(labels))
        np.testing.assert_allclose(curve["answered (%)"], 100 * coverage[place])
        np.testing.assert_allclose(curve["wrong among the answered (%)"], 100 * risk[place])


def test_another_rule_has_another_curve_and_ends_at_the_same_error(classifier: Classifier) -> None:
    entropy = risk_coverage_data(classifier.with_rule(EntropyRule(0.3, 0.05)))
    by_rule, alone = (of(entropy, "refusing by", name) for name in ("the rule's score", "entropy alone"))
    assert by_rule.drop(columns="refusing by").equals(alone.drop(columns="refusing by"))
    wrong = "wrong among the answered (%)"
    assert risk_coverage_data(classifier)[wrong].iloc[-1] == pytest.approx(alone[wrong].iloc[-1])


def test_reliability_is_that_of_the_bins_with_enough_digits(classifier: Classifier) -> None:
    probs, labels = classifier.calibration.evidence.mean.numpy(), classifier.calibration.labels.numpy()
    sure, right, share = reliability(probs, labels, CONFIDENCE_BINS)
    enough = share * len(labels) > LEAST_DIGITS - 0.5
    shown = of(reliability_data(classifier), "line", "this classifier")
    np.testing.assert_allclose(shown["probability given (%)"], 100 * sure[enough])
    np.testing.assert_allclose(shown["right (%)"], 100 * right[enough])
    assert 0 < len(shown) <= CONFIDENCE_BINS
    perfect = of(reliability_data(classifier), "line", "perfect calibration")
    assert perfect["probability given (%)"].tolist() == perfect["right (%)"].tolist() == [0, 100]


def test_familiarity_shares_every_image_out_and_digits_look_more_familiar(classifier: Classifier) -> None:
    data = familiarity_data(classifier)
    middles = {}
    for name in ("digits", "letters, doodles, noise"):
        part = of(data, "images", name)
        share, place = part["share of the images (%)"].to_numpy(), part["unfamiliarity"].to_numpy()
        assert share.sum() == pytest.approx(100)
        assert (share >= 0).all()
        assert 0 < place.min() < place.max() < MOST_UNFAMILIAR
        middles[name] = (share * place).sum() / 100
    assert middles["digits"] < middles["letters, doodles, noise"]


def test_what_is_beyond_the_plot_stands_at_its_end(classifier: Classifier) -> None:
    values = classifier.calibration.evidence.unfamiliarity
    digits = of(familiarity_data(classifier), "images", "digits")["share of the images (%)"]
    width = MOST_UNFAMILIAR / len(digits)
    last = (values >= MOST_UNFAMILIAR - width).double().mean().item()
    assert digits.iloc[-1] == pytest.approx(100 * last)


# Tables


def test_an_evaluation_is_told_number_by_number() -> None:
    found = table({"evaluation": EVALUATION})
    assert found["answered"][0] == "97.50 % (97.40 to 97.60)"
    assert found["wrong when answered"] == ("0.25 % (0.15 to 0.35)", "29 of 11,700 answers")
    assert found["right if forced"][0] == "99.25 % (99.15 to 99.35)"
    assert found["NLL"][0] == "0.0215 nats"
    assert found["ECE"][0] == "0.40 % (0.30 to 0.50)"
    assert found["AURC"][0] == "0.0250 %"
    value, meaning = found["refused: notMNIST"]
    assert value == "93.75 % (92.00 to 95.00)"
    assert "1,500 images" in meaning
    assert "AUROC 0.9877" in meaning
    value, meaning = found["answered: usps"]
    assert value == "97.50 % (72.00 to 76.00)"
    assert "2,007 digits" in meaning
    assert "7 of 1,500 answers wrong" in meaning
    assert "12,000 test digits (mnist)" in results_html({"evaluation": EVALUATION})


def test_an_evaluation_of_digits_alone_that_answered_none() -> None:
    evaluation = copy.deepcopy(EVALUATION) | {"unfamiliar": [], "elsewhere": []}
    evaluation["familiar"] |= {"coverage": 0.0, "answered": 0, "errors": 0, "selective_risk": None}
    evaluation["familiar"]["intervals"]["selective_risk"] = None
    found = table({"evaluation": evaluation})
    assert found["wrong when answered"] == ("–", "0 of 0 answers")
    assert len(found) == 6


def test_without_an_evaluation_the_calibration_is_told_and_how_to_get_one() -> None:
    told = {"digits": 5000, "coverage": 0.9826, "errors_among_answered": 4, "accuracy": 0.9956, "nll": 0.015}
    record = {"calibration": told}
    found = table(record)
    assert found["answered"] == ("98.26 %", "of 5,000 digits")
    assert found["wrong when answered"][0] == "4 digits"
    assert found["right if forced"][0] == "99.56 %"
    for one in (record, {}, {"evaluation": None}):
        assert "bnn evaluate --record" in results_html(one)
    assert table({}) == {}
    assert "--record" not in results_html({"evaluation": EVALUATION})


def test_what_ships_can_be_told(classifier: Classifier) -> None:
    record = classifier.checkpoint.record
    assert len(table(record)) >= 4
    assert f"{record['data']['trained_on']:,} digits of {record['data']['name']}" in training_html(record)


def test_training_is_told() -> None:
    told = re.sub("<[^>]*>", "", training_html(TRAINED))
    for part in (
        "6 independently trained mean-field guides",
        "a vgg network",
        "30 epochs on 55,000 digits of mnist",
        "beta = 0.1",
        "5,000 other digits",
        "Seed 4.",
    ):
        assert part in told
    assert "interrupted" not in told


def test_one_guide_and_an_interruption_are_told() -> None:
    config = TRAINED["config"] | {"components": 1}
    told = training_html(TRAINED | {"config": config, "training": {"interrupted": True}})
    assert "a mixture of one mean-field guide " in told
    assert "Seed 4. It was interrupted.</p>" in told


@pytest.mark.parametrize("missing", ["config", "data"])
def test_training_that_is_not_recorded_is_not_told(missing: str) -> None:
    assert training_html({name: value for name, value in TRAINED.items() if name != missing}) == ""


def test_names_in_a_record_are_escaped() -> None:
    evaluation = json.loads(json.dumps(EVALUATION))
    for part in (evaluation["familiar"], *evaluation["unfamiliar"], *evaluation["elsewhere"]):
        part["name"] = HOSTILE
    trained = copy.deepcopy(TRAINED)
    trained["data"]["name"] = HOSTILE
    trained["config"] |= dict.fromkeys(("network", "components", "epochs", "seed"), HOSTILE)
    for html in (results_html({"evaluation": evaluation}), training_html(trained)):
        assert Table(html).tags <= {"h2", "p", "code", "table", "tbody", "tr", "th", "td"}
        assert "alert(&#x27;1&#x27;)" in html
    assert f"refused: {HOSTILE}" in table({"evaluation": evaluation})
