"""What the page says and draws of a decision: words, gauges and SVG, all pure functions."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from bnn.app.drawings import ensemble_svg, histogram, seen_svg
from bnn.app.gauges import Gauge, gauges, gauges_html
from bnn.app.words import small_print, verdict, verdict_html
from bnn.classifier import Prediction
from bnn.core.uncertainty import MAX_ENTROPY
from bnn.rules.abstention import AbstentionRule
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.thresholds import ConfidenceRule, EntropyRule, MedianRule

SVG = "{http://www.w3.org/2000/svg}"
CALIBRATED = CalibratedRule(30.0, 0.1, risk=0.002, delta=0.05, alpha=0.005)
SPACE = "\N{NO-BREAK SPACE}"

ensembles = st.integers(0, 30).flatmap(
    lambda draws: arrays(np.float32, (draws, 10), elements=st.floats(0, 1, width=32))
)
nats = st.floats(0, MAX_ENTROPY)


def rows(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter(f"{SVG}g"))


def parts(row: ET.Element, name: str) -> list[ET.Element]:
    return [element for element in row if element.get("class") == name]


def prediction(reason: str, *, candidates: tuple[int, ...] = (4, 9), blank: bool = False) -> Prediction:
    zero = np.zeros(1, np.float32)
    return Prediction(
        labels=np.array([4 if reason == "answered" else -1]),
        reasons=np.array([reason]),
        probs=np.full((1, 10), 0.875, np.float32),
        total=zero + 0.75,
        aleatoric=zero + 0.5,
        epistemic=zero + 0.25,
        unfamiliarity=zero + 12,
        refusal_score=zero,
        candidates=[candidates],
        blank=np.array([blank]),
    )


def surely(probability: float) -> Prediction:
    return replace(prediction("answered"), probs=np.full((1, 10), probability, np.float32))


def gauge(name: str, of: Prediction, rule: AbstentionRule = CALIBRATED) -> Gauge:
    (found,) = (shown for shown in gauges(of, rule) if shown.name == name)
    return found


# Words


def test_words_for_an_answer() -> None:
    assert verdict(prediction("answered")) == ("4", f"with a probability of 87.5{SPACE}%")


def test_no_answer_is_called_certain() -> None:
    assert verdict(surely(0.998))[1] == f"with a probability of 99.8{SPACE}%"
    for probability in (0.9991, 0.99996, 1.0):
        assert verdict(surely(probability))[1] == f"with a probability of more than 99.9{SPACE}%"


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ((4, 9), "a 4 or a 9"),
        ((8, 3, 5), "an 8, a 3 or a 5"),
        ((6,), "perhaps a 6, but not surely enough"),
        ((2, 7, 1, 3), "any of 4 digits, such as a 2 or a 7"),
    ],
)
@pytest.mark.parametrize(
    ("epistemic", "why"), [(0.9, "the networks disagree"), (0.1, "each network wavers by itself")]
)
def test_words_for_ambiguity_name_the_candidates_and_the_kind_of_doubt(
    candidates: tuple[int, ...], words: str, epistemic: float, why: str
) -> None:
    doubtful = replace(prediction("ambiguous", candidates=candidates), epistemic=np.array([epistemic]))
    assert verdict(doubtful) == ("I don't know", f"Ambiguous: {words}: {why}.")


def test_words_for_the_unfamiliar_and_the_blank() -> None:
    headline, why = verdict(prediction("unfamiliar"))
    assert headline == "I don't know"
    assert "unlike any digit it has seen" in why
    assert verdict(prediction("unfamiliar", blank=True))[0] == "Nothing drawn yet"


def test_the_verdict_says_by_its_class_what_it_is() -> None:
    assert 'class="verdict answered"' in verdict_html(prediction("answered"))
    assert 'class="verdict ambiguous"' in verdict_html(prediction("ambiguous"))
    assert 'class="verdict blank"' in verdict_html(prediction("unfamiliar", blank=True))


def test_the_verdict_escapes_what_it_shows() -> None:
    odd = replace(prediction("answered"), reasons=np.array(['"><b>']))
    assert "<b>" not in verdict_html(odd)


@pytest.mark.parametrize("rule", [EntropyRule(0.31234, 0.01), ConfidenceRule(0.31234, 0.01), MedianRule(0.2)])
def test_small_print_names_draws_rule_and_its_numbers(rule: AbstentionRule) -> None:
    line = small_print(rule, 64)
    assert "64 sampled networks" in line
    assert f"{rule.name} rule" in line
    assert ("0.312" in line and "0.01" in line) or "level 0.2" in line


def test_small_print_of_the_calibrated_rule_says_what_it_promises() -> None:
    line = small_print(CALIBRATED, 64).replace("\N{NO-BREAK SPACE}", " ")
    for part in (
        "64 sampled networks",
        "at most 0.2 % wrongly",
        "95 % confidence",
        "at most 0.5 % unfamiliar",
    ):
        assert part in line


# Gauges


@given(nats, nats, st.floats(0, 1), st.floats(0, 2.0**99, width=32), st.floats(1e-3, 1e3))
def test_every_gauge_is_filled_between_nothing_and_all(
    epistemic: float, aleatoric: float, confidence: float, unfamiliarity: float, threshold: float
) -> None:
    one = replace(
        surely(confidence),
        epistemic=np.array([epistemic], np.float32),
        aleatoric=np.array([aleatoric], np.float32),
        unfamiliarity=np.array([unfamiliarity], np.float32),
    )
    shown = gauges(one, replace(CALIBRATED, unfamiliar_threshold=threshold))
    assert [found.name for found in shown] == ["Confidence", "Disagreement", "Ambiguity", "Familiarity"]
    assert all(0 <= found.share <= 1 for found in shown)


def test_gauges_are_full_and_empty_where_their_numbers_end() -> None:
    none = np.zeros(1, np.float32)
    surest = replace(surely(1.0), epistemic=none, aleatoric=none, unfamiliarity=none)
    assert [found.share for found in gauges(surest, CALIBRATED)] == [1, 0, 0, 1]
    assert [found.value for found in gauges(surest, CALIBRATED)][:3] == ["100 %", "0.00 nats", "0.00 nats"]
    wildest = replace(surely(0.1), epistemic=np.array([MAX_ENTROPY]), aleatoric=np.array([MAX_ENTROPY]))
    assert [found.share for found in gauges(wildest, CALIBRATED)][:3] == [pytest.approx(0.1), 1, 1]


@given(nats, nats)
def test_more_doubt_fills_more(one: float, other: float) -> None:
    shares = [
        gauge("Disagreement", replace(prediction("answered"), epistemic=np.array([value]))).share
        for value in sorted((one, other))
    ]
    assert shares == sorted(shares)


def test_familiarity_is_half_where_the_rule_begins_to_refuse() -> None:
    at = [
        gauge("Familiarity", replace(prediction("answered"), unfamiliarity=np.array([value])))
        for value in (CALIBRATED.unfamiliar_threshold * np.array([0.2, 0.49, 0.51, 1, 1.001, 3]))
    ]
    assert [found.value for found in at] == [
        *["like digits it learnt"] * 2,
        *["unusual"] * 2,
        *["too strange"] * 2,
    ]
    assert at[3].share == 0.5
    assert [found.share for found in at] == sorted((found.share for found in at), reverse=True)


@pytest.mark.parametrize("rule", [EntropyRule(0.3, 0.01), MedianRule(0.2)])
def test_a_rule_that_tests_no_familiarity_shows_none(rule: AbstentionRule) -> None:
    assert "Familiarity" not in {found.name for found in gauges(prediction("answered"), rule)}


def test_gauges_are_meters_and_escape_what_they_show() -> None:
    hostile = '<b>"&'
    html = gauges_html([Gauge(hostile, 0.256, hostile, hostile), *gauges(prediction("answered"), CALIBRATED)])
    assert "<b>" not in html
    first, *others = (element for element in ET.fromstring(html).iter("span") if element.get("role"))
    assert len(others) == 4
    assert (first.get("role"), first.get("aria-label"), first.get("aria-valuetext")) == (
        "meter",
        hostile,
        hostile,
    )
    assert first.get("aria-valuenow") == "26"
    assert first[0].get("style") == "width:26%"


# Drawings


@given(ensembles)
def test_every_draw_stands_in_one_bar_of_each_row(probs: NDArray[np.float32]) -> None:
    for digit, row in enumerate(rows(ensemble_svg(probs))):
        bars = parts(row, "bar")
        counts = np.array([int(bar.get("data-count", "")) for bar in bars])
        heights = np.array([float(bar.get("height", "")) for bar in bars])
        assert counts.sum() == len(probs) == histogram(probs[:, digit]).sum()
        if len(probs):
            np.testing.assert_allclose(heights / heights.max(), counts / counts.max(), rtol=1e-3)


@given(ensembles, st.integers(-1, 9))
def test_ten_rows_with_one_label_each_and_at_most_one_answer(probs: NDArray[np.float32], answer: int) -> None:
    found = rows(ensemble_svg(probs, answer))
    assert [
        (row.get("aria-label") or "").startswith(f"Digit {digit}") for digit, row in enumerate(found)
    ] == [True] * 10
    assert [row.findtext(f"{SVG}title") for row in found] == [row.get("aria-label") for row in found]
    assert [i for i, row in enumerate(found) if "answer" in (row.get("class") or "").split()] == (
        [answer] if answer >= 0 else []
    )


@given(ensembles.filter(len))
def test_bars_and_median_stay_on_the_axis_and_the_median_is_named(probs: NDArray[np.float32]) -> None:
    for digit, row in enumerate(rows(ensemble_svg(probs))):
        (axis,), (median,), (value,) = parts(row, "axis"), parts(row, "median"), parts(row, "value end")
        left, width = float(axis.get("x", "")), float(axis.get("width", ""))
        place = float(median.get("d", "")[1:].split()[0])
        assert place == pytest.approx(left + width * np.median(probs[:, digit]), abs=0.06)
        assert value.text == f"{np.median(probs[:, digit]):.2f}"
        for bar in parts(row, "bar"):
            assert left - 0.01 <= float(bar.get("x", "")) <= left + width


@given(ensembles.filter(len))
def test_every_draw_is_marked_on_the_axis(probs: NDArray[np.float32]) -> None:
    for digit, row in enumerate(rows(ensemble_svg(probs))):
        (axis,), (marks,) = parts(row, "axis"), parts(row, "draws")
        left, width = float(axis.get("x", "")), float(axis.get("width", ""))
        places = np.array([float(mark.split()[0]) for mark in marks.get("d", "").split("M")[1:]])
        for probability in probs[:, digit]:
            assert np.abs(places - (left + width * probability)).min() < 0.2


def test_the_answer_is_marked_by_more_than_colour() -> None:
    row = rows(ensemble_svg(np.full((4, 10), 0.5, np.float32), 3))[3]
    assert "✓" in "".join(row.itertext())
    assert "the answer" in (row.get("aria-label") or "")


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])))
def test_drawings_escape_their_text(text: str) -> None:
    label = f"<script>\"&'{text}"
    for svg in (
        ensemble_svg(np.zeros((0, 10), np.float32), label=label),
        seen_svg(np.zeros((28, 28), np.float32), label),
    ):
        assert "<script" not in svg
        assert ET.fromstring(svg).get("aria-label") == label


@given(arrays(np.float32, (28, 28), elements=st.floats(0, 1, width=32)))
def test_what_was_seen_is_drawn_pixel_by_pixel(image: NDArray[np.float32]) -> None:
    levels = np.zeros((28, 28), int)
    for pixel in list(ET.fromstring(seen_svg(image)))[1:]:
        fill = pixel.get("fill", "").removeprefix("rgb(").split(",")[0]
        levels[int(pixel.get("y", "")), int(pixel.get("x", ""))] = int(fill)
    np.testing.assert_array_equal(levels, np.round(image * 255))
