"""The card of trust: its tables against the record, in words."""

import copy
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import pytest

from bnn.app.card import results_html, training_html
from bnn.classifier import Classifier
from bnn.data.digits import LABELLED
from bnn.data.drawn import DRAWN, DRAWN_DIGITS
from bnn.data.generated import GENERATED
from bnn.data.torchvision_sets import TORCHVISION

HOSTILE = "<script>alert('1')</script>\"&"
SHARES = {"coverage": 0.975, "selective_risk": 0.0025, "accuracy": 0.9925}
EVALUATION: dict[str, Any] = {
    "in_distribution": {
        **SHARES,
        **{"name": "mnist", "n": 12_000, "answered": 11_700, "errors": 29},
        **{"nll": 0.0215, "ece": 0.004, "brier": 0.01, "aurc": 0.00025, "aurc_ensemble": 0.0003},
        "intervals": {name: [value - 0.001, value + 0.001] for name, value in SHARES.items()}
        | {"ece": [0.003, 0.005]},
    },
    "out_of_distribution": [
        {"name": "notMNIST", "n": 1500, "refused": 0.9375, "auroc": 0.98765}
        | {"intervals": {"refused": [0.92, 0.95]}}
    ],
    "shifted": [
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
    html = results_html(record).replace("\N{NO-BREAK SPACE}", " ")
    return {what: (value, meaning) for what, value, meaning in Table(html).rows}


def test_an_evaluation_is_told_number_by_number() -> None:
    found = table({"evaluation": EVALUATION})
    assert found["answered"][0] == "97.50 % (97.40 to 97.60 %)"
    assert found["wrong when answered"] == ("0.25 % (0.15 to 0.35 %)", "29 of 11,700 answers")
    assert found["right if forced"][0] == "99.25 % (99.15 to 99.35 %)"
    assert found["NLL"][0] == "0.0215 nats"
    assert found["ECE"][0] == "0.40 % (0.30 to 0.50 %)"
    assert found["AURC"][0] == "0.0250 %"
    value, meaning = found["letters refused (notMNIST)"]
    assert value == "93.75 % (92.00 to 95.00 %)"
    assert "1,500 images" in meaning
    assert "AUROC 0.9877" in meaning
    value, meaning = found["digits in other handwriting answered (usps)"]
    assert value == "97.50 % (72.00 to 76.00 %)"
    assert "of 2,007 digits" in meaning
    assert "7 of 1,500 answers wrong" in meaning
    assert "12,000 test digits (mnist)" in results_html({"evaluation": EVALUATION})


@pytest.mark.parametrize(
    "name", [*DRAWN, *GENERATED, "notMNIST", *(name for name in TORCHVISION if name != "QMNIST")]
)
def test_sets_that_are_no_digits_are_told_in_words_with_their_name(name: str) -> None:
    evaluation = EVALUATION | {"out_of_distribution": [EVALUATION["out_of_distribution"][0] | {"name": name}]}
    (what,) = (what for what in table({"evaluation": evaluation}) if "refused" in what)
    assert re.fullmatch(rf"[A-Za-z ]+ refused \({name}\)", what)


@pytest.mark.parametrize("name", [*LABELLED, *DRAWN_DIGITS])
def test_digits_from_elsewhere_are_told_by_whose_they_are(name: str) -> None:
    evaluation = EVALUATION | {"shifted": [EVALUATION["shifted"][0] | {"name": name}]}
    (what,) = (what for what in table({"evaluation": evaluation}) if "other handwriting" in what)
    assert re.fullmatch(r"digits in other handwriting answered \([\w-]+('s| by .+)\)", what)


def test_a_set_that_nobody_knows_keeps_its_own_name() -> None:
    evaluation = EVALUATION | {
        "out_of_distribution": [EVALUATION["out_of_distribution"][0] | {"name": "my doodles"}]
    }
    assert "my doodles refused" in table({"evaluation": evaluation})


def test_an_evaluation_of_digits_alone_that_answered_none() -> None:
    evaluation = copy.deepcopy(EVALUATION) | {"out_of_distribution": [], "shifted": []}
    evaluation["in_distribution"] |= {"coverage": 0.0, "answered": 0, "errors": 0, "selective_risk": None}
    evaluation["in_distribution"]["intervals"]["selective_risk"] = None
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
    record = classifier.record
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


def test_where_it_ends_is_told_as_it_is() -> None:
    told = training_html(TRAINED)
    assert "of those drawn on the pad, with the strokes of a digit, about seven in ten" in told
    assert "of doodles nine in ten" in told
    assert "a 1 with a flag, for one, is often refused" in told


def test_one_guide_and_an_interruption_are_told() -> None:
    config = TRAINED["config"] | {"components": 1}
    told = training_html(TRAINED | {"config": config, "training": {"interrupted": True}})
    assert "a mixture of one mean-field guide " in told
    assert "a mixture of one swag guide " in training_html(TRAINED | {"config": config | {"guide": "swag"}})
    assert "Seed 4. It was interrupted.</p>" in told


@pytest.mark.parametrize("missing", ["config", "data"])
def test_training_that_is_not_recorded_is_not_told(missing: str) -> None:
    assert training_html({name: value for name, value in TRAINED.items() if name != missing}) == ""


def test_names_in_a_record_are_escaped() -> None:
    evaluation = json.loads(json.dumps(EVALUATION))
    for part in (evaluation["in_distribution"], *evaluation["out_of_distribution"], *evaluation["shifted"]):
        part["name"] = HOSTILE
    trained = copy.deepcopy(TRAINED)
    trained["data"]["name"] = HOSTILE
    trained["config"] |= dict.fromkeys(("network", "components", "epochs", "seed"), HOSTILE)
    for html in (results_html({"evaluation": evaluation}), training_html(trained)):
        assert Table(html).tags <= {"h2", "p", "code", "table", "tbody", "tr", "th", "td"}
        assert "alert(&#x27;1&#x27;)" in html
    found = table({"evaluation": evaluation})
    assert f"{HOSTILE} refused" in found
    assert f"digits in other handwriting answered ({HOSTILE})" in found
