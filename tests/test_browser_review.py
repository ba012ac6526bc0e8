"""Keeping what was refused and reviewing it, in a real browser: by mouse, finger and keys, alone, by two."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from re import compile as pattern
from typing import Literal

import numpy as np
import pytest

pytest.importorskip("playwright", reason="Playwright is not installed (extra `tests`)")

from browser import (
    CHROMIUM,
    FELT,
    NAMES,
    READY,
    SCREENS,
    SLOW,
    TOUCHES,
    Finger,
    assert_sound,
    chromium,
    draw,
    headline,
    open_tab,
    png,
    upload,
)
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, expect
from reviewers import refusals
from serving import free_port

from bnn.app import Address, served
from bnn.app.examples import DIGITS as STROKES
from bnn.app.examples import examples
from bnn.classifier import Classifier
from bnn.core.task import DIGITS, Task
from bnn.data.pen import Strokes
from bnn.review.entries import NO_DIGIT, Progress, Reviewed
from bnn.review.store import HELD_SECONDS, ReviewQueue

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium is installed ({', '.join(NAMES)})"),
]

REFUSED = ("4 or 9", "5 or 6", "a fish", "a tree")
FILES = {f"{one.name}.png": png(one.image) for one in examples() if one.name in (*REFUSED, "4")}
CROSS: Strokes = [[(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)], [(0.5, 0.1), (0.5, 0.9)]]
Scheme = Literal["light", "dark"]


class Clock:
    """The queue's time, which goes by when a test says so."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


class Reviewer:
    """Who looks at the tab, with a mouse or a finger."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.image = page.locator("#review-picture img")
        self.far = page.locator("#review-picture .far")
        self.has_touch = bool(page.evaluate("navigator.maxTouchPoints > 0"))

    def opens(self) -> None:
        open_tab(self.page, "Review")

    def use(self, what: Locator) -> None:
        if self.has_touch:
            what.tap()
        else:
            what.click()

    def presses(self, name: str) -> None:
        """Uses a button, and waits for the answer."""
        self._answered(lambda: self.use(self.button(name)))

    def types(self, key: str) -> None:
        """Presses a key, and waits for the answer."""
        self._answered(lambda: self.page.keyboard.press(key))

    def button(self, name: str) -> Locator:
        return self.page.locator("#review").get_by_role("button", name=name, exact=True)

    @property
    def number(self) -> int:
        """Of the image that is shown."""
        expect(self.image).to_be_visible(timeout=SLOW)
        return int(self.page.locator("#review-picture [data-number]").get_attribute("data-number") or "")

    def sees(self, text: str) -> None:
        expect(self.far).to_have_text(text, timeout=SLOW)

    def _answered(self, act: Callable[[], object]) -> None:
        shown = self.page.locator("#review-picture [data-serial]")
        serial = shown.get_attribute("data-serial") or ""
        insist(act, lambda ms: expect(shown).not_to_have_attribute("data-serial", serial, timeout=ms))
        expect(self.page.locator("#review")).not_to_have_attribute("aria-busy", "true", timeout=SLOW)


def insist(act: Callable[[], object], seen: Callable[[float], object]) -> None:
    """Does something again until it is `seen` within the milliseconds that it is given.

    On a busy machine a click came to nothing once. Where Gradio 6.31 notices late that a browser closed the
    stream of one answer, it drops all that it was asked for since (`clean_events` in its routes.py).
    """
    for _ in range(TOUCHES):
        act()
        with suppress(AssertionError):
            seen(FELT)
            return
    raise AssertionError(f"nothing came of {TOUCHES} tries.")


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[tuple[str, ReviewQueue]]:
    """The page's address, and its queue."""
    where, address = str(tmp_path_factory.mktemp("review") / "queue.sqlite"), Address(port=free_port())
    with (
        ReviewQueue.open(where, DIGITS, retention=30 * 86400.0, clock=clock) as queue,
        served(Classifier.load(), address, queue),
    ):
        yield address.url, queue


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def queue(whole: tuple[str, ReviewQueue]) -> ReviewQueue:
    """Empty."""
    whole[1].delete_all()
    return whole[1]


@pytest.fixture(params=SCREENS)
def context(request: pytest.FixtureRequest, browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(**SCREENS[request.param]) as context:
        context.set_default_timeout(SLOW)
        yield context


@pytest.fixture
def page(context: BrowserContext, whole: tuple[str, ReviewQueue], queue: ReviewQueue) -> Iterator[Page]:
    """The page just opened; at the end nothing must have gone wrong, and no other host been asked."""
    wrong: list[str] = []

    def check(request: Request) -> None:
        if not request.url.startswith((whole[0], "data:", "blob:")):
            wrong.append(request.url)

    with context.new_page() as page:
        page.on("request", check)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        opened(page, whole[0])
        yield page
    assert wrong == []


def opened(page: Page, url: str) -> None:
    page.goto(url)
    page.locator(READY).wait_for(timeout=SLOW)


def keep_uploads(page: Page, queue: ReviewQueue) -> None:
    """Uploads five images, of which four are refused, and has these kept."""
    open_tab(page, "Many images")
    upload(page, FILES)
    expect(page.locator("#table tbody tr")).to_have_count(len(FILES), timeout=SLOW)
    assert queue.progress() == Progress()  # for nobody has asked
    keep(page, "Keep what was refused for review", "#keep", f": {len(REFUSED)}\\.")
    assert queue.progress() == Progress(waiting=len(REFUSED))


def keep(page: Page, button: str, place: str, said: str) -> None:
    """Presses a button that keeps images until the page says so at a place."""
    press = page.get_by_role("button", name=button)
    insist(press.click, lambda ms: expect(page.locator(place)).to_contain_text(pattern(said), timeout=ms))


def by_name(queue: ReviewQueue) -> dict[str, Reviewed]:
    return {one.name.removesuffix(".png"): one for one in queue.reviewed()}


def test_what_is_kept_is_named_one_after_another(page: Page, queue: ReviewQueue) -> None:
    keep_uploads(page, queue)
    reviewer = Reviewer(page)
    reviewer.opens()
    named: dict[str, int] = {}
    for place, (act, label) in enumerate((("4", 4), ("No digit", NO_DIGIT), ("0", 0), ("9", 9))):
        reviewer.sees(f"{place} of 4 reviewed")
        expect(reviewer.image).to_be_in_viewport()
        expect(reviewer.button(act)).to_be_in_viewport(ratio=1)  # without scrolling, on a phone too
        expect(page.locator("#review-votes svg.ensemble .row")).to_have_count(10)
        named[page.locator("#review-picture code").inner_text().removesuffix(".png")] = label
        reviewer.presses(act)
    reviewer.sees("4 of 4 reviewed")
    expect(page.locator("#review-picture")).to_contain_text("Nothing waits for you here.")
    expect(reviewer.button("4")).to_be_disabled()
    assert {name: one.label for name, one in by_name(queue).items()} == named
    assert set(named) == set(REFUSED)
    reviewer.presses("Undo")
    reviewer.sees("3 of 4 reviewed")
    reviewer.presses("Undo")
    reviewer.presses("7")
    reviewer.presses("8")
    assert sorted(one.label for one in queue.reviewed()) == sorted([4, NO_DIGIT, 7, 8])


def test_the_keys_do_the_same_and_only_where_the_tab_is_seen(page: Page, queue: ReviewQueue) -> None:
    keep_uploads(page, queue)
    reviewer = Reviewer(page)
    page.keyboard.press("4")  # on another tab
    reviewer.opens()
    first = reviewer.number
    for ignored in ("Control+4", "Alt+4", "x", "Enter"):
        page.keyboard.press(ignored)
    assert queue.progress().reviewed == 0
    reviewer.types("3")
    second = reviewer.number
    reviewer.types("s")
    third = reviewer.number
    reviewer.types("n")
    reviewer.types("u")
    assert reviewer.number == third
    reviewer.types("u")
    assert reviewer.number == second
    reviewer.types("5")
    labels = {one.number: one.label for one in queue.reviewed()}
    assert labels == {first: 3, second: 5}
    open_tab(page, "Draw")
    page.keyboard.press("1")
    page.wait_for_timeout(300)  # time enough to be told
    assert queue.progress().reviewed == 2


def test_the_keys_of_other_classes_stand_on_their_buttons(
    browser: Browser, untrained: Callable[..., Classifier], tmp_path: Path
) -> None:
    task, address = Task(("cat", "dog", "eel"), "as-is"), Address(port=free_port())
    with (
        ReviewQueue.open(str(tmp_path / "queue.sqlite"), task) as queue,
        served(untrained("mlp", {"hidden": 16}, task), address, queue),
        browser.new_page() as page,
    ):
        queue.add(replace(one, votes=np.zeros((2, 3), np.float16)) for one in refusals(2))
        opened(page, address.url)
        reviewer = Reviewer(page)
        reviewer.opens()
        number = reviewer.number
        expect(reviewer.button("dog")).to_have_text("dog1")
        page.keyboard.press("3")  # no class has it
        reviewer.types("2")
        reviewer.presses("None of these")
        reviewer.sees("2 of 2 reviewed")
        labels = {one.number: one.label for one in queue.reviewed()}
    assert labels == {number: 2, 3 - number: NO_DIGIT}


def test_an_image_is_deleted_by_pressing_twice(page: Page, queue: ReviewQueue) -> None:
    keep_uploads(page, queue)
    reviewer = Reviewer(page)
    reviewer.opens()
    first = reviewer.number
    reviewer.use(reviewer.button("Delete"))
    reviewer.presses("Skip")  # thinking better of it
    reviewer.use(reviewer.button("Delete"))
    second = reviewer.number
    reviewer.presses("Delete for good?")
    reviewer.sees("0 of 3 reviewed")
    while queue.progress().waiting:
        assert reviewer.number != second
        reviewer.presses("1")
    assert first in {one.number for one in queue.reviewed()}


def test_the_order_can_be_chosen(page: Page, queue: ReviewQueue) -> None:
    keep_uploads(page, queue)
    reviewer = Reviewer(page)
    reviewer.opens()
    disputed = reviewer.number
    reviewer.use(reviewer.button("Oldest first"))
    expect(reviewer.button("Oldest first")).to_have_attribute("aria-pressed", "true")
    assert reviewer.number == disputed  # what is looked at stays
    reviewer.presses("1")
    following = [reviewer.number]
    for _ in range(2):
        reviewer.presses("1")
        following.append(reviewer.number)
    assert following == sorted(following)


def test_what_was_reviewed_can_be_had_as_a_zip(page: Page, queue: ReviewQueue) -> None:
    keep_uploads(page, queue)
    reviewer = Reviewer(page)
    reviewer.opens()
    reviewer.presses("4")
    reviewer.presses("No digit")
    reviewer.use(page.get_by_role("button", name="Export what was reviewed"))
    reviewer.use(page.get_by_role("button", name="Prepare the download"))
    link = page.get_by_role("link", name="Download reviewed.zip")
    with page.expect_download() as download:
        reviewer.use(link)
    assert download.value.suggested_filename == "reviewed.zip"
    with zipfile.ZipFile(Path(download.value.path())) as archive:
        folders = [name.rpartition("/")[0] for name in archive.namelist()]
    assert sorted(folders) == ["", "labelled/4", "no-digit"]


def test_a_refused_drawing_is_kept_and_an_answered_one_is_not(page: Page, queue: ReviewQueue) -> None:
    button, hand = "Keep this drawing for review", Finger(page) if Reviewer(page).has_touch else page.mouse
    draw(page, hand, STROKES["4"])
    expect(headline(page)).to_have_text("4", timeout=SLOW)
    keep(page, button, "#keep-drawing", "nothing was kept")
    page.get_by_role("button", name="Clear", exact=True).click()
    draw(page, hand, CROSS)
    expect(headline(page)).to_have_text("I don't know", timeout=SLOW)
    keep(page, button, "#keep-drawing", r": 1\.")
    assert queue.progress() == Progress(waiting=1)


def test_two_reviewers_get_images_of_their_own_and_one_who_goes_gives_it_back(
    page: Page, queue: ReviewQueue, clock: Clock, browser: Browser, whole: tuple[str, ReviewQueue]
) -> None:
    keep_uploads(page, queue)
    ada = Reviewer(page)
    ada.opens()
    first = ada.number
    with browser.new_context() as elsewhere:
        other = elsewhere.new_page()
        opened(other, whole[0])
        bo = Reviewer(other)
        bo.opens()
        lost = bo.number
        assert lost != first
        opened(page, whole[0])  # ada reloads the page
        ada.opens()
        assert ada.number == first
        for digit in "123":
            assert ada.number != lost
            ada.presses(digit)
        expect(page.locator("#review-picture")).to_contain_text("1 are with others.")
    clock.now += HELD_SECONDS  # and bo's browser has crashed
    ada.presses("Look again")
    assert ada.number == lost
    ada.presses("4")
    assert sorted(one.label for one in queue.reviewed()) == [1, 2, 3, 4]


def test_who_was_away_too_long_is_told_that_somebody_else_has_it(
    page: Page, queue: ReviewQueue, clock: Clock
) -> None:
    keep_uploads(page, queue)
    ada = Reviewer(page)
    ada.opens()
    number = ada.number
    clock.now += HELD_SECONDS
    entry = queue.take("bo")
    assert entry is not None
    assert entry.number == number
    ada.presses("4")
    expect(page.locator("#review-picture .note")).to_contain_text("Somebody else had taken that image")
    assert ada.number != number
    assert queue.progress().reviewed == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tab_fits_the_screen_and_is_accessible(
    page: Page, queue: ReviewQueue, whole: tuple[str, ReviewQueue], scheme: Scheme
) -> None:
    page.emulate_media(color_scheme=scheme)
    opened(page, whole[0])
    assert_sound(page)
    keep_uploads(page, queue)
    assert_sound(page)
    reviewer = Reviewer(page)
    reviewer.opens()
    assert reviewer.number
    page.get_by_role("button", name="Export what was reviewed").click()
    assert_sound(page)
    for digit in "1234":
        reviewer.presses(digit)
    page.get_by_role("button", name="Prepare the download").click()
    expect(page.get_by_role("link", name="Download reviewed.zip")).to_be_visible()
    assert_sound(page)


def test_every_button_is_reached_by_tab_and_shows_that_it_is(page: Page, queue: ReviewQueue) -> None:
    keep_uploads(page, queue)
    reviewer = Reviewer(page)
    reviewer.opens()
    assert reviewer.number
    buttons = page.locator("#review button:visible:not(:disabled)")
    left = {one.inner_text() for one in buttons.all()}
    assert {"0", "9", "No digit", "Skip", "Oldest first"} <= left
    page.locator("[role=tab][aria-selected=true]").focus()
    for _ in range(30):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "[document.activeElement.textContent, getComputedStyle(document.activeElement).outlineStyle]"
        )
        if focused[0] in left:
            assert focused[1] != "none"
            left.discard(focused[0])
    assert left == set()
