"""The figures of trust: their numbers against the functions that define them, their drawings against both."""

import math
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from bnn.app.examples import FOOLING, STRANGE, examples
from bnn.app.figures import (
    ANSWERED,
    BY_ENTROPY,
    BY_RULE,
    CONFIDENCE_BINS,
    DIGITS,
    DRAWN,
    LEAST_DIGITS,
    NOISE,
    Bin,
    as_set,
    familiarity_figure,
    figures_html,
    joined,
    reliability_bins,
    reliability_figure,
    risk_curves,
    risk_figure,
    unfamiliarities,
)
from bnn.app.plots import HEIGHT, WIDTH, Axis, Plot
from bnn.classifier import Classifier
from bnn.numerals import percent
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.curves import confidence_bin, risk_coverage
from bnn.rules.thresholds import EntropyRule

SVG = "{http://www.w3.org/2000/svg}"
SPACE = "\N{NO-BREAK SPACE}"
NUMBER = r"-?\d+(?:\.\d+)?"


def drawing(figure: str) -> ET.Element:
    (svg,) = re.findall(r"<svg.*?</svg>", figure, re.DOTALL)
    return ET.fromstring(svg)


def parts(svg: ET.Element, name: str) -> list[ET.Element]:
    return [element for element in svg if element.get("class") == name]


def points(path: ET.Element) -> list[tuple[float, float]]:
    """The places of a line."""
    return [(float(x), float(y)) for x, y in re.findall(rf"({NUMBER}) ({NUMBER})", path.get("d", ""))]


def rows(figure: str) -> list[list[str]]:
    (body,) = re.findall("<tbody>(.*?)</tbody>", figure)
    return [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in re.findall("<tr>(.*?)</tr>", body)]


def words(svg: ET.Element) -> list[str]:
    return [text.text or "" for text in svg.iter(f"{SVG}text")]


# Numbers


def test_the_risk_coverage_curves_are_those_of_all_digits(classifier: Classifier) -> None:
    evidence, labels = classifier.calibration.evidence, classifier.calibration.labels
    errors = (evidence.mean.argmax(1) != labels).numpy()
    for name, score in ((BY_RULE, classifier.rule.score(evidence)), (BY_ENTROPY, evidence.total)):
        for found, expected in zip(
            risk_curves(classifier)[name], risk_coverage(errors, score.numpy()), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_the_rule_as_it_is_set_lies_on_its_curve(classifier: Classifier) -> None:
    coverage, risk = as_set(classifier)
    answered = round(coverage * len(classifier.calibration.labels))
    assert risk == pytest.approx(risk_curves(classifier)[BY_RULE][1][answered - 1])
    assert as_set(classifier.with_rule(EntropyRule(-1.0, 0.5))) == (0, 0)


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 60))
def test_neighbours_are_joined_until_they_are_enough(counts: list[int], least: int) -> None:
    groups = joined(counts, least)
    assert [index for group in groups for index in group] == list(range(len(counts)))
    sums = [sum(counts[index] for index in group) for group in groups]
    assert len(groups) <= 1 or min(sums) >= least


def test_reliability_bins_share_the_digits_out_and_have_enough_each(classifier: Classifier) -> None:
    evidence, labels = classifier.calibration.evidence, classifier.calibration.labels
    confidence = evidence.mean.max(1).values.double().numpy()
    right = (evidence.mean.argmax(1) == labels).numpy()
    bins = reliability_bins(classifier)
    assert sum(one.digits for one in bins) == len(labels)
    assert sum(one.right for one in bins) == right.sum()
    assert sum(one.given * one.digits for one in bins) == pytest.approx(confidence.sum())
    assert min(one.digits for one in bins) >= LEAST_DIGITS
    assert [one.given for one in bins] == sorted(one.given for one in bins)
    surest = confidence_bin(confidence, CONFIDENCE_BINS) == CONFIDENCE_BINS - 1
    assert (bins[-1].digits, bins[-1].right) == (surest.sum(), right[surest].sum())


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_bins_interval_is_the_exact_one(counts: tuple[int, int]) -> None:
    right, digits = counts
    low, high = Bin(0.5, right, digits).interval
    assert 0 <= low <= right / digits <= high <= 1
    assert binom.sf(right - 1, digits, low) == pytest.approx(0.025 if right else 1)
    assert binom.cdf(right, digits, high) == pytest.approx(0.025 if right < digits else 1)


def test_digits_look_more_familiar_than_noise_and_drawings(classifier: Classifier) -> None:
    sets = unfamiliarities(classifier)
    assert len(sets[DIGITS]) == len(classifier.calibration.labels)
    assert len(sets[DRAWN]) == sum(one.group in (STRANGE, FOOLING) for one in examples())
    assert np.median(sets[DIGITS]) < min(np.median(sets[NOISE]), np.median(sets[DRAWN]))


# Drawings


@given(st.floats(-1e3, 1e3), st.floats(0.01, 1e3), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_what_lies_within_the_axes_is_drawn_within_the_drawing_and_in_order(
    low: float, length: float, shares: list[float]
) -> None:
    values = [low + share * length for share in sorted(shares)]
    axis = Axis("<b>\"&'", low, low + length, ())
    plot = Plot(axis, axis, "label", [("first", "one"), ("second", "two")])
    plot.line(values, values, "curve")
    (curve,) = parts(ET.fromstring(plot.svg()), "curve")
    across, up = zip(*points(curve), strict=True)
    assert list(across) == sorted(across)
    assert list(up) == sorted(up, reverse=True)
    assert 0 <= min(across) <= max(across) <= WIDTH
    assert 0 <= min(up) <= max(up) <= HEIGHT


def test_a_histogram_has_a_step_for_each_height() -> None:
    plot = Plot(Axis("x", 0, 3, ()), Axis("y", 0, 10, ()), "label")
    plot.steps([0, 1, 2, 3], [10, 0, 5], "steps")
    (steps,) = parts(ET.fromstring(plot.svg()), "steps")
    across, up = zip(*points(steps), strict=True)
    (left, *_, right), (ground, top, *_, last) = across, up
    third = (right - left) / 3
    assert across == pytest.approx([left + third * edge for edge in (0, 0, 1, 1, 2, 2, 3, 3)], abs=0.1)
    middle = (ground + top) / 2
    assert up == pytest.approx([ground, top, top, ground, ground, middle, middle, ground], abs=0.1)
    assert last == ground


def test_the_risk_figure_shows_both_curves_and_where_the_rule_stands(classifier: Classifier) -> None:
    curves = risk_curves(classifier)
    figure = risk_figure(curves, as_set(classifier))
    svg = drawing(figure)
    for name in ("first", "second"):
        legend, curve = sorted(parts(svg, name), key=lambda path: len(path.get("d", "")))
        assert len(points(curve)) > 100
        assert len(points(legend)) == 1
    (dot,) = parts(svg, "dot")
    nearest = min(
        math.dist(place, (float(dot.get("cx", "")), float(dot.get("cy", ""))))
        for place in points(curve_of(svg))
    )
    assert nearest < 3
    assert {BY_RULE, BY_ENTROPY} <= set(words(svg))
    answered = percent(classifier.record["calibration"]["coverage"], ".1f")
    assert answered in (svg.get("aria-label") or "")
    told = rows(figure)
    assert [row[0] for row in told] == [f"{100 * share:g}{SPACE}%" for share in ANSWERED]
    assert told[0][1:] == [f"{100 * curves[name][1][-1]:.2f}{SPACE}%" for name in (BY_RULE, BY_ENTROPY)]


def curve_of(svg: ET.Element) -> ET.Element:
    return max(parts(svg, "first"), key=lambda path: len(path.get("d", "")))


def test_curves_without_an_error_and_a_rule_that_answers_little_can_be_shown() -> None:
    perfect = (np.linspace(0.01, 1, 100), np.zeros(100))
    svg = drawing(risk_figure({BY_RULE: perfect, BY_ENTROPY: perfect}, (0.5, 0.0)))
    assert parts(svg, "dot") == []
    assert len(parts(svg, "first")) == 2


BINS = [Bin(0.55, 14, 25), Bin(0.93, 38, 40), Bin(0.999, 4880, 4889)]


def test_the_reliability_figure_has_a_dot_an_interval_and_a_count_for_each_bin() -> None:
    figure = reliability_figure(BINS)
    svg = drawing(figure)
    assert len(parts(svg, "interval")) == len(parts(svg, "dot")) == len(BINS)
    assert [f"{one.digits:,}" for one in BINS] == [
        word for word in words(svg) if word in ("25", "40", "4,889")
    ]
    diagonal = max(parts(svg, "second"), key=lambda path: len(points(path)))
    (left, bottom), (right, top) = points(diagonal)
    low = 100 - 100 * (1 - min(one.interval[0] for one in BINS))
    start = 10 * math.floor(low / 10)
    for one, dot, bar in zip(BINS, parts(svg, "dot"), parts(svg, "interval"), strict=True):
        across = left + (100 * one.given - start) / (100 - start) * (right - left)
        assert float(dot.get("cx", "")) == pytest.approx(across, abs=0.1)
        ends = [bottom + (100 * end - start) / (100 - start) * (top - bottom) for end in one.interval]
        found = re.findall(rf"M{NUMBER} ({NUMBER}).*V({NUMBER})", bar.get("d", ""))
        assert [float(end) for end in found[0]] == pytest.approx(ends[::-1], abs=0.1)
        assert ends[1] <= float(dot.get("cy", "")) <= ends[0]
    assert [row[1] for row in rows(figure)] == ["25", "40", "4,889"]
    assert f"25 given 55{SPACE}%: 56.0{SPACE}%" in (svg.get("aria-label") or "")


def test_the_familiarity_figure_marks_every_drawing_and_where_refusing_starts() -> None:
    sets = {DIGITS: np.array([1.0, 2, 3, 40]), NOISE: np.array([50.0, 500]), DRAWN: np.array([20.0, 60, 1e9])}
    figure = familiarity_figure(sets, 30.0)
    svg = drawing(figure)
    assert len(parts(svg, "limit")) == 1
    assert "refused from here on" in words(svg)
    marks = max(parts(svg, "drawn"), key=lambda path: len(path.get("d", "")))
    assert marks.get("d", "").count("M") == 3
    for told in (
        f"25.0{SPACE}% of the digits",
        f"100.0{SPACE}% of the noise",
        f"66.7{SPACE}% of the {DRAWN}",
    ):
        assert told in (svg.get("aria-label") or "")
        assert told in figure
    assert [row[:2] for row in rows(figure)] == [[DIGITS, "4"], [NOISE, "2"], [DRAWN, "3"]]


def test_a_rule_without_familiarity_has_no_such_mark() -> None:
    sets = {DIGITS: np.array([1.0]), NOISE: np.array([50.0]), DRAWN: np.array([20.0])}
    figure = familiarity_figure(sets, None)
    assert parts(drawing(figure), "limit") == []
    assert "refuses nothing as unfamiliar" in figure


def test_all_three_are_made_for_any_rule_with_words_for_who_cannot_see_them(classifier: Classifier) -> None:
    assert isinstance(classifier.rule, CalibratedRule)
    for rule in (classifier.rule, EntropyRule(0.3, 0.05), replace(classifier.rule, unfamiliar_threshold=1e9)):
        html = figures_html(classifier.with_rule(rule))
        svgs = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]
        assert [svg.get("role") for svg in svgs] == ["img"] * 3
        assert all(len(svg.get("aria-label") or "") > 30 for svg in svgs)
        assert html.count("<figcaption>") == html.count("<details>") == html.count("<table>") == 3
        assert "nan" not in html
