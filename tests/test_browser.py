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
    chromium,
    draw,
    headline,
    open_tab,
    png,
    upload,
)
from playwright.sync_api import Browser, BrowserContext, Mouse, Page, Request, expect
from serving import archive, free_port

from bnn.decide import Classifier
from bnn.page import Address, served
from bnn.page.examples import DIGITS, Example, Strokes, examples

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium is installed ({', '.join(NAMES)})"),
]

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


@dataclass(frozen=True)
class Visitor:
    """Who looks at a page, and what they draw with."""

    page: Page
    hand: Mouse | Finger

    def draw(self, strokes: Strokes) -> None:
        draw(self.page, self.hand, strokes)

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
def address() -> Iterator[str]:
    where = Address(port=free_port())
    with served(Classifier.load(), where):
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
        visitor.clear()
        expect(visitor.page.locator("svg.ensemble .bar")).to_have_count(0)


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
    promises.first.click()
    visitor.reads("9")
    promises.last.click()
    visitor.reads(REFUSED)


def test_the_number_of_networks_can_be_chosen(visitor: Visitor) -> None:
    visitor.draw(DIGITS["3"])
    visitor.reads("3")
    visitor.page.get_by_role("button", name="Advanced").click()
    for draws in (10, 25, 100):
        visitor.page.locator("#draws").get_by_text(str(draws), exact=True).click()
        row = visitor.page.locator("svg.ensemble .row").first
        expect(row).to_have_attribute("aria-label", re.compile(rf" over {draws} networks$"), timeout=SLOW)


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
            expect(verdict.locator(".answered")).to_be_visible(timeout=SLOW)


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
    for name in ("4", "1", "5 or 6", "a fish", "an upside-down 4"):
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
