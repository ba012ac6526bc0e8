"""What the page says and draws of a decision: words, gauges and SVG, all pure functions."""

import math
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from bnn.app.drawings import ensemble_svg, seen_svg, vote_counts
from bnn.app.gauges import Gauge, Limit, gauges, gauges_html
from bnn.app.words import reading_html, verdict, verdict_html, voices
from bnn.prediction import Prediction
from bnn.reading import Mark, Reading
from bnn.rules.abstention import AbstentionRule
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.thresholds import ConfidenceRule, EntropyRule, MedianRule

SVG = "{http://www.w3.org/2000/svg}"
CALIBRATED = CalibratedRule(30.0, 0.1, risk=0.002, delta=0.05, alpha=0.005)
SPACE = "\N{NO-BREAK SPACE}"

NAMES = tuple("0123456789")
MAX_ENTROPY = math.log(10)  # nats

ensembles = st.integers(0, 30).flatmap(
    lambda draws: arrays(np.float32, (draws, 10), elements=st.floats(0, 1, width=32))
)
nats = st.floats(0, MAX_ENTROPY)


def rows(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter(f"{SVG}g"))


def parts(row: ET.Element, name: str) -> list[ET.Element]:
    return [element for element in row if element.get("class") == name]


def prediction(reason: str, *, candidates: tuple[int, ...] = (4, 9), quality: str = "") -> Prediction:
    zero = np.zeros(1, np.float32)
    return Prediction(
        labels=np.array([4 if reason == "answered" else -1]),
        reasons=np.array([reason]),
        probs=np.full((1, 10), 0.875, np.float32),
        total=zero + 0.75,
        aleatoric=zero + 0.5,
        epistemic=zero + 0.25,
        ood_score=zero + 12,
        refusal_score=zero,
        candidates=[candidates],
        quality=np.array([quality]),
        names=NAMES,
    )


def surely(probability: float) -> Prediction:
    return replace(prediction("answered"), probs=np.full((1, 10), probability, np.float32))


def doubtful(
    epistemic: float, aleatoric: float, unfamiliarity: float = 12, confidence: float = 0.875
) -> Prediction:
    """Its total uncertainty is the sum of both kinds."""
    return replace(
        surely(confidence),
        total=np.array([epistemic + aleatoric]),
        epistemic=np.array([epistemic]),
        aleatoric=np.array([aleatoric]),
        ood_score=np.array([unfamiliarity]),
    )


def filled(gauge: Gauge) -> float:
    return sum(gauge.parts.values())


def columns(row: ET.Element, name: str) -> list[tuple[float, float]]:
    """Places and heights of a row's votes or doubts."""
    (path,) = parts(row, name) or (ET.Element("path"),)
    found = re.findall(r"M([0-9.]+) [0-9.]+v-([0-9.]+)", path.get("d", ""))
    return [(float(place), float(height)) for place, height in found]


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


def test_what_is_unfamiliar_is_unlike_what_was_learnt() -> None:
    assert verdict(prediction("unfamiliar"))[1] == "Unfamiliar: this is unlike any digit it has seen."
    letters = replace(prediction("unfamiliar"), names=tuple("abcdefghij"))
    assert verdict(letters)[1] == "Unfamiliar: this is unlike any image it has seen."
    assert verdict(letters, "nothing like a digit")[1] == "Unfamiliar: nothing like a digit."


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ((4, 9), "a 4 or a 9"),
        ((8, 3, 5), "an 8, a 3 or a 5"),
        ((6,), "perhaps a 6, but not surely enough"),
        ((2, 7, 1, 3), "any of 4, such as a 2 or a 7"),
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
    assert verdict(prediction("unfamiliar", quality="blank"))[0] == "Nothing drawn yet"


def test_a_word_that_asks_is_a_question_of_its_own() -> None:
    asks = prediction("unfamiliar", quality="mirrored or turned?")
    assert verdict(asks, "upside down it is a 6")[1] == "Mirrored or turned? Upside down it is a 6."
    tells = verdict(prediction("unfamiliar", quality="too small"))[1]
    assert tells == "Too small: it is a dot, or too small to read."


def test_the_verdict_says_by_its_class_what_it_is() -> None:
    assert 'class="verdict answered"' in verdict_html(prediction("answered"))
    assert 'class="verdict ambiguous"' in verdict_html(prediction("ambiguous"))
    assert 'class="verdict blank"' in verdict_html(prediction("unfamiliar", quality="blank"))


@pytest.mark.parametrize(
    ("votes", "words"),
    [
        ({0: 50}, "50 of 50 networks say 0"),
        ({4: 31, 9: 19}, "31 of 50 networks say 4, 19 say 9"),
        ({9: 49, 2: 1}, "49 of 50 networks say 9, 1 says 2"),
        ({1: 5, 2: 5}, "5 of 10 networks say 1, 5 say 2"),
        (
            {0: 1, 3: 6, 5: 9, 7: 5, 8: 4},
            "9 of 25 networks say 5, 6 say 3, 5 say 7, 5 something else",
        ),
    ],
)
def test_the_votes_are_told_most_first(votes: dict[int, int], words: str) -> None:
    counts = [votes.get(digit, 0) for digit in range(10)]
    assert voices(counts).replace(SPACE, " ") == words
    assert f'<p class="voices">{voices(counts)}</p>' in verdict_html(prediction("ambiguous"), counts)


@given(st.lists(st.integers(0, 100), min_size=10, max_size=10).filter(any))
def test_no_vote_is_lost_in_words(votes: list[int]) -> None:
    total, *counts = (
        int(number) for number in re.findall(r"(?<!say )(?<!says )\b\d+", voices(votes).replace(SPACE, " "))
    )
    assert counts.pop(0) == sum(votes)
    assert total + sum(counts) == sum(votes)


def test_where_nobody_votes_no_votes_are_told() -> None:
    assert "voices" not in verdict_html(prediction("unfamiliar", quality="blank"))


def test_what_is_read_of_other_classes_is_not_called_digits() -> None:
    mark = Mark((0, 0, 9, 9), "alpha", "answered", 0.99, ("alpha",))
    read = Reading(((mark, replace(mark, answer=None, reason="ambiguous")),), "")
    assert "2 digits: alpha ?" in reading_html(read)
    of_letters = reading_html(read, ("alpha", "beta"))
    assert "2 images: alpha ?" in of_letters
    assert "Of 2 images 1 cannot be told" in of_letters
    assert "digit" not in of_letters


def test_the_verdict_escapes_what_it_shows() -> None:
    odd = replace(prediction("answered"), reasons=np.array(['"><b>']))
    assert "<b>" not in verdict_html(odd)


# Gauges


@given(nats, nats, st.floats(0, 1), st.floats(0, 2.0**99, width=32), st.floats(1e-3, 1e3))
def test_every_gauge_is_filled_between_nothing_and_all(
    epistemic: float, aleatoric: float, confidence: float, unfamiliarity: float, threshold: float
) -> None:
    shown = gauges(
        doubtful(epistemic, aleatoric, unfamiliarity, confidence),
        replace(CALIBRATED, unfamiliar_threshold=threshold),
    )
    assert [found.name for found in shown] == ["Confidence", "Uncertainty", "Unfamiliarity"]
    for found in shown:
        assert all(share >= 0 for share in found.parts.values())
        assert filled(found) <= 1 + 1e-9


def test_gauges_are_full_and_empty_where_their_numbers_end() -> None:
    surest, wildest = doubtful(0, 0, 0, 1.0), doubtful(MAX_ENTROPY / 2, MAX_ENTROPY / 2, 1e30, 0.1)
    assert [filled(found) for found in gauges(surest, CALIBRATED)] == [1, 0, 0]
    assert [found.value for found in gauges(surest, CALIBRATED)][:2] == [f"100{SPACE}%", "0.00 nats"]
    assert [filled(found) for found in gauges(wildest, CALIBRATED)] == pytest.approx([0.1, 1, 1])


@given(nats, nats)
def test_more_doubt_fills_more(one: float, other: float) -> None:
    shares = [filled(gauge("Uncertainty", doubtful(value, 0))) for value in sorted((one, other))]
    assert shares == sorted(shares)


def test_the_parts_of_the_uncertainty_are_as_the_nats() -> None:
    parts = gauge("Uncertainty", doubtful(0.3, 0.1)).parts
    assert list(parts) == ["dissent 0.30", "doubt 0.10"]
    dissent, doubt = parts.values()
    assert dissent == pytest.approx(3 * doubt)


@given(
    nats,
    nats,
    st.floats(0, 200),
    st.floats(0.5, 200),
)
def test_a_bar_reaches_its_mark_where_the_rule_refuses(
    total: float, highest: float, unfamiliarity: float, strangest: float
) -> None:
    rule = replace(CALIBRATED, ambiguous_threshold=highest, unfamiliar_threshold=strangest)
    one = doubtful(0, total, unfamiliarity)
    _, uncertainty, strangeness = gauges(one, rule)
    for shown, is_above in ((uncertainty, total > highest), (strangeness, unfamiliarity > strangest)):
        assert shown.limit is not None
        start, end = shown.limit.refused
        assert end == 1
        assert is_above <= (filled(shown) >= start - 1e-6)
        assert (not is_above) <= (filled(shown) <= start + 1e-6)


@given(st.floats(0.1, 1), st.floats(-0.5, 1.5))
def test_confidence_has_a_mark_where_a_rule_looks_at_it(confidence: float, threshold: float) -> None:
    shown = gauge("Confidence", doubtful(0, 0, confidence=confidence), ConfidenceRule(threshold, 0.05))
    assert shown.limit is not None
    start, end = shown.limit.refused
    assert start == 0
    assert end == pytest.approx(min(1, max(0, 1 - threshold)))
    assert gauge("Confidence", surely(confidence)).limit is None


def test_marks_are_told_in_numbers() -> None:
    found = gauges(prediction("answered"), CALIBRATED)
    assert [one.limit.words for one in found if one.limit] == ["refused above 0.10", "refused above 30.0"]
    entropy = gauge("Uncertainty", prediction("answered"), EntropyRule(0.345, 0.01))
    assert entropy.limit is not None
    assert entropy.limit.words == f"refused above {0.345:.2f}"
    confidence = gauge("Confidence", prediction("answered"), ConfidenceRule(0.25, 0.01))
    assert confidence.limit is not None
    assert confidence.limit.words == f"refused below 75{SPACE}%"


def test_unfamiliarity_has_words_up_to_where_the_rule_begins_to_refuse() -> None:
    at = CALIBRATED.unfamiliar_threshold * np.array([0.2, 0.49, 0.51, 1, 1.001, 3])
    found = [gauge("Unfamiliarity", doubtful(0, 0, value)) for value in at]
    assert [one.value for one in found] == [
        *["like digits it learnt"] * 2,
        *["unusual"] * 2,
        *["too strange"] * 2,
    ]
    assert [filled(one) for one in found] == sorted(filled(one) for one in found)


@pytest.mark.parametrize("rule", [EntropyRule(0.3, 0.01), MedianRule(0.2)])
def test_a_rule_that_tests_no_familiarity_shows_none(rule: AbstentionRule) -> None:
    assert "Unfamiliarity" not in {found.name for found in gauges(prediction("answered"), rule)}


def test_a_rule_that_looks_at_no_gauge_has_no_mark() -> None:
    assert [found.limit for found in gauges(prediction("answered"), MedianRule(0.2))] == [None, None]


def test_gauges_are_meters_and_escape_what_they_show() -> None:
    hostile = '<b>"&'
    odd = Gauge(hostile, hostile, {hostile: 0.256}, Limit(hostile, (0.5, 1.0)))
    html = gauges_html([odd, *gauges(prediction("answered"), CALIBRATED)])
    assert "<b>" not in html
    first, *others = (element for element in ET.fromstring(html).iter("span") if element.get("role"))
    assert len(others) == 3
    assert (first.get("role"), first.get("aria-label"), first.get("aria-valuenow")) == (
        "meter",
        hostile,
        "26",
    )
    assert first.get("aria-valuetext") == f"{hostile}; {hostile}; {hostile}"
    assert [(part.get("class"), part.get("style")) for part in first] == [
        ("part", "width:25.6%"),
        ("refused onwards", "left:50.0%;width:50.0%"),
    ]


# Drawings


@given(ensembles)
def test_each_draw_votes_once_and_is_a_column_of_its_own(probs: NDArray[np.float32]) -> None:
    found = rows(ensemble_svg(probs, NAMES))
    votes = [int(path.get("data-count", "")) for row in found for path in parts(row, "votes")]
    assert votes == (vote_counts(probs).tolist() if len(probs) else [])
    assert sum(votes) == len(probs)
    for row in found:
        places = [x for name in ("votes", "doubts") for x, _ in columns(row, name)]
        assert len(set(places)) == len(places) <= len(probs)


@given(ensembles.filter(len))
def test_columns_are_as_tall_as_probabilities_on_one_scale(probs: NDArray[np.float32]) -> None:
    height = float(parts(rows(ensemble_svg(probs, NAMES))[0], "paper")[0].get("height", ""))
    for digit, row in enumerate(rows(ensemble_svg(probs, NAMES))):
        tall = sorted(height for name in ("votes", "doubts") for _, height in columns(row, name))
        drawn = np.sort(probs[:, digit])[len(probs) - len(tall) :]
        assert np.array(tall) / height == pytest.approx(drawn, abs=0.1 / height)
        rest = np.sort(probs[:, digit])[: len(probs) - len(tall)]
        assert (rest * height < 0.05).all()


@given(ensembles.filter(len))
def test_a_draw_stands_at_one_place_in_all_rows_and_votes_are_sorted(probs: NDArray[np.float32]) -> None:
    found = rows(ensemble_svg(probs, NAMES))
    placed = [dict(columns(row, "votes")) for row in found]
    places = [place for row in placed for place in row]
    assert len(set(places)) == len(places)  # no draw votes twice
    by_votes = sorted((digit for digit in range(10) if placed[digit]), key=lambda digit: -len(placed[digit]))
    counts = vote_counts(probs)
    if min(probs.max(1)) > 0.1 and len(set(counts[counts > 0])) == (counts > 0).sum():
        assert [place for digit in by_votes for place in placed[digit]] == sorted(places)
    for row in placed:
        assert list(row.values()) == sorted(row.values(), reverse=True)


@given(ensembles, st.integers(-1, 9))
def test_ten_rows_with_one_label_each_and_at_most_one_answer(probs: NDArray[np.float32], answer: int) -> None:
    found = rows(ensemble_svg(probs, NAMES, answer))
    assert [(row.get("aria-label") or "").startswith(NAMES[digit]) for digit, row in enumerate(found)] == [
        True
    ] * 10
    assert [row.findtext(f"{SVG}title") for row in found] == [row.get("aria-label") for row in found]
    assert [i for i, row in enumerate(found) if "answer" in (row.get("class") or "").split()] == (
        [answer] if answer >= 0 else []
    )


@given(ensembles.filter(len))
def test_columns_stay_on_their_row_and_votes_are_written_beside_it(probs: NDArray[np.float32]) -> None:
    for digit, row in enumerate(rows(ensemble_svg(probs, NAMES))):
        (paper,) = parts(row, "paper")
        left, width = float(paper.get("x", "")), float(paper.get("width", ""))
        texts = [text.text for text in row.iter(f"{SVG}text")]
        assert texts == [str(digit), str(vote_counts(probs)[digit])]
        for name in ("votes", "doubts"):
            half = float(parts(row, name)[0].get("stroke-width", "")) / 2
            for place, _ in columns(row, name):
                assert left - 0.06 <= place - half
                assert place + half <= left + width + 0.06


def test_the_answer_is_marked_by_more_than_colour() -> None:
    row = rows(ensemble_svg(np.full((4, 10), 0.5, np.float32), NAMES, 3))[3]
    assert "✓" in "".join(row.itertext())
    assert "the answer" in (row.get("aria-label") or "")


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])))
def test_drawings_escape_their_text(text: str) -> None:
    label = f"<script>\"&'{text}"
    for svg in (
        ensemble_svg(np.zeros((0, 10), np.float32), NAMES, label=label),
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
