"""The tab to draw on, without a browser: what the page shows of a drawing."""

import json
from typing import Any
from xml.etree import ElementTree as ET

import gradio as gr
import numpy as np
import pytest
from PIL import Image, ImageDraw

from bnn.app.draw import DRAWS, _judge, _nearest, look
from bnn.app.drawings import seen_svg
from bnn.app.examples import DIGITS, DOODLES, DOUBTFUL, render
from bnn.app.pad import SIZE
from bnn.app.strictness import offered
from bnn.classifier import Classifier
from bnn.data.pictures import png_url
from bnn.data.preprocess import prepare
from bnn.rules.thresholds import EntropyRule

SVG = "{http://www.w3.org/2000/svg}"
ANSWERING, REFUSING = EntropyRule(threshold=10.0, refuse=0.5), EntropyRule(threshold=-1.0, refuse=0.5)
SEVEN = render(DIGITS["7"])


def counts(spread: str) -> list[int]:
    """How many draws each of the ten rows shows."""
    rows = ET.fromstring(spread).iter(f"{SVG}g")
    return [sum(int(bar.get("data-count", "0")) for bar in row) for row in rows]


def answered_rows(spread: str) -> list[int]:
    rows = ET.fromstring(spread).iter(f"{SVG}g")
    return [digit for digit, row in enumerate(rows) if row.get("class") == "row answer"]


def test_a_drawn_digit_is_answered(classifier: Classifier) -> None:
    panels = look(classifier.with_rule(ANSWERING), SEVEN)
    assert '<p class="headline">7</p>' in panels.verdict
    assert answered_rows(panels.spread) == [7]
    assert counts(panels.spread) == [8] * 10
    assert panels.evidence.count('role="meter"') == 3


def test_a_refused_drawing_still_shows_its_spread(classifier: Classifier) -> None:
    panels = look(classifier.with_rule(REFUSING), SEVEN)
    assert "I don't know" in panels.verdict.replace("&#x27;", "'")
    assert answered_rows(panels.spread) == []
    assert counts(panels.spread) == [8] * 10


def test_what_is_shown_is_what_the_classifier_predicts(classifier: Classifier) -> None:
    for strokes in (*DIGITS.values(), *DOODLES.values()):
        panels, prediction = look(classifier, render(strokes)), classifier.predict(render(strokes))
        assert f'class="verdict {prediction.reasons[0]}"' in panels.verdict
        assert answered_rows(panels.spread) == [label for label in prediction.labels.tolist() if label >= 0]


@pytest.mark.parametrize("drawn", [None, Image.new("L", (SIZE, SIZE), 255)], ids=["none", "white"])
def test_nothing_drawn(classifier: Classifier, drawn: Image.Image | None) -> None:
    panels = look(classifier.with_rule(ANSWERING), drawn)
    assert "Nothing drawn yet" in panels.verdict
    assert counts(panels.spread) == [0] * 10
    assert "meter" not in panels.evidence


def test_ink_along_the_whole_edge_is_ink(classifier: Classifier) -> None:
    image = Image.new("L", (SIZE, SIZE), 0)
    ImageDraw.Draw(image).rectangle((150, 150, 250, 250), fill=255)
    seen = look(classifier, image).evidence
    assert seen.count("rgb(255,255,255)") > 250  # of the 400 pixels that the ink is fitted into


@pytest.mark.parametrize("shift", [(-250, 0), (250, 0), (0, -250), (0, 250)])
def test_a_digit_that_leaves_the_pad_is_no_ground(classifier: Classifier, shift: tuple[int, int]) -> None:
    image = Image.new("L", (SIZE, SIZE), 255)
    image.paste(SEVEN, shift)
    verdict = look(classifier.with_rule(ANSWERING), image).verdict
    assert "Nothing drawn yet" not in verdict


def test_what_the_networks_saw_is_shown(classifier: Classifier) -> None:
    prepared = prepare(SEVEN)[0, 0].numpy()
    assert seen_svg(prepared) in look(classifier, SEVEN).evidence


# What a visitor's change is met with


@pytest.fixture(scope="module")
def judge(classifier: Classifier) -> Any:
    return _judge(classifier, offered(classifier))


@pytest.mark.parametrize("draws", DRAWS)
def test_so_many_networks_vote_as_are_asked_for(judge: Any, draws: int) -> None:
    assert counts(judge(png_url(SEVEN), None, draws).spread) == [draws] * 10


def test_without_a_choice_the_classifier_itself_decides(judge: Any, classifier: Classifier) -> None:
    assert judge(png_url(SEVEN), None, None) == look(classifier, SEVEN)
    assert judge("", "no such promise", None) == look(classifier, None)


def test_the_same_networks_are_drawn_again(judge: Any, classifier: Classifier) -> None:
    once = judge(png_url(SEVEN), None, 25)
    other = Classifier(classifier.checkpoint, draws=25, seed=classifier.seed)
    assert once == judge(png_url(SEVEN), None, 25) == look(other, SEVEN)


def test_a_chosen_promise_decides(judge: Any, classifier: Classifier) -> None:
    laxest, *_, strictest = offered(classifier)
    for strokes in DOUBTFUL.values():
        drawn = png_url(render(strokes))
        assert "verdict answered" in judge(drawn, laxest, None).verdict
        assert "verdict ambiguous" in judge(drawn, strictest, None).verdict


@pytest.mark.parametrize("value", [7, {"path": "/etc/passwd"}, "words", png_url(Image.new("L", (5, 5)))])
def test_what_is_no_drawing_is_told_to_the_visitor(judge: Any, value: Any) -> None:
    with pytest.raises(gr.Error, match=r"a drawing must [^\n]+\.") as told:
        judge(value, None, None)
    assert told.value.print_exception is False


@pytest.mark.parametrize(
    ("asked", "given"), [(10, 10), (-5, 10), (17, 10), (18, 25), (60, 50), (1e9, 100), (float("inf"), 10)]
)
def test_numbers_of_networks_that_are_not_offered_become_one_that_is(asked: float, given: int) -> None:
    assert _nearest(asked) == given


def test_all_that_is_shown_can_be_sent(classifier: Classifier) -> None:
    panels = look(classifier, SEVEN)
    assert json.loads(json.dumps(panels)) == list(panels)
    assert not any("nan" in part for part in panels)
    assert np.isfinite(classifier.predict(SEVEN).probs).all()
