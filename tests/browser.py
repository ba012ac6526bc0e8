"""A real browser at the page: opening it, drawing with a mouse or a finger, reading the verdict."""

import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Locator, Mouse, Page, expect, sync_playwright

from bnn.data.pen import Strokes

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
SWITCHES = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
READY = "#pad canvas:not([aria-busy])"  # its script runs: an earlier stroke would be lost
TOUCHES, FELT = 3, 20_000  # of a pad that shows no ink, and ms after which it did not feel one
SLOW = 300_000  # ms that anything may take: no busy machine needs so long, only what would never come
SCREENS: dict[str, dict[str, Any]] = {  # what `Browser.new_context` takes
    "wide": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}


class Finger:
    """Touches a page as `page.mouse` clicks it."""

    def __init__(self, page: Page) -> None:
        self._touches = page.context.new_cdp_session(page)
        self._place, self._is_down = (0.0, 0.0), False

    def move(self, x: float, y: float) -> None:
        self._place = x, y
        if self._is_down:
            self._tell("touchMove", self._place)

    def down(self) -> None:
        self._is_down = True
        self._tell("touchStart", self._place)

    def up(self) -> None:
        self._is_down = False
        self._tell("touchEnd")

    def _tell(self, what: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y} for x, y in places]
        self._touches.send("Input.dispatchTouchEvent", {"type": what, "touchPoints": points})


class Stylus:
    """A pen that draws on a page as `page.mouse` does."""

    def __init__(self, page: Page) -> None:
        self._moves = page.context.new_cdp_session(page)
        self._place, self._buttons = (0.0, 0.0), 0

    def move(self, x: float, y: float) -> None:
        self._place = x, y
        self._tell("mouseMoved")

    def down(self) -> None:
        self._buttons = 1
        self._tell("mousePressed")

    def up(self) -> None:
        self._buttons = 0
        self._tell("mouseReleased")

    def _tell(self, what: str) -> None:
        x, y = self._place
        told = {"type": what, "x": x, "y": y, "button": "left", "buttons": self._buttons, "clickCount": 1}
        self._moves.send("Input.dispatchMouseEvent", told | {"pointerType": "pen"})


Hand = Mouse | Finger | Stylus


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that nobody sees."""
    with sync_playwright() as playwright:
        expect.set_options(timeout=SLOW)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES, timeout=SLOW)
        try:
            yield browser
        finally:
            browser.close()


def draw(page: Page, hand: Hand, strokes: Strokes, watch: Callable[[], object] = lambda: None) -> None:
    """Draws `strokes` on the pad; `watch` is called after every move of the hand."""
    pad = page.locator(READY)
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    assert box is not None
    for stroke in strokes:
        first, *others = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        _set_down(page, hand, first)
        for place in others:
            hand.move(*place)
            watch()
        hand.up()


def _set_down(page: Page, hand: Hand, place: tuple[float, float]) -> None:
    """Puts the hand down, on an empty pad until that shows ink.

    On a busy machine the first touch of a page just opened was lost once, and could not be lost again in 150
    tries to see where: who draws would touch again.
    """
    hint = page.locator("#pad .hint")
    for _ in range(TOUCHES):
        hand.move(*place)
        hand.down()
        with suppress(AssertionError):
            expect(hint).to_be_hidden(timeout=FELT)
            return
        hand.up()
    raise AssertionError(f"the pad did not feel {TOUCHES} touches at {place}.")


def headline(page: Page) -> Locator:
    """What the verdict says in large letters."""
    return page.locator("#verdict .headline")


def open_tab(page: Page, name: str) -> None:
    """Shows the tab of that name."""
    page.get_by_role("tab", name=name, exact=True).click()


def upload(page: Page, files: Mapping[str, bytes]) -> None:
    """Chooses `files`, their contents by name, on the tab for many images."""
    sent: list[FilePayload] = [
        {"name": name, "mimeType": "", "buffer": content} for name, content in files.items()
    ]
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose images").click()
    chooser.value.set_files(sent)


def drop(page: Page, target: Locator, paths: Sequence[Path]) -> None:
    """Drags the files and folders at `paths` from the desktop to the middle of `target`."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    assert box is not None
    drag = {
        "x": box["x"] + box["width"] / 2,
        "y": box["y"] + box["height"] / 2,
        "data": {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1},
    }
    devtools = page.context.new_cdp_session(page)
    for step in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": step, **drag})


def png(image: Image.Image) -> bytes:
    """The PNG file of `image`."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def assert_sound(page: Page) -> None:
    """No grave finding of axe, and nothing wider than the screen, once nothing fades in any more."""
    page.wait_for_function("document.getAnimations().every(one => one.playState !== 'running')", timeout=SLOW)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    found = Axe().run(page).response["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    seen = [(one["id"], node["html"]) for one in grave for node in one["nodes"]]
    assert not seen, seen
