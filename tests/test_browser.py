"""The page in a real browser: strokes on the pad, the answer, clearing, and nothing from elsewhere."""

import asyncio
import shutil
import socket
from collections.abc import Iterator

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed (extra `tests`)")

import gradio as gr
from playwright.sync_api import Page, Request, expect, sync_playwright

from bnn.decide import Classifier
from bnn.page import start
from bnn.page.page import PAD

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
SWITCHES = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
SLOW = 60_000  # ms; the pad is drawn in software here

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium is installed ({', '.join(NAMES)})"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # pandas', in Gradio's own queue
]

Strokes = list[list[tuple[float, float]]]  # places on the pad, from 0 to 1

DIGITS: dict[str, Strokes] = {
    "0": [
        [
            (0.5, 0.2),
            (0.36, 0.28),
            (0.3, 0.5),
            (0.36, 0.72),
            (0.5, 0.8),
            (0.64, 0.72),
            (0.7, 0.5),
            (0.64, 0.28),
            (0.5, 0.2),
        ]
    ],
    "1": [[(0.5, 0.2), (0.5, 0.8)]],
    "7": [[(0.28, 0.2), (0.72, 0.2), (0.48, 0.8)]],
}
GRID: Strokes = [
    [(0.1, 0.35), (0.9, 0.35)],
    [(0.1, 0.65), (0.9, 0.65)],
    [(0.35, 0.1), (0.35, 0.9)],
    [(0.65, 0.1), (0.65, 0.9)],
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    classifier = Classifier.load()

    async def serve() -> gr.Blocks:  # where no loop runs, Gradio opens some and never closes them
        return start(classifier, port=free_port())

    page = asyncio.run(serve())
    assert page.local_url is not None
    yield page.local_url
    page.close(verbose=False)


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """The page, loaded; at the end it must have logged no error and asked no other host."""
    wrong: list[str] = []

    def check(request: Request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            wrong.append(f"request to {request.url}")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        tab = browser.new_page(viewport={"width": 800, "height": 700})
        tab.set_default_timeout(SLOW)
        tab.on("request", check)
        tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(address)
        expect(tab.locator("#pad .pixi-target.visible")).to_be_attached(timeout=SLOW)
        yield tab
        browser.close()
    assert wrong == []


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def draw(page: Page, strokes: Strokes) -> None:
    box = page.locator("#pad canvas").last.bounding_box()
    assert box is not None
    zoom = float(page.locator("#pad .zoom-number").inner_text().strip().rstrip("%")) / 100
    left = box["x"] + (box["width"] - PAD * zoom) / 2
    top = box["y"] + (box["height"] - PAD * zoom) / 2
    for stroke in strokes:
        places = [(left + x * PAD * zoom, top + y * PAD * zoom) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()


def expect_headline(page: Page, text: str) -> None:
    expect(page.locator("#verdict .headline")).to_have_text(text, timeout=SLOW)


def clear(page: Page) -> None:
    page.get_by_role("button", name="Clear", exact=True).click()
    expect_headline(page, "Nothing drawn yet")


def test_digits_are_answered_one_after_another_and_clearing_forgets_them(page: Page) -> None:
    expect_headline(page, "Nothing drawn yet")
    for digit, strokes in DIGITS.items():
        draw(page, strokes)
        expect_headline(page, digit)
        expect(page.locator("svg.ensemble .row.answer .digit")).to_have_text(digit)
        assert page.locator("svg.seen rect").count() > 20
        clear(page)
        expect(page.locator("svg.ensemble .bar")).to_have_count(0)


def test_a_scribble_is_refused(page: Page) -> None:
    draw(page, GRID)
    expect_headline(page, "I don't know")
    assert page.locator("svg.ensemble .row.answer").count() == 0


def test_strokes_cleared_before_they_are_judged_are_not_judged_afterwards(page: Page) -> None:
    for _ in range(3):  # whether they would be is a matter of timing
        draw(page, DIGITS["1"])
        draw(page, [[(0.2, 0.5), (0.8, 0.5)]])
        page.get_by_role("button", name="Clear", exact=True).click()
        page.wait_for_timeout(4000)  # time enough for a late answer to arrive
        expect_headline(page, "Nothing drawn yet")
    draw(page, DIGITS["7"])
    expect_headline(page, "7")


def test_the_page_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
