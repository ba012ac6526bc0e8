"""The page in a real browser, with a mouse on a large screen and with a finger on a phone."""

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed (extra `tests`)")

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from browser import (
    CHROMIUM,
    NAMES,
    SCREENS,
    SLOW,
    Finger,
    Hand,
    Stylus,
    archive,
    chromium,
    draw,
    free_port,
    headline,
    open_tab,
    png,
    upload,
)
from PIL import Image, ImageChops, ImageOps
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, expect

from bnn.decide import Classifier
from bnn.page import Address, served
from bnn.page.examples import DIGITS, Example, Strokes, examples
from bnn.page.strictness import offered

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium is installed ({', '.join(NAMES)})")

EXAMPLES = {example.name: example for example in examples()}
GRID: Strokes = [
    [(0.1, 0.35), (0.9, 0.35)],
    [(0.1, 0.65), (0.9, 0.65)],
    [(0.35, 0.1), (0.35, 0.9)],
    [(0.65, 0.1), (0.65, 0.9)],
]
UNDERLINE: Strokes = [[(0.1, 0.94), (0.9, 0.94)]]
REFUSED = "I don't know"
NOTHING = "Nothing drawn yet"
HEART = "a heart, taken for a 0"
MOST_STOPS = 100  # of the tabulator key on a page


@dataclass(frozen=True)
class Visitor:
    """Who looks at a page, and what they draw with."""

    page: Page
    hand: Hand

    @property
    def has_touch(self) -> bool:
        return isinstance(self.hand, Finger)

    def draw(self, strokes: Strokes) -> None:
        draw(self.page, self.hand, strokes)

    def click(self, visible: Locator) -> None:
        """With a finger on a phone, with the mouse elsewhere."""
        if self.has_touch:
            visible.tap()
        else:
            visible.click()

    def tab_to(self, selector: str) -> None:
        """Goes on with the tabulator key alone to the next element that `selector` describes."""
        for _ in range(MOST_STOPS):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        pytest.fail(f"the keyboard does not reach {selector}")

    def shade(self, x: float, y: float) -> int:
        """How bright the pad looks at a place, from 0 to 255."""
        image = Image.open(io.BytesIO(self.page.locator("#pad .paper").screenshot())).convert("L")
        shade = image.getpixel((round(x * (image.width - 1)), round(y * (image.height - 1))))
        assert isinstance(shade, int)
        return shade

    def choose(self, name: str) -> None:
        self.page.get_by_title(name, exact=True).click()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def clear(self) -> None:
        self.press("Clear")
        self.reads(NOTHING)

    def reads(self, text: str) -> None:
        expect(headline(self.page)).to_have_text(text, timeout=SLOW)

    def table(self, rows: int) -> list[list[str]]:
        """The cells of the table, once it has that many rows."""
        shown = self.page.locator("#table .virtual-row")
        expect(shown).to_have_count(rows, timeout=SLOW)
        cells = "row => [...row.querySelectorAll('[role=gridcell]')].map(cell => cell.innerText.trim())"
        return shown.evaluate_all(f"rows => rows.map({cells})")

    def download(self, name: str) -> str:
        with self.page.expect_download() as download:
            self.page.get_by_role("link", name=f"Download {name}").click()
        assert download.value.suggested_filename == name
        return Path(download.value.path()).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shipped() -> Classifier:
    return Classifier.load()


@pytest.fixture(scope="module")
def address(shipped: Classifier) -> Iterator[str]:
    where = Address(port=free_port())
    with served(shipped, where):
        yield where.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module", params=SCREENS)
def context(request: pytest.FixtureRequest, browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(**SCREENS[request.param]) as context:
        context.set_default_timeout(SLOW)
        yield context


@pytest.fixture
def visitor(context: BrowserContext, address: str) -> Iterator[Visitor]:
    """On the page just opened; at the end nothing must have gone wrong, and no other host been asked."""
    wrong: list[str] = []

    def check(request: Request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            wrong.append(f"request to {request.url}")

    with context.new_page() as page:
        page.on("request", check)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.goto(address)
        has_touch = page.evaluate("navigator.maxTouchPoints > 0")
        visitor = Visitor(page, Finger(page) if has_touch else page.mouse)
        visitor.reads(NOTHING)
        yield visitor
    assert wrong == []


def test_ten_digits_drawn_and_cleared_one_after_another(visitor: Visitor) -> None:
    for digit, strokes in DIGITS.items():
        visitor.draw(strokes)
        visitor.reads(digit)
        expect(visitor.page.locator("svg.ensemble .row.answer .digit")).to_have_text(digit)
        expect(visitor.page.locator("svg.seen rect").nth(20)).to_be_attached()
        expect(visitor.page.locator("#verdict .voices")).to_contain_text(f"of 50 networks say {digit}")
        visitor.clear()
        expect(visitor.page.locator("svg.ensemble .votes")).to_have_count(0)


def test_what_the_page_is_and_where_it_fails_can_be_read(visitor: Visitor) -> None:
    expect(visitor.page.get_by_text("Many sampled neural networks vote on what you draw.")).to_be_visible()
    expect(visitor.page.get_by_text("How the networks vote")).to_be_visible()
    told = "about half of the letters and doodles drawn on the pad, and often refuses a 1 with a flag"
    expect(visitor.page.locator("#examples header")).to_contain_text(told)
    visitor.choose("0")
    visitor.reads("0")
    expect(visitor.page.get_by_text("50 of 50 networks say 0")).to_be_visible()
    expect(visitor.page.get_by_text("How the 50 networks vote")).to_be_visible()


@pytest.mark.parametrize("kind", ["own hand", "pen"])
def test_a_click_is_a_dot_at_once_and_undo_takes_it_back(visitor: Visitor, kind: str) -> None:
    hand = Stylus(visitor.page) if kind == "pen" else visitor.hand
    place = 0.3, 0.2
    press(visitor, hand, *place)
    assert visitor.shade(*place) < 50
    assert visitor.shade(0.7, 0.2) > 250
    hand.up()
    expect(headline(visitor.page)).not_to_have_text(NOTHING, timeout=SLOW)
    assert visitor.shade(*place) < 50
    expect(visitor.page.locator("svg.seen rect").nth(20)).to_be_attached()
    visitor.press("Undo")
    visitor.reads(NOTHING)
    assert visitor.shade(*place) > 250


@pytest.mark.parametrize("kind", ["own hand", "pen"])
@pytest.mark.parametrize("angle", [0, 70])
def test_a_click_of_the_eraser_is_a_hole_wherever_the_pad_is_turned(
    visitor: Visitor, kind: str, angle: int
) -> None:
    hand = Stylus(visitor.page) if kind == "pen" else visitor.hand
    visitor.draw(DIGITS["7"])
    visitor.reads("7")
    visitor.page.get_by_label("Turn it").fill(str(angle))
    places = (0.2, 0.5), (0.5, 0.92)  # beside the 7, turned or not
    for place in places:
        press(visitor, hand, *place)
        assert visitor.shade(*place) < 50
        hand.up()
        assert visitor.shade(*place) < 50
    visitor.press("Eraser")
    for place in places:
        press(visitor, hand, *place)
        assert visitor.shade(*place) > 250
        hand.up()
        assert visitor.shade(*place) > 250
    for place in reversed(places):
        visitor.press("Undo")
        assert visitor.shade(*place) < 50


def press(visitor: Visitor, hand: Hand, x: float, y: float) -> None:
    """Puts the hand down on a place of the pad, and leaves it there."""
    pad = visitor.page.locator("#pad canvas")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    assert box is not None
    hand.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    hand.down()


def test_an_empty_pad_says_what_it_is_for_and_a_drawing_does_not_hold_it(visitor: Visitor) -> None:
    hint = visitor.page.get_by_text("Draw a digit here")
    expect(hint).to_be_in_viewport()
    press(visitor, visitor.hand, 0.5, 0.5)
    expect(hint).not_to_be_visible()
    visitor.hand.up()
    visitor.clear()
    expect(hint).to_be_visible()
    visitor.choose("7")
    expect(hint).not_to_be_visible()
    visitor.clear()
    expect(hint).to_be_visible()
    visitor.press("Eraser")
    visitor.draw(UNDERLINE)
    expect(hint).not_to_be_visible()
    visitor.page.wait_for_timeout(500)  # time enough to judge what was handed over
    visitor.reads(NOTHING)
    visitor.press("Undo")
    expect(hint).to_be_visible()


def test_turned_neither_way_the_slider_looks_the_same_on_both_sides(visitor: Visitor) -> None:
    slider = visitor.page.get_by_label("Turn it")
    image = Image.open(io.BytesIO(slider.screenshot())).convert("RGB")
    difference = ImageChops.difference(image, ImageOps.mirror(image)).convert("L").tobytes()
    assert sum(shade > 60 for shade in difference) < 0.01 * len(difference)
    visitor.tab_to("#pad input")
    visitor.page.keyboard.press("ArrowRight")
    expect(visitor.page.locator("#pad output")).to_have_text("5°")


def test_things_to_try_are_in_sight_on_a_small_laptop(browser: Browser, address: str) -> None:
    with browser.new_page(viewport={"width": 1280, "height": 800}) as page:
        page.goto(address)
        visitor = Visitor(page, page.mouse)
        for name in (None, "4", "5 or 6", "an upside-down 4"):
            if name:
                visitor.choose(name)
                expect(page.locator("#evidence .gauges")).to_be_visible(timeout=SLOW)
            page.evaluate("window.scrollTo(0, 0)")  # where it may have left to reach the second row
            expect(page.get_by_role("heading", name="Try these")).to_be_in_viewport(ratio=1)
            for digit in DIGITS:
                expect(page.get_by_title(digit, exact=True)).to_be_in_viewport(ratio=1)


def test_a_scribble_is_refused(visitor: Visitor) -> None:
    visitor.draw(GRID)
    visitor.reads(REFUSED)
    expect(visitor.page.locator("#verdict .explanation")).to_contain_text("Unfamiliar")
    expect(visitor.page.locator("svg.ensemble .row.answer")).to_have_count(0)


def test_undo_and_eraser_take_strokes_back(visitor: Visitor) -> None:
    visitor.draw(DIGITS["7"])
    visitor.reads("7")
    visitor.draw(UNDERLINE)
    visitor.reads(REFUSED)
    visitor.press("Undo")
    visitor.reads("7")
    visitor.draw(UNDERLINE)
    visitor.reads(REFUSED)
    visitor.press("Eraser")
    visitor.draw(UNDERLINE)
    visitor.reads("7")
    visitor.draw(DIGITS["7"])
    visitor.reads(NOTHING)
    visitor.press("Undo")
    visitor.reads("7")


def test_strokes_cleared_before_they_are_judged_are_not_judged_afterwards(visitor: Visitor) -> None:
    for _ in range(3):  # whether they would be is a matter of timing
        visitor.draw([*DIGITS["1"], *UNDERLINE])
        visitor.press("Clear")
        visitor.page.wait_for_timeout(500)  # time enough for a late answer to arrive
        visitor.reads(NOTHING)
    visitor.draw(DIGITS["7"])
    visitor.reads("7")


def test_a_stricter_promise_refuses_what_a_laxer_one_answers(visitor: Visitor) -> None:
    visitor.choose("4 or 9")
    visitor.reads(REFUSED)
    promises = visitor.page.locator("#strictness label")
    for chosen, verdict in ((promises.first, "9"), (promises.last, REFUSED)):
        cost = visitor.page.locator("#cost [role=status]").inner_text()
        visitor.click(chosen)
        visitor.reads(verdict)
        expect(visitor.page.locator("#cost [role=status]")).not_to_have_text(cost, timeout=SLOW)


def test_a_stricter_familiarity_refuses_what_a_laxer_one_answers_and_says_its_cost(
    visitor: Visitor, shipped: Classifier
) -> None:
    promises = offered(shipped)
    risk, alpha = promises.first
    cost = visitor.page.locator("#cost [role=status]")
    expect(cost).to_have_text(promises.cost(risk, alpha))
    visitor.choose(HEART)
    visitor.reads("0")
    visitor.click(visitor.page.locator("#familiarity").get_by_text("1 in 20", exact=True))
    visitor.reads(REFUSED)
    expect(visitor.page.locator("#verdict")).to_contain_text("Unfamiliar")
    expect(cost).to_have_text(promises.cost(risk, "1 in 20"), timeout=SLOW)
    expect(visitor.page.locator("#evidence")).to_contain_text("too strange")
    visitor.click(visitor.page.locator("#familiarity").get_by_text(alpha, exact=True))
    visitor.reads("0")


def test_all_can_be_chosen_with_the_keyboard_alone(visitor: Visitor) -> None:
    keyboard = visitor.page.keyboard
    visitor.tab_to(f"#examples button[title='{HEART}']")
    keyboard.press("Enter")
    visitor.reads("0")
    visitor.tab_to("#strictness input:checked")
    keyboard.press("ArrowRight")
    expect(visitor.page.locator("#strictness input:checked")).to_have_value("1 in 1,000")
    expect(visitor.page.locator("#strictness input:checked")).to_be_focused()
    visitor.tab_to("#familiarity input:checked")
    for alpha, verdict in (("1 in 100", REFUSED), ("1 in 50", REFUSED)):
        keyboard.press("ArrowRight")
        expect(visitor.page.locator("#familiarity input:checked")).to_have_value(alpha)
        visitor.reads(verdict)
    for _ in range(2):
        keyboard.press("ArrowLeft")
    visitor.reads("0")
    visitor.tab_to(".label-wrap")
    keyboard.press("Enter")
    visitor.tab_to("#draws input:checked")
    keyboard.press("ArrowRight")
    row = visitor.page.locator("svg.ensemble .row").first
    expect(row).to_have_attribute("aria-label", re.compile(" of 100 networks;"), timeout=SLOW)


def test_the_number_of_networks_can_be_chosen(visitor: Visitor) -> None:
    visitor.draw(DIGITS["3"])
    visitor.reads("3")
    visitor.page.get_by_role("button", name="Advanced").click()
    for draws in (10, 25, 100):
        visitor.page.locator("#draws").get_by_text(str(draws), exact=True).click()
        row = visitor.page.locator("svg.ensemble .row").first
        expect(row).to_have_attribute("aria-label", re.compile(rf" of {draws} networks;"), timeout=SLOW)


def test_examples_are_judged_as_their_heading_says(visitor: Visitor) -> None:
    for example in EXAMPLES.values():
        group = visitor.page.locator("#examples section", has_text=example.group)
        group.get_by_title(example.name, exact=True).click()
        check_example(visitor, example)
        visitor.clear()


def check_example(visitor: Visitor, example: Example) -> None:
    verdict = visitor.page.locator("#verdict")
    match example.group:
        case "Easy":
            visitor.reads(example.name)
        case "Ambiguous":
            visitor.reads(REFUSED)
            expect(verdict).to_contain_text("Ambiguous")
        case "Not digits":
            visitor.reads(REFUSED)
        case _:
            visitor.reads(REFUSED if example.name.endswith("refused") else example.name[-1])


def test_a_6_that_is_turned_becomes_a_refusal_and_then_a_9(visitor: Visitor) -> None:
    slider = visitor.page.get_by_label("Turn it")
    slider.fill("5")
    visitor.reads("6")
    slider.fill("75")
    visitor.reads(REFUSED)
    slider.fill("180")
    visitor.reads("9")
    visitor.clear()
    expect(slider).to_have_value("0")
    visitor.draw(DIGITS["6"])
    visitor.reads("6")
    slider.fill("180")
    visitor.reads("9")
    slider.fill("0")
    visitor.reads("6")


def test_what_is_drawn_on_a_turned_pad_lies_where_it_was_drawn(visitor: Visitor) -> None:
    visitor.draw(DIGITS["7"][:1])
    visitor.reads("7")
    visitor.page.get_by_label("Turn it").fill("180")
    visitor.press("Eraser")
    visitor.draw([[(1 - x, 1 - y) for x, y in stroke] for stroke in DIGITS["7"]])
    visitor.reads(NOTHING)


def test_an_archive_of_good_bad_and_hostile_files(visitor: Visitor) -> None:
    hostile = '<img src=x onerror="window.hit=1">.png'
    good = {"0.png": "0", "../../../7.png": "7", "/etc/4.png": "4", "C:\\5.png": "5", hostile: "3"}
    pictures = dict(zip(good, ("0", "7", "4", "5", "3"), strict=True))
    pictures |= {"doubt/4 or 9.png": "4 or 9", "odd/a fish.png": "a fish"}
    entries = {name: png(EXAMPLES[picture].image) for name, picture in pictures.items()}
    bad = {"cut.png": entries["0.png"][:300], "notes.txt": b"no image", "<b>empty</b>.png": b""}
    open_tab(visitor.page, "Many images")
    upload(visitor.page, {"mixed.zip": archive(entries | bad), "8.png": png(EXAMPLES["8"].image)})

    answers = good | {"doubt/4 or 9.png": "refused", "odd/a fish.png": "refused", "8.png": "8"}
    table = visitor.table(len(answers))
    assert {row[0]: row[1] for row in table} == answers
    reasons = {row[0]: row[2] for row in table}
    assert (reasons["doubt/4 or 9.png"], reasons["odd/a fish.png"]) == ("ambiguous", "unfamiliar")
    unusable = visitor.page.locator("#unusable li code").all_inner_texts()
    assert unusable == list(bad)
    for reason in ("answered", "ambiguous", "unfamiliar"):
        figures = visitor.page.locator(f"#gallery .{reason} figure")
        members = [row for row in table if row[2] == reason]
        expect(figures).to_have_count(len(members))
        assert figures.evaluate_all("all => all.map(one => one.title)") == [row[0] for row in members]
    answered = [row[1] for row in table if row[2] == "answered"]
    assert visitor.page.locator("#gallery .answered figcaption").all_inner_texts() == answered
    assert visitor.page.evaluate("[window.hit, document.querySelector('img[src=x]')]") == [None, None]

    rows = list(csv.DictReader(io.StringIO(visitor.download("decisions.csv"))))
    told = json.loads(visitor.download("decisions.json"))
    assert [one["file"] for one in told["unreadable"]] == unusable
    for shown, row, one in zip(table, rows, told["images"], strict=True):
        probs = [float(row[f"p{digit}"]) for digit in range(10)]
        assert shown[:3] == [row["file"], row["decision"], row["reason"]]
        assert [float(cell) for cell in shown[3:6]] == [
            round(max(probs), 4),
            round(float(row["total"]), 4),
            round(float(row["unfamiliarity"]), 2),
        ]
        assert shown[6] == row["candidates"]
        assert row["file"] == one["file"]
        assert row["decision"] == ("refused" if one["label"] is None else str(one["label"]))
        assert probs == pytest.approx(one["probs"])


def test_the_table_sorts(visitor: Visitor) -> None:
    open_tab(visitor.page, "Many images")
    names = ("4 or 9", "8", "1", "a fish", "3")
    upload(visitor.page, {f"{name}.png": png(EXAMPLES[name].image) for name in names})
    before = [row[5] for row in visitor.table(len(names))]
    for order, falls in (("ascending", False), ("descending", True)):
        visitor.page.get_by_role("columnheader", name="Unfamiliarity").get_by_label("Open cell menu").click()
        visitor.page.get_by_role("menuitem", name=f"Sort {order}").click()
        after = sorted(before, key=float, reverse=falls)
        expect(visitor.page.locator("#table .virtual-row").first).to_contain_text(after[0])
        assert [row[5] for row in visitor.table(len(names))] == after


def test_a_stricter_promise_judges_uploads_anew(visitor: Visitor) -> None:
    open_tab(visitor.page, "Many images")
    upload(visitor.page, {"4 or 9.png": png(EXAMPLES["4 or 9"].image)})
    summary = visitor.page.locator("#summary")
    expect(summary).to_contain_text("1 ambiguous")
    visitor.page.locator("#many-strictness label").first.click()
    expect(summary).to_contain_text("1 answered", timeout=SLOW)


def test_the_trust_tab_shows_results_and_curves(visitor: Visitor) -> None:
    open_tab(visitor.page, "Trust")
    expect(visitor.page.locator("#results tr").nth(3)).to_be_visible()
    numbers = visitor.page.locator("#results tr td:first-of-type").all_inner_texts()
    assert all(any(letter.isdigit() for letter in number) for number in numbers)
    plots = visitor.page.locator(".vega-embed svg")
    for plot in range(3):
        expect(plots.nth(plot).locator(".mark-line path[stroke]")).to_have_count(2, timeout=SLOW)
    expect(visitor.page.locator("#training")).to_contain_text("mean-field")


def test_nothing_jumps_when_the_verdict_changes(visitor: Visitor) -> None:
    def places() -> list[float]:
        ids = ["#verdict", "#evidence", "#spread", "#examples"]
        tops = "document.querySelector(id).getBoundingClientRect().top + window.scrollY"
        return list(visitor.page.evaluate(f"ids => ids.map(id => {tops})", ids))

    blank = places()
    for name in ("4", "1", "5 or 6", "a fish", "an upside-down 4", "noise", HEART):
        visitor.choose(name)
        expect(visitor.page.locator("#evidence .gauges")).to_be_visible(timeout=SLOW)
        assert places() == pytest.approx(blank, abs=1)
        visitor.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_fits_the_screen_and_is_accessible(
    visitor: Visitor, address: str, scheme: Literal["light", "dark"]
) -> None:
    page = visitor.page
    page.emulate_media(color_scheme=scheme)
    page.goto(address)
    visitor.choose("4 or 9")
    visitor.reads(REFUSED)
    page.get_by_role("button", name="Advanced").click()
    assert_sound(page)
    open_tab(page, "Many images")
    assert_sound(page)
    upload(page, {"4.png": png(EXAMPLES["4"].image), "no.png": b""})
    visitor.table(1)
    assert_sound(page)
    open_tab(page, "Trust")
    expect(page.locator(".vega-embed svg")).to_have_count(3, timeout=SLOW)
    assert_sound(page)


def assert_sound(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    found = Axe().run(page).response["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], node["html"]) for one in grave for node in one["nodes"]] == []
