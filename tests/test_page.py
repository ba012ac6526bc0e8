"""The page without a browser: drawings, words, the answer to a drawing, and the server's start and end."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree as ET

import gradio as gr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bnn.decide import CalibratedRule, Classifier, ConfidenceRule, EntropyRule, MedianRule, Prediction
from bnn.errors import InputError
from bnn.page import build_page, start
from bnn.page.drawings import ensemble_svg, histogram, seen_svg
from bnn.page.page import PAD, look
from bnn.page.words import figures_html, small_print, verdict, verdict_html

SVG = "{http://www.w3.org/2000/svg}"
SEVEN = [(110, 80), (290, 80), (190, 320)]

ensembles = st.integers(0, 30).flatmap(
    lambda draws: arrays(np.float32, (draws, 10), elements=st.floats(0, 1, width=32))
)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load(draws=8)


@pytest.fixture(scope="module")
def answering(classifier: Classifier) -> Classifier:
    return classifier.with_rule(EntropyRule(threshold=10.0, refuse=0.5))


@pytest.fixture(scope="module")
def refusing(classifier: Classifier) -> Classifier:
    return classifier.with_rule(EntropyRule(threshold=-1.0, refuse=0.5))


def drawn(points: list[tuple[int, int]]) -> Image.Image:
    image = Image.new("L", (PAD, PAD), 255)
    ImageDraw.Draw(image).line(points, fill=0, width=36, joint="curve")
    return image


def rows(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter(f"{SVG}g"))


def parts(row: ET.Element, name: str) -> list[ET.Element]:
    return [element for element in row if element.get("class") == name]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


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


def test_words_for_an_answer() -> None:
    assert verdict(prediction("answered")) == ("4", "with a probability of 87.5 %")


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ((4, 9), "it could be a 4 or a 9."),
        ((8, 3, 5), "it could be an 8, a 3 or a 5."),
        ((6,), "it may be a 6, but that is not sure enough."),
        ((2, 7, 1, 3), "it could be any of 4 digits, such as a 2 or a 7."),
    ],
)
def test_words_for_ambiguity_name_the_candidates(candidates: tuple[int, ...], words: str) -> None:
    assert verdict(prediction("ambiguous", candidates=candidates)) == ("I don't know", f"Ambiguous: {words}")


def test_words_for_the_unfamiliar_and_the_blank() -> None:
    headline, why = verdict(prediction("unfamiliar"))
    assert headline == "I don't know"
    assert "unlike the digits it has learnt" in why
    assert verdict(prediction("unfamiliar", blank=True))[0] == "Nothing drawn yet"


def test_figures_are_in_nats_and_left_out_where_nothing_is_drawn() -> None:
    figures = figures_html(prediction("answered"))
    assert [figures.index(f"{value} nats") for value in ("0.75", "0.50", "0.25")] == sorted(
        figures.index(f"{value} nats") for value in ("0.75", "0.50", "0.25")
    )
    assert "nats" not in figures_html(prediction("unfamiliar", blank=True))


def test_the_verdict_escapes_what_it_shows() -> None:
    odd = replace(prediction("answered"), reasons=np.array(['"><b>']))
    assert "<b>" not in verdict_html(odd)


@pytest.mark.parametrize("rule", [EntropyRule(0.31234, 0.01), ConfidenceRule(0.31234, 0.01), MedianRule(0.2)])
def test_small_print_names_draws_rule_and_its_numbers(
    rule: EntropyRule | ConfidenceRule | MedianRule,
) -> None:
    line = small_print(rule, 64)
    assert "64 sampled networks" in line
    assert rule.name in line
    assert ("0.312" in line and "0.01" in line) or "level 0.2" in line


def test_small_print_of_the_calibrated_rule_says_what_it_promises() -> None:
    line = small_print(CalibratedRule(30.0, 0.1, risk=0.002, delta=0.05, alpha=0.005), 64)
    for part in (
        "64 sampled networks",
        "at most 0.2 % wrongly",
        "95 % confidence",
        "at most 0.5 % unfamiliar",
    ):
        assert part in line


def test_a_drawn_digit_is_answered(answering: Classifier) -> None:
    panels = look(answering, drawn(SEVEN))
    assert '<p class="headline">7</p>' in panels.verdict
    assert [i for i, row in enumerate(rows(panels.spread)) if row.get("class") == "row answer"] == [7]
    counts = [int(bar.get("data-count", "")) for bar in parts(rows(panels.spread)[0], "bar")]
    assert sum(counts) == 8


def test_a_refused_drawing_still_shows_its_spread(refusing: Classifier) -> None:
    panels = look(refusing, drawn(SEVEN))
    assert "I don't know" in panels.verdict.replace("&#x27;", "'")
    assert all(parts(row, "bar") for row in rows(panels.spread))
    assert not any(row.get("class") == "row answer" for row in rows(panels.spread))


@pytest.mark.parametrize("composite", [None, Image.new("L", (PAD, PAD), 255)], ids=["none", "blank"])
def test_nothing_drawn(answering: Classifier, composite: Image.Image | None) -> None:
    panels = look(answering, composite)
    assert "Nothing drawn yet" in panels.verdict
    assert not any(parts(row, "bar") for row in rows(panels.spread))


def test_ink_along_the_whole_edge_is_ink(answering: Classifier) -> None:
    image = Image.new("L", (PAD, PAD), 0)
    ImageDraw.Draw(image).rectangle((150, 150, 250, 250), fill=255)
    seen = look(answering, image).evidence
    assert seen.count("rgb(255,255,255)") > 250  # of the 400 pixels that the ink is fitted into


def test_only_what_the_page_needs_can_be_called(classifier: Classifier) -> None:
    async def build() -> gr.Blocks:  # where no loop runs, Gradio opens some and never closes them
        return build_page(classifier)

    page = asyncio.run(build())
    assert {function.api_visibility for function in page.fns.values()} == {"private"}
    assert not page.analytics_enabled
    assert not page.api_open


def test_clearing_gives_the_empty_pad_as_a_file_that_is_not_written_again(classifier: Classifier) -> None:
    async def build() -> gr.Blocks:
        return build_page(classifier)

    page = asyncio.run(build())
    (reset,) = (function.fn for function in page.fns.values() if function.name == "reset")
    assert reset is not None
    empty, verdict_again, _, _ = reset()
    with Image.open(empty["background"]) as ground:
        assert (ground.size, ground.convert("L").getextrema()) == ((PAD, PAD), (255, 255))
    assert "Nothing drawn yet" in verdict_again


def test_a_port_in_use_or_out_of_range_is_one_sentence(classifier: Classifier) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot be served at 127\.0\.0\.1, port {port}: .*in use"):
            start(classifier, port=port)
    for port in (0, -1, 70000):
        with pytest.raises(InputError, match=f"{port} is no port"):
            start(classifier, port=port)


def test_it_starts_where_a_proxy_is_set_and_keeps_what_else_goes_past_it(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("no_proxy", "example.org")
    port = free_port()

    async def serve() -> gr.Blocks:
        return start(classifier, port=port)

    page = asyncio.run(serve())
    page.close(verbose=False)
    assert page.local_url == f"http://127.0.0.1:{port}/"
    assert os.environ["no_proxy"].split(",") == ["example.org", "127.0.0.1", "localhost"]


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
def test_launch_prints_its_address_in_one_line_and_ctrl_c_ends_it_cleanly() -> None:
    port = free_port()
    code = (
        "from bnn.decide import Classifier; from bnn.page import launch; "
        f"launch(Classifier.load(draws=2), port={port})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert f"http://127.0.0.1:{port}/" in first
    assert (process.returncode, err) == (0, "")
    assert out.strip() == "Ended."
