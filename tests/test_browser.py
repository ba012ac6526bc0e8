"""The page in a real browser, with a mouse on a large screen and with a finger on a phone."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import pytest

pytest.importorskip("playwright", reason="Playwright is not installed (extra `tests`)")

from browser import (
    CHROMIUM,
    NAMES,
    SCREENS,
    SLOW,
    Finger,
    Hand,
    Stylus,
    assert_sound,
    chromium,
    draw,
    drop,
    headline,
    open_tab,
    png,
    upload,
)
from PIL import Image, ImageChops, ImageOps
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, expect
from serving import archive, free_port

from bnn.app import Address, served
from bnn.app.examples import DIGITS, Example, examples
from bnn.app.strictness import offered
from bnn.classifier import Classifier
from bnn.data.pen import Strokes

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
MOST_TABS = 60  # presses of the key that any control may be away
POINTER = ""  # in place of a key that uses a control: mouse or finger
HOW = [("wide", POINTER), ("phone", POINTER), ("wide", "Enter"), ("wide", "Space")]  # a phone has no keys
used = pytest.mark.parametrize(("context", "key"), HOW, indirect=["context"], scope="module")
WAVE: Strokes = [[(0.1, 0.96), (0.3, 0.86), (0.5, 0.96), (0.7, 0.86), (0.9, 0.96)]]  # below a digit
REFUSED = "I don't know"
NOTHING = "Nothing drawn yet"
HEART = "a heart, taken for a 0"


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

    def use(self, what: Locator, key: str = "") -> None:
        """Clicks or taps, or, where there is a `key`, tabs to it from where the focus is and presses that."""
        if key:
            self.tab_to(what)
            self.page.keyboard.press(key)
        elif isinstance(self.hand, Finger):
            what.tap()
        else:
            what.click()

    def tab_to(self, what: Locator) -> None:
        """Presses Tab until `what` has the focus, which must be seen."""
        for _ in range(MOST_TABS):
            if what.evaluate("one => one === document.activeElement && one.matches(':focus-visible')"):
                break
            self.page.keyboard.press("Tab")
        expect(what).to_be_focused()
        outlined = "it => it && getComputedStyle(it).outlineStyle !== 'none'"
        assert what.evaluate(f"one => [one, one.closest('label')].some({outlined})")

    def control(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name)

    def chooses(self, files: str | Path | list[Path], name: str = "Choose images", key: str = "") -> None:
        """Opens a file chooser by what is seen, and chooses `files`."""
        with self.page.expect_file_chooser() as chooser:
            self.use(self.control(name), key)
        chooser.value.set_files(files)

    def table(self, rows: int) -> list[list[str]]:
        """The cells of the table, also those of which there is no room, once it has that many rows."""
        shown = self.page.locator("#table tbody tr")
        expect(shown).to_have_count(rows, timeout=SLOW)
        return shown.evaluate_all(
            "rows => rows.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
        )

    def names(self, rows: int) -> list[str]:
        return [row[0] for row in self.table(rows)]

    def download(self, name: str, key: str = "") -> str:
        return self.downloaded(name, key).read_text(encoding="utf-8")

    def downloaded(self, name: str, key: str = "") -> Path:
        with self.page.expect_download() as download:
            self.use(self.page.get_by_role("link", name=f"Download {name}"), key)
        assert download.value.suggested_filename == name
        return Path(download.value.path())


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


def test_two_digits_side_by_side_are_read_as_a_number(visitor: Visitor) -> None:
    halves = [
        [((place + x) / 2, 0.25 + y / 2) for x, y in stroke]
        for place, digit in enumerate("42")
        for stroke in DIGITS[digit]
    ]
    visitor.draw(halves)
    visitor.reads("42")
    expect(visitor.page.locator("#verdict .voices")).to_have_text("2 digits: 4 2")
    assert_sound(visitor.page)
    visitor.clear()


def test_the_steps_from_the_drawing_to_what_was_seen_unfold(visitor: Visitor) -> None:
    visitor.draw(DIGITS["4"])
    visitor.reads("4")
    steps, votes = visitor.page.locator("#steps li"), visitor.page.locator("#steps svg.plot")
    fold = visitor.page.locator("#steps summary")
    expect(steps).to_have_count(4, timeout=SLOW)
    expect(steps.last).to_be_hidden()
    visitor.use(fold)
    expect(steps.last).to_contain_text("28 by 28, as the network sees it")
    for step in steps.all():
        expect(step.locator("img")).to_be_visible()
    expect(votes).to_have_accessible_name(re.compile("votes as they came in; 4: (0.9|1)"))
    assert_sound(visitor.page)
    visitor.clear()
    nothing = visitor.page.get_by_text("Nothing is drawn yet.")
    expect(nothing).to_be_visible(timeout=SLOW)  # it stays unfolded while what is drawn changes
    visitor.use(fold)
    expect(nothing).to_be_hidden()


def test_an_answer_that_comes_before_the_browser_tells_of_unfolding_folds_nothing(visitor: Visitor) -> None:
    visitor.page.evaluate("addEventListener('toggle', event => event.stopImmediatePropagation(), true)")
    visitor.use(visitor.page.locator("#steps summary"))
    visitor.draw(DIGITS["4"])
    expect(visitor.page.locator("#steps img").last).to_be_visible()


def test_after_quick_strokes_the_first_press_counts(visitor: Visitor) -> None:
    for _ in range(6):  # of six taps of a finger that had drawn, Chrome lost two and more
        visitor.draw(DIGITS["4"])
        visitor.use(visitor.control("Clear"))
        visitor.reads(NOTHING)


def test_what_the_page_is_and_where_it_fails_can_be_read(visitor: Visitor) -> None:
    expect(visitor.page.get_by_text("Many sampled neural networks vote on what you draw.")).to_be_visible()
    expect(visitor.page.get_by_text("How the networks vote")).to_be_visible()
    told = "about seven in ten of the letters and nine in ten of the doodles drawn on the pad"
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
    visitor.draw(WAVE)
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
    visitor.tab_to(visitor.page.locator("#pad input"))
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
    visitor.draw(WAVE)
    visitor.reads(REFUSED)
    visitor.press("Undo")
    visitor.reads("7")
    visitor.draw(WAVE)
    visitor.reads(REFUSED)
    visitor.press("Eraser")
    visitor.draw(WAVE)
    visitor.reads("7")
    visitor.draw(DIGITS["7"])
    visitor.reads(NOTHING)
    visitor.press("Undo")
    visitor.reads("7")


def test_strokes_cleared_before_they_are_judged_are_not_judged_afterwards(visitor: Visitor) -> None:
    for _ in range(3):  # whether they would be is a matter of timing
        visitor.draw([*DIGITS["1"], *WAVE])
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
        visitor.use(chosen)
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
    visitor.use(visitor.page.locator("#familiarity").get_by_text("1 in 20", exact=True))
    visitor.reads(REFUSED)
    expect(visitor.page.locator("#verdict")).to_contain_text("Unfamiliar")
    expect(cost).to_have_text(promises.cost(risk, "1 in 20"), timeout=SLOW)
    expect(visitor.page.locator("#evidence")).to_contain_text("too strange")
    visitor.use(visitor.page.locator("#familiarity").get_by_text(alpha, exact=True))
    visitor.reads("0")


def test_all_can_be_chosen_with_the_keyboard_alone(visitor: Visitor) -> None:
    keyboard = visitor.page.keyboard
    visitor.tab_to(visitor.page.locator(f"#examples button[title='{HEART}']"))
    keyboard.press("Enter")
    visitor.reads("0")
    visitor.tab_to(visitor.page.locator("#strictness input:checked"))
    keyboard.press("ArrowRight")
    expect(visitor.page.locator("#strictness input:checked")).to_have_value("1 in 1,000")
    expect(visitor.page.locator("#strictness input:checked")).to_be_focused()
    visitor.tab_to(visitor.page.locator("#familiarity input:checked"))
    for alpha, verdict in (("1 in 100", "0"), ("1 in 50", REFUSED)):
        keyboard.press("ArrowRight")
        expect(visitor.page.locator("#familiarity input:checked")).to_have_value(alpha)
        visitor.reads(verdict)
    for _ in range(2):
        keyboard.press("ArrowLeft")
    visitor.reads("0")
    visitor.tab_to(visitor.control("Advanced"))
    keyboard.press("Enter")
    visitor.tab_to(visitor.page.locator("#draws input:checked"))
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Digits in a folder and its sub-folders, with what systems hide there."""
    pictures = {"zero.png": "0", "b/two.png": "2", "b/c/ten 10.png": "1", "b/c/ten 9.png": "9"}
    hidden = {
        ".DS_Store": b"hidden",
        "b/.seen.png": b"hidden",
        ".git/config": b"hidden",
        "Thumbs.db": b"hidden",
    }
    written(
        tmp_path / "mine", {name: png(EXAMPLES[shown].image) for name, shown in pictures.items()} | hidden
    )
    return tmp_path / "mine"


FOLDER = ["mine/b/c/ten 9.png", "mine/b/c/ten 10.png", "mine/b/two.png", "mine/zero.png"]


def written(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


@pytest.fixture
def many(visitor: Visitor) -> Visitor:
    """On the tab for many images, before anything was uploaded."""
    visitor.use(visitor.page.get_by_role("tab", name="Many images"))
    return visitor


def test_before_any_upload_the_area_for_it_is_in_sight_and_large(many: Visitor) -> None:
    area = many.control("Choose images")
    expect(area).to_be_visible()
    expect(area).to_be_in_viewport(ratio=1)
    box = area.bounding_box()
    assert box is not None
    assert (box["width"] >= 290, box["height"] >= 120) == (True, True)
    for name in ("Choose a folder", "Try a sample"):
        expect(many.control(name)).to_be_in_viewport(ratio=1)
    expect(many.control("Clear")).to_be_disabled()
    expect(many.page.get_by_text("Download sample.zip")).to_be_in_viewport()
    expect(many.page.locator("#table table")).to_have_count(0)


@used
def test_one_file_several_and_an_archive_are_chosen(many: Visitor, tmp_path: Path, key: str) -> None:
    images = {f"{name}.png": png(EXAMPLES[name].image) for name in ("8", "3")}
    eight, three = written(tmp_path, images)
    many.chooses(eight, key=key)
    assert [row[:2] for row in many.table(1)] == [["8.png", "8"]]
    many.chooses([eight, three], key=key)
    assert [row[:2] for row in many.table(2)] == [["3.png", "3"], ["8.png", "8"]]
    (packed,) = written(tmp_path, {"p.zip": archive({"in/5.png": png(EXAMPLES["5"].image)})})
    many.chooses(packed, key=key)
    assert [row[:2] for row in many.table(1)] == [["in/5.png", "5"]]


@used
def test_a_folder_is_chosen_with_its_folders_and_without_what_is_hidden(
    many: Visitor, folder: Path, key: str
) -> None:
    many.chooses(folder, "Choose a folder", key)
    assert many.names(4) == FOLDER
    assert [row[1] for row in many.table(4)] == ["9", "1", "2", "0"]
    expect(many.page.locator("#unusable")).to_have_count(0)


def test_what_is_dropped_is_judged_files_archives_and_folders_alike(
    many: Visitor, folder: Path, tmp_path: Path
) -> None:
    area = many.control("Choose images")
    eight, three, packed = written(
        tmp_path,
        {
            "8.png": png(EXAMPLES["8"].image),
            "3.png": png(EXAMPLES["3"].image),
            "p.zip": archive({"in/5.png": png(EXAMPLES["5"].image)}),
        },
    )
    drop(many.page, area, [eight])
    assert many.names(1) == ["8.png"]
    drop(many.page, area, [eight, three])
    assert many.names(2) == ["3.png", "8.png"]
    drop(many.page, area, [packed])
    assert many.names(1) == ["in/5.png"]
    drop(many.page, area, [folder])
    assert many.names(4) == FOLDER
    drop(many.page, area, [folder, three, packed])
    assert many.names(6) == ["3.png", *FOLDER, "in/5.png"]
    expect(many.page.locator("#unusable")).to_have_count(0)


def test_a_drop_beside_the_area_is_taken_and_opens_no_other_page(many: Visitor, tmp_path: Path) -> None:
    drop(
        many.page,
        many.page.locator("#many-strictness"),
        written(tmp_path, {"4.png": png(EXAMPLES["4"].image)}),
    )
    assert many.names(1) == ["4.png"]


@used
def test_the_sample_can_be_tried_and_downloaded(many: Visitor, key: str) -> None:
    many.use(many.control("Try a sample"), key)
    tried = many.table(len(EXAMPLES))
    assert {f"{one.group}/{one.name}.png" for one in EXAMPLES.values()} == {row[0] for row in tried}
    assert [row[1] for row in tried if row[0].startswith("Easy/")] == list("0123456789")
    many.use(many.control("Clear"), key)
    expect(many.page.locator("#table table")).to_have_count(0, timeout=SLOW)
    expect(many.page.locator("#gallery figure")).to_have_count(0)
    sample = many.downloaded("sample.zip", key and "Enter")  # a link
    drop(many.page, many.control("Choose images"), [sample])
    assert many.table(len(EXAMPLES)) == tried


def test_a_folder_with_too_many_files_and_one_with_nothing_are_answered_in_a_sentence(
    many: Visitor, tmp_path: Path
) -> None:
    written(tmp_path / "large", {f"{index}.png": b"" for index in range(1001)})
    written(tmp_path / "empty", {".hidden.png": b"hidden"})
    told, area = many.page.locator("#files output"), many.control("Choose images")
    sent: list[str] = []
    many.page.on("request", lambda request: sent.append(request.url))
    drop(many.page, area, [tmp_path / "large"])
    expect(told).to_have_text("Nothing was judged: these are more than 1,000 files. Upload them in parts.")
    many.chooses(tmp_path / "large", "Choose a folder")
    expect(told).to_have_text("Nothing was judged: these are more than 1,000 files. Upload them in parts.")
    drop(many.page, area, [tmp_path / "empty"])
    expect(told).to_have_text("Nothing to judge was found: hidden files are left out.")
    assert [url for url in sent if "upload" in url] == []


def test_a_file_that_cannot_be_uploaded_is_listed_and_the_others_are_judged(
    many: Visitor, tmp_path: Path
) -> None:
    good, large = written(tmp_path, {"4.png": png(EXAMPLES["4"].image), "large.png": bytes(51_000_000)})
    many.chooses([good, large])
    assert many.names(1) == ["4.png"]
    expect(many.page.locator("#unusable li")).to_have_text(
        "large.png: it could not be uploaded: it may be too large, or unreadable."
    )


def test_files_that_were_deleted_meanwhile_are_told_in_a_sentence(many: Visitor, tmp_path: Path) -> None:
    many.chooses(written(tmp_path, {"gone.png": png(EXAMPLES["4"].image)}))
    many.table(1)
    for path in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("gone.png"):
        path.unlink()
    many.use(many.page.locator("#many-strictness label").first)
    expect(many.page.locator("#unusable li")).to_have_text(
        "gone.png: it is here no longer: upload it again.", timeout=SLOW
    )


def test_an_archive_of_good_bad_and_hostile_files(many: Visitor) -> None:
    hostile = '<img src=x onerror="window.hit=1">.png'
    good = {"0.png": "0", "../../../7.png": "7", "/etc/4.png": "4", "C:\\5.png": "5", hostile: "3"}
    pictures = dict(zip(good, ("0", "7", "4", "5", "3"), strict=True))
    pictures |= {"doubt/4 or 9.png": "4 or 9", "odd/a fish.png": "a fish"}
    entries = {name: png(EXAMPLES[picture].image) for name, picture in pictures.items()}
    bad = {"cut.png": entries["0.png"][:300], "notes.txt": b"no image", "<b>empty</b>.png": b""}
    upload(many.page, {"mixed.zip": archive(entries | bad), f"8{hostile}": png(EXAMPLES["8"].image)})

    answers = good | {"doubt/4 or 9.png": "refused", "odd/a fish.png": "refused", f"8{hostile}": "8"}
    table = many.table(len(answers))
    assert {row[0]: row[1] for row in table} == answers
    reasons = {row[0]: row[2] for row in table}
    assert (reasons["doubt/4 or 9.png"], reasons["odd/a fish.png"]) == ("ambiguous", "unfamiliar")
    unusable = many.page.locator("#unusable li code").all_inner_texts()
    assert unusable == list(bad)
    for reason in ("answered", "ambiguous", "unfamiliar"):
        figures = many.page.locator(f"#gallery .{reason} figure")
        members = [row for row in table if row[2] == reason]
        expect(figures).to_have_count(len(members))
        assert figures.evaluate_all("all => all.map(one => one.title)") == [row[0] for row in members]
    answered = [row[1] for row in table if row[2] == "answered"]
    assert many.page.locator("#gallery .answered figcaption").all_inner_texts() == answered
    assert many.page.evaluate("[window.hit, document.querySelector('img[src=x]')]") == [None, None]

    rows = list(csv.DictReader(io.StringIO(many.download("decisions.csv"))))
    told = json.loads(many.download("decisions.json", key="Enter"))
    assert [one["file"] for one in told["unreadable"]] == unusable
    for shown, row, one in zip(table, rows, told["images"], strict=True):
        probs = [float(row[f"p_{digit}"]) for digit in range(10)]
        assert shown[:3] == [row["file"], row["decision"], row["reason"]]
        assert [float(cell) for cell in shown[3:6]] == [
            round(max(probs), 4),
            round(float(row["total"]), 4),
            round(float(row["ood_score"]), 2),
        ]
        assert shown[6] == row["candidates"]
        assert row["file"] == one["file"]
        assert row["decision"] == ("refused" if one["label"] is None else str(one["label"]))
        assert probs == pytest.approx(one["probs"])


def test_a_sheet_is_read_and_shown_with_a_box_around_each_digit(many: Visitor) -> None:
    paper = Image.new("L", (480, 120), 255)
    for place, digit in enumerate("4071"):
        paper.paste(EXAMPLES[digit].image.resize((120, 120)), (120 * place, 0))
    upload(many.page, {"number.png": png(paper), "3.png": png(EXAMPLES["3"].image)})
    assert [row[:3] for row in many.table(2)] == [
        ["3.png", "3", "answered"],
        ["number.png", "4 0 7 1", "4 of 4 digits answered"],
    ]
    shown = many.page.locator("#gallery svg.sheet")
    expect(shown).to_have_count(1)
    expect(shown.locator(".mark.answered text")).to_have_text(list("4071"))
    frame = shown.bounding_box()
    assert frame is not None
    for place in range(4):  # each box lies in its quarter of the picture, and is seen
        box = shown.locator("rect").nth(place)
        around = box.bounding_box()
        assert around is not None
        middle = (around["x"] + around["width"] / 2 - frame["x"]) / frame["width"]
        assert 0.25 * place < middle < 0.25 * (place + 1)
        assert box.evaluate("one => getComputedStyle(one).stroke") == "rgb(21, 115, 71)"
    assert_sound(many.page)
    rows = list(csv.DictReader(io.StringIO(many.download("digits.csv"))))
    assert [row["decision"] for row in rows] == list("4071")


@used
def test_the_table_sorts_by_each_column_that_is_seen(many: Visitor, key: str) -> None:
    many.use(many.control("Try a sample"), key)
    before = many.table(len(EXAMPLES))
    heads = many.page.locator("#table thead button")
    for column in [index for index in range(heads.count()) if heads.nth(index).is_visible()]:
        values = [row[column] for row in before]
        for falls, order in enumerate(("ascending", "descending")):
            many.use(heads.nth(column), key)
            expect(many.page.locator("#table th").nth(column)).to_have_attribute("aria-sort", order)
            found = [row[column] for row in many.table(len(EXAMPLES))]
            order_of = float if column in (3, 4, 5) else str.casefold
            assert sorted(found) == sorted(values)
            if column:  # names are sorted as people sort them
                assert found == sorted(values, key=order_of, reverse=bool(falls))
    sorted_by = many.page.locator("#table th[aria-sort=descending]")
    expect(sorted_by).to_have_count(1)
    many.use(many.page.locator("#many-strictness label").first)
    expect(sorted_by).to_have_count(0)  # by new decisions, with which new heads come
    many.use(heads.first, key)
    expect(many.page.locator("#table th").first).to_have_attribute("aria-sort", "ascending")


def test_the_table_shows_file_answer_and_reason_without_scrolling_sideways(
    many: Visitor, folder: Path
) -> None:
    drop(many.page, many.control("Choose images"), [folder])
    many.table(4)
    for selector in ("#table .scrolling", "#table table"):
        wider = "one => one.scrollWidth - one.clientWidth"
        assert many.page.locator(selector).evaluate(wider) <= 0
    rows = many.page.locator("#table tbody tr")
    rows.first.scroll_into_view_if_needed()
    for cell in rows.first.locator("th, td").all()[:3]:
        expect(cell).to_be_in_viewport(ratio=1)
    width = many.page.evaluate("window.innerWidth")
    hidden = rows.first.locator("td:not(:visible)").count()
    assert hidden == (4 if width < 640 else 0)


def test_a_stricter_promise_judges_uploads_anew(many: Visitor) -> None:
    upload(many.page, {"4 or 9.png": png(EXAMPLES["4 or 9"].image)})
    summary = many.page.locator("#summary")
    expect(summary).to_contain_text("1 ambiguous", timeout=SLOW)
    many.use(many.page.locator("#many-strictness label").first)
    expect(summary).to_contain_text("1 answered", timeout=SLOW)
    many.use(many.page.locator("#many-strictness input").last, "Space")
    expect(summary).to_contain_text("1 ambiguous", timeout=SLOW)


def test_every_control_of_many_images_and_trust_is_reached_by_tab(many: Visitor) -> None:
    assert_all_reached(many, "#files", "#many-strictness")
    upload(many.page, {"4.png": png(EXAMPLES["4"].image), "no.png": b""})
    many.table(1)
    assert_all_reached(many, "#files", "#many-strictness", "#summary", "#table", "#gallery")
    open_tab(many.page, "Trust")
    expect(many.page.locator("#training")).to_be_visible()
    assert_all_reached(many, "#results", "#figures", "#training")


def assert_all_reached(visitor: Visitor, *places: str) -> None:
    """Every control that is seen in `places` gets the focus by Tab."""
    usable = ":is(button, a[href], input, summary, [tabindex='0']):visible:not(:disabled)"
    found = [one for place in places for one in visitor.page.locator(place).locator(usable).all()]
    left = {
        str(number): one.evaluate(f"one => (one.dataset.found = {number}, one.outerHTML.slice(0, 300))")
        for number, one in enumerate(found)
    }
    assert left
    visitor.page.locator("[role=tab][aria-selected=true]").focus()
    for _ in range(MOST_TABS):
        visitor.page.keyboard.press("Tab")
        left.pop(visitor.page.evaluate("document.activeElement.dataset.found ?? ''"), None)
    assert left == {}


def test_the_trust_tab_shows_results_and_plots_at_once(visitor: Visitor) -> None:
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    visitor.use(visitor.page.get_by_role("tab", name="Trust"))
    expect(visitor.page.locator("#results tr").nth(3)).to_be_visible()
    plots = visitor.page.locator("#figures svg.plot")
    expect(plots).to_have_count(3)
    for plot in plots.all():
        expect(plot).to_be_visible()
        assert plot.locator(".first, .interval").count() >= 2
        sizes = plot.locator("text").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
        assert min(sizes) > 10  # pixels: it can be read
        assert plot.locator("text").evaluate_all(OUTSIDE) == []
    assert [url for url in asked if not url.startswith("data:")] == []  # nothing comes later
    numbers = visitor.page.locator("#results tr td:first-of-type").all_inner_texts()
    assert all(any(letter.isdigit() for letter in number) for number in numbers)
    expect(visitor.page.locator("#training")).to_contain_text("mean-field")


OUTSIDE = """all => all.filter(one => {
    const [word, page] = [one.getBoundingClientRect(), document.documentElement.clientWidth];
    return word.left < 0 || word.right > page;
}).map(one => one.textContent)"""


@used
def test_the_plots_can_be_had_as_numbers(visitor: Visitor, key: str) -> None:
    open_tab(visitor.page, "Trust")
    for figure in visitor.page.locator("#figures figure").all():
        expect(figure.locator("td").first).to_be_hidden()
        visitor.use(figure.locator("summary"), key)
        expect(figure.locator("td").first).to_be_visible()
        assert figure.locator("tbody tr").count() >= 3


def test_trust_tells_of_what_programs_sent(visitor: Visitor, address: str) -> None:
    four = png(EXAMPLES["4"].image)
    assert httpx.post(f"{address}v1/classify", content=four, timeout=SLOW).json()["label"] == 4
    open_tab(visitor.page, "Trust")
    visitor.press("What programs have sent")
    told = visitor.page.locator("#arrivals")
    expect(told).to_contain_text("No alarm")
    expect(told.locator("figure")).to_have_count(2)
    assert_sound(visitor.page)


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
    page.locator("#steps summary").click()
    assert_sound(page)
    open_tab(page, "Many images")
    assert_sound(page)
    upload(page, {"4.png": png(EXAMPLES["4"].image), "no.png": b""})
    visitor.table(1)
    assert_sound(page)
    open_tab(page, "Trust")
    for summary in page.locator("#figures summary").all():
        visitor.use(summary)
    assert_sound(page)
