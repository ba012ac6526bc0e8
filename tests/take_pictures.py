"""Takes the pictures of the page for the documentation: `python tests/take_pictures.py [--out FOLDER]`."""

import argparse
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from browser import (
    READY,
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
from PIL import Image
from playwright.sync_api import Browser, FloatRect, Page, expect
from serving import archive, free_port

from bnn.app import Address, served
from bnn.app.examples import DIGITS, examples
from bnn.classifier import Classifier
from bnn.data.pen import Stroke, Strokes

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
COLOURS = 64  # of each picture, which makes it small
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
FILM_SCREEN, FILM_WIDTH = (1080, 800), 800  # pixels: how it is taken, and how wide it becomes
STEP = 0.1  # of the pad's side, which the hand moves between two frames
MOVING, PAUSE, HOLD = 50, 200, 1000  # ms that a frame is shown
TURN = 15  # degrees between two frames
CLOSING: Strokes = [[(0.38, 0.2), (0.55, 0.21)]]  # which leaves open whether a 4 is a 9
LETTER: Strokes = [[(0.35, 0.2), (0.35, 0.8)], [(0.65, 0.2), (0.37, 0.5), (0.66, 0.8)]]  # K


def main(arguments: Sequence[str] | None = None) -> None:
    """Takes all pictures of the checkpoint that ships."""
    parser = argparse.ArgumentParser(description="Takes the pictures of the page for the documentation.")
    parser.add_argument("--out", type=Path, default=PICTURES, help="the folder they are written to")
    out: Path = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    address = Address(port=free_port())
    with served(Classifier.load(), address), chromium() as browser:
        for screen in SCREENS:
            for scheme in SCHEMES:
                take_tabs(browser, address.url, screen, scheme, out)
        take_hero(browser, address.url, out / "hero.png")
        film(browser, address.url, out / "demo.gif")


def take_tabs(browser: Browser, url: str, screen: str, scheme: Scheme, out: Path) -> None:
    """Takes each tab as `SCREEN-SCHEME-TAB.png` with something in it, that for many images empty too."""
    with browser.new_context(**SCREENS[screen], color_scheme=scheme) as context:
        page = opened(context.new_page(), url)
        name = f"{screen}-{scheme}"
        draw(page, Finger(page) if screen == "phone" else page.mouse, DIGITS["4"])
        expect(headline(page)).to_have_text("4", timeout=SLOW)
        save(page.screenshot(animations="disabled"), out / f"{name}-draw.png")
        open_tab(page, "Many images")
        expect(page.get_by_role("button", name="Choose images")).to_be_visible()
        save(page.screenshot(animations="disabled"), out / f"{name}-many-empty.png")
        files = {f"{example.name}.png": png(example.image) for example in examples()}
        upload(page, {"examples.zip": archive(files)})
        expect(page.locator("#table tbody tr").first).to_be_visible(timeout=SLOW)
        save(page.screenshot(animations="disabled"), out / f"{name}-many.png")
        open_tab(page, "Trust")
        expect(page.locator("#figures svg.plot")).to_have_count(3)
        save(page.screenshot(animations="disabled"), out / f"{name}-trust.png")


def take_hero(browser: Browser, url: str, path: Path) -> None:
    """Takes the tab to draw on, down to the examples."""
    with browser.new_context(**SCREENS["wide"]) as context:
        page = opened(context.new_page(), url)
        draw(page, page.mouse, DIGITS["4"])
        expect(headline(page)).to_have_text("4", timeout=SLOW)
        save(page.screenshot(clip=above_examples(page, top=0)), path)


def film(browser: Browser, url: str, path: Path) -> None:
    """An animation: a 4 is drawn and made ambiguous, a letter is refused, a 6 is turned into a 9."""
    width, height = FILM_SCREEN
    with browser.new_context(viewport={"width": width, "height": height}) as context:
        taken = Film(opened(context.new_page(), url))
        taken.hold(PAUSE)
        taken.draw(DIGITS["4"])
        taken.hold(HOLD)
        taken.draw(CLOSING)
        taken.hold(HOLD)
        taken.clear()
        taken.draw(LETTER)
        taken.hold(HOLD)
        taken.clear()
        taken.draw(DIGITS["6"])
        taken.hold(PAUSE)
        taken.turn()
        taken.hold(HOLD)
        taken.save(path)


class Film:
    """Frames of the pad, the verdict and the votes."""

    def __init__(self, page: Page) -> None:
        self._page = page
        pad = page.locator("#pad").bounding_box()
        assert pad is not None
        self._clip = above_examples(page, top=pad["y"])
        self._frames: list[Image.Image] = []
        self._durations: list[int] = []

    def hold(self, duration: int) -> None:
        """Takes a frame that is shown for `duration` ms."""
        frame = Image.open(io.BytesIO(self._page.screenshot(clip=self._clip, animations="disabled")))
        size = (FILM_WIDTH, round(FILM_WIDTH * frame.height / frame.width))
        self._frames.append(frame.convert("RGB").resize(size, Image.Resampling.LANCZOS))
        self._durations.append(duration)

    def draw(self, strokes: Strokes) -> None:
        for stroke in strokes:
            with judged(self._page):
                draw(self._page, self._page.mouse, [finer(stroke)], lambda: self.hold(MOVING))
            self.hold(PAUSE)

    def clear(self) -> None:
        with judged(self._page):
            self._page.get_by_role("button", name="Clear").click()
        self.hold(PAUSE)

    def turn(self) -> None:
        for angle in range(TURN, 180 + TURN, TURN):
            with judged(self._page):
                self._page.get_by_label("Turn it").fill(str(angle))
            self.hold(3 * MOVING)

    def save(self, path: Path) -> None:
        palette = few_colours(self._frames[-1])  # one for all, so that only what changes is stored
        first, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self._frames]
        first.save(path, save_all=True, append_images=others, duration=self._durations, loop=0)


def opened(page: Page, url: str) -> Page:
    """`page` at `url`, ready to be used."""
    page.set_default_timeout(SLOW)
    page.goto(url)
    page.locator(READY).wait_for()
    return page


@contextmanager
def judged(page: Page) -> Iterator[None]:
    """Waits until what was drawn within is judged: the networks then saw something else."""
    seen = "document.querySelector('#evidence .seen').outerHTML"
    before = page.evaluate(seen)
    yield
    page.wait_for_function(f"before => {seen} !== before", arg=before)


def above_examples(page: Page, top: float) -> FloatRect:
    """The page's part from `top` to where the examples begin."""
    box = page.locator("#examples").bounding_box()
    size = page.viewport_size
    assert box is not None
    assert size is not None
    return {"x": 0, "y": top, "width": size["width"], "height": box["y"] - top}


def finer(stroke: Stroke) -> Stroke:
    """`stroke` with places on the way, no more than `STEP` from one to the next."""
    places = [stroke[0]]
    for x, y in stroke[1:]:
        left, top = places[-1]
        steps = math.ceil(math.dist((left, top), (x, y)) / STEP)
        places += [(left + (x - left) * i / steps, top + (y - top) * i / steps) for i in range(1, steps + 1)]
    return places


def few_colours(image: Image.Image) -> Image.Image:
    """`image` with a palette of `COLOURS`."""
    return image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


def save(screenshot: bytes, path: Path) -> None:
    """Writes a screenshot as a small PNG file."""
    few_colours(Image.open(io.BytesIO(screenshot))).save(path, optimize=True)


if __name__ == "__main__":
    main()
