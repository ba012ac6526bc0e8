"""The tab to draw on, without a browser: what the page shows of a drawing."""

import base64
import io
import json
import re
from typing import Any
from xml.etree import ElementTree as ET

import gradio as gr
import numpy as np
import pytest
from PIL import Image, ImageDraw

from bnn.app.draw import DRAWS, _chosen, _judge, _nearest, look
from bnn.app.drawings import seen_svg
from bnn.app.examples import CAPITAL, DIGITS, DOODLES, DOUBTFUL
from bnn.app.strictness import offered
from bnn.classifier import Classifier
from bnn.data.pen import SIZE, render
from bnn.data.pictures import PNG_URL, png_url
from bnn.data.preprocess import prepare
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.thresholds import EntropyRule, MedianRule

SVG = "{http://www.w3.org/2000/svg}"
ANSWERING, REFUSING = EntropyRule(threshold=10.0, refuse=0.5), EntropyRule(threshold=-1.0, refuse=0.5)
SEVEN, DISC = render(DIGITS["7"]), render([[(0.5, 0.5), (0.5, 0.5)]])
RED = (214, 39, 40)


def votes(spread: str) -> list[int]:
    """How many votes each of the ten rows shows."""
    rows = ET.fromstring(spread).iter(f"{SVG}g")
    return [sum(int(path.get("data-count", "0")) for path in row) for row in rows]


def answered_rows(spread: str) -> list[int]:
    rows = ET.fromstring(spread).iter(f"{SVG}g")
    return [digit for digit, row in enumerate(rows) if row.get("class") == "row answer"]


def test_a_drawn_digit_is_answered(classifier: Classifier) -> None:
    panels = look(classifier.with_rule(ANSWERING), SEVEN)
    assert '<p class="headline">7</p>' in panels.verdict
    assert '<p class="voices">8 of 8 networks say 7</p>' in panels.verdict
    assert "How the 8 networks vote" in panels.spread
    assert answered_rows(panels.spread) == [7]
    assert votes(panels.spread) == [8 * (digit == 7) for digit in range(10)]
    assert panels.evidence.count('role="meter"') == 2


def beside(*digits: str) -> list[list[tuple[float, float]]]:
    """Strokes of digits that share the pad, side by side."""
    share = 1 / len(digits)
    return [
        [((place + x) * share, 0.5 + (y - 0.5) * share) for x, y in stroke]
        for place, digit in enumerate(digits)
        for stroke in DIGITS[digit]
    ]


def test_each_step_from_the_drawing_to_the_networks_is_shown(classifier: Classifier) -> None:
    framed = SEVEN.copy()
    ImageDraw.Draw(framed).line([(0, 3), (framed.width, 3)], 0, 4)
    for drawn, last in ((framed, "28 by 28, as the network sees it"), (DISC, "28 by 28, refused: too small")):
        shown = re.findall(r'<img src="([^"]+)" alt="([^"]+)">', look(classifier, drawn).steps)
        assert [heading for _, heading in shown][0::3] == ["as it was given", last]
        pictures = [picture_of(url) for url, _ in shown]
        assert len(pictures) == 4
        assert (np.asarray(pictures[2]) == RED).all(-1).any() == (drawn is framed)
        seen = np.asarray(pictures[3].convert("L").resize((28, 28), Image.Resampling.NEAREST))
        assert (seen == np.round(prepare(drawn)[0, 0].numpy() * 255)).mean() > 0.98
    assert look(classifier, None).steps.count("<img") == 0


def picture_of(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix(PNG_URL))))


def test_several_digits_are_read_as_a_number(classifier: Classifier) -> None:
    panels = look(classifier, render(beside("4", "2")))
    assert '<p class="headline">42</p>' in panels.verdict
    assert "2 digits: 4 2" in panels.verdict
    assert votes(panels.spread) == [0] * 10


def test_a_number_with_a_digit_that_is_refused_is_not_answered(classifier: Classifier) -> None:
    verdict = look(classifier.with_rule(REFUSING), render(beside("7", "3"))).verdict
    assert "I don't know" in verdict.replace("&#x27;", "'")
    assert "2 digits: ? ?" in verdict
    assert "Of 2 digits 2 cannot be told" in verdict


def test_a_refused_drawing_still_shows_its_spread(classifier: Classifier) -> None:
    panels = look(classifier.with_rule(REFUSING), SEVEN)
    assert "I don't know" in panels.verdict.replace("&#x27;", "'")
    assert answered_rows(panels.spread) == []
    assert sum(votes(panels.spread)) == 8


def test_it_is_said_after_how_many_votes_a_decision_was_settled(classifier: Classifier) -> None:
    panels = look(classifier.with_rule(ANSWERING), SEVEN)
    assert "settled by the first 6" in panels.spread
    assert "settled</text>" in panels.steps
    assert "after 6 the others could hardly change the decision" in panels.steps
    few = look(classifier.with_draws(5).with_rule(ANSWERING), SEVEN)
    assert "settled by all 5" in few.spread
    assert "settled</text>" not in few.steps
    for unknown in (look(classifier.with_rule(MedianRule(0.2)), SEVEN), look(classifier, DISC)):
        assert "settle" not in unknown.spread
        assert "settled</text>" not in unknown.steps


def test_a_refusal_says_how_the_votes_split(classifier: Classifier) -> None:
    panels = look(classifier.with_rule(REFUSING), render(DOUBTFUL["4 or 9"]))
    cast = votes(panels.spread)
    assert min(cast[4], cast[9]) > 0
    assert f"{max(cast)} of 8 networks say {cast.index(max(cast))}, " in panels.verdict


def test_what_is_too_much_of_a_refused_drawing_is_said_and_marked(classifier: Classifier) -> None:
    panels, plain = look(classifier, render(DOODLES["a face"])), look(classifier, SEVEN)
    assert "Unfamiliar: a stroke too many: without it, it would be a 0." in panels.verdict
    assert "orange: too much" in panels.evidence
    colours = [tuple(map(int, found)) for found in re.findall(r"rgb\((\d+),(\d+),(\d+)\)", panels.evidence)]
    assert max(red - blue for red, _, blue in colours) > 100
    assert "orange" not in plain.evidence


def test_gauges_mark_where_the_rule_in_force_refuses(classifier: Classifier) -> None:
    promises = offered(classifier)
    for pair in promises.rules:
        rule = promises.rule(*pair)
        assert isinstance(rule, CalibratedRule)
        evidence = look(classifier.with_rule(rule), SEVEN).evidence
        assert f"refused above {rule.ambiguous_threshold:.2f}<" in evidence
        assert f"refused above {rule.unfamiliar_threshold:.1f}<" in evidence


def test_what_is_shown_is_what_the_classifier_predicts(classifier: Classifier) -> None:
    for strokes in (*DIGITS.values(), *DOODLES.values()):
        panels, prediction = look(classifier, render(strokes)), classifier.predict(render(strokes))
        assert f'class="verdict {prediction.reasons[0]}"' in panels.verdict
        assert answered_rows(panels.spread) == [label for label in prediction.labels.tolist() if label >= 0]


@pytest.mark.parametrize("drawn", [None, Image.new("L", (SIZE, SIZE), 255)], ids=["none", "white"])
def test_nothing_drawn(classifier: Classifier, drawn: Image.Image | None) -> None:
    panels = look(classifier.with_rule(ANSWERING), drawn)
    assert "Nothing drawn yet" in panels.verdict
    assert votes(panels.spread) == [0] * 10
    assert "say" not in panels.verdict
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
    return _judge(_chosen(classifier, offered(classifier)))


@pytest.mark.parametrize("draws", DRAWS)
def test_so_many_networks_vote_as_are_asked_for(judge: Any, draws: int) -> None:
    assert sum(votes(judge(png_url(SEVEN), None, None, draws).spread)) == draws


def test_without_a_choice_the_classifier_itself_decides(judge: Any, classifier: Classifier) -> None:
    assert judge(png_url(SEVEN), None, None, None) == look(classifier, SEVEN)
    assert judge("", "no such promise", "1 in 200", None) == look(classifier, None)


def test_the_same_networks_are_drawn_again(judge: Any, classifier: Classifier) -> None:
    once = judge(png_url(SEVEN), None, None, 25)
    other = Classifier.load(draws=25)
    assert once == judge(png_url(SEVEN), None, None, 25) == look(other, SEVEN)


def test_chosen_promises_decide(judge: Any, classifier: Classifier) -> None:
    promises = offered(classifier)
    for strokes in DOUBTFUL.values():
        drawn = png_url(render(strokes))
        assert "verdict answered" in judge(drawn, promises.risks[0], promises.alphas[0], None).verdict
        assert "verdict ambiguous" in judge(drawn, promises.risks[-1], promises.alphas[0], None).verdict
    letter = png_url(render(CAPITAL))
    assert "verdict answered" in judge(letter, promises.risks[0], promises.alphas[0], None).verdict
    assert "verdict unfamiliar" in judge(letter, promises.risks[0], promises.alphas[-1], None).verdict


@pytest.mark.parametrize("value", [7, {"path": "/etc/passwd"}, "words", png_url(Image.new("L", (5, 5)))])
def test_what_is_no_drawing_is_told_to_the_visitor(judge: Any, value: Any) -> None:
    with pytest.raises(gr.Error, match=r"a drawing must [^\n]+\.") as told:
        judge(value, None, None, None)
    assert told.value.print_exception is False


@pytest.mark.parametrize(
    ("asked", "given"), [(10, 10), (-5, 10), (17, 10), (18, 25), (60, 50), (1e9, 100), (float("inf"), 10)]
)
def test_numbers_of_networks_that_are_not_offered_become_one_that_is(asked: float, given: int) -> None:
    assert _nearest(asked) == given


def test_all_that_is_shown_can_be_sent(classifier: Classifier) -> None:
    panels = look(classifier, SEVEN)
    assert json.loads(json.dumps(panels)) == list(panels)
    assert not any("nan" in part for part in (panels.verdict, panels.evidence, panels.spread))
    assert np.isfinite(classifier.predict(SEVEN).probs).all()
