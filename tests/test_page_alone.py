"""The page without a server, in Chromium: it sees, decides and says what the classifier does."""

import base64
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import numpy as np
import pytest

pytest.importorskip("playwright", reason="Playwright is not installed (extra `tests`)")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra `onnx`)")

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from browser import CHROMIUM, READY, SCREENS, SLOW, Finger, chromium, draw
from PIL import Image
from playwright.sync_api import Page, expect

from bnn.app.examples import DIGITS as EASY
from bnn.app.examples import examples
from bnn.app.words import verdict
from bnn.classifier import Classifier
from bnn.data.drawn import drawings
from bnn.data.pen import SIZE, Strokes, render
from bnn.data.pictures import png_url
from bnn.data.preprocess import read_images
from bnn.data.shapes import CAPITALS, DIGITS
from bnn.errors import InputError
from bnn.portable.onnx_files import export_onnx
from bnn.portable.page_files import RUNTIME, VERSION, page_files, write_page

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
NPM = shutil.which("npm")
PACKAGE = f"onnxruntime-web@{VERSION}"
PATIENCE = 300  # seconds that npm may take
LAID = "([pixels, size]) => import('./ink.js').then(({ laidOut }) => laidOut({ width: size, height: size, \
data: Float32Array.from(atob(pixels), (c) => c.charCodeAt(0) / 255) })).then(({ image, quality }) => \
[Array.from(image.data), quality])"
SHOWN = "(url) => new Promise((done) => { \
document.addEventListener('decided', (event) => done(event.detail), { once: true }); \
document.querySelector('#pad canvas').dispatchEvent(new CustomEvent('show', { detail: url })); })"
JUDGED: tuple[Strokes, ...] = (  # of which something is wrong, or nearly
    [[(0.1, 0.5), (0.12, 0.5)]],
    [[(0.02, 0.3), (0.02, 0.7)]],
    [[(0.5, 0.0), (0.5, 0.5)]],
    [[(0.3, 0.3), (0.3, 0.7)], [(0.7, 0.3), (0.7, 0.7)]],
    [[(0.4, 0.4), (0.52, 0.4)]],
    [[(0.4, 0.4), (0.6, 0.45)]],
    [[(0.5, 0.2), (0.5, 0.5)], [(0.5, 0.8), (0.5, 0.8)]],
)


def test_another_package_is_refused_with_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    for name in RUNTIME:
        (tmp_path / "dist" / name).write_bytes(b"another")
    with pytest.raises(InputError, match=rf"is not the package .*`npm pack {PACKAGE}`, unpack that, .*\.$"):
        page_files(tmp_path)


def test_a_checkpoint_of_another_layout_gets_no_page(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="export without a page"):
        page_files(tmp_path, "as-is")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """onnxruntime-web, from npm or npm's cache."""
    if CHROMIUM is None or NPM is None:
        pytest.skip("Chromium or npm is not installed")
    folder = tmp_path_factory.mktemp("npm")
    pack = [NPM, "pack", PACKAGE, "--prefer-offline", "--silent"]
    got = subprocess.run(pack, cwd=folder, capture_output=True, timeout=PATIENCE)
    if got.returncode:
        pytest.skip(f"npm cannot get {PACKAGE}")
    with tarfile.open(next(folder.glob("*.tgz"))) as packed:
        needed = [packed.getmember(f"package/dist/{name}") for name in RUNTIME]
        packed.extractall(folder, needed, filter="data")
    return folder / "package"


@pytest.fixture(scope="module")
def few() -> Classifier:
    """The classifier that ships, with so few networks that it is soon exported."""
    return Classifier.load(draws=3)


@pytest.fixture(scope="module")
def site(few: Classifier, runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    export_onnx(few, folder, half=True)
    write_page(folder, page_files(runtime))
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """`folder` as any static web server shows it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def outside(asked: str, url: str) -> list[str]:
    """What a page asks for, where it is neither of the host that shows it nor in the page itself."""
    return [] if asked.startswith((url, "data:")) else [asked]


@pytest.fixture(scope="module")
def shown(site: Path) -> Iterator[tuple[Page, list[str]]]:
    """The page on a phone, and what it asked for or complained of that it should not."""
    with hosted(site) as url, chromium() as browser:
        page = browser.new_context(**SCREENS["phone"]).new_page()
        page.set_default_timeout(SLOW)
        wrong: list[str] = []
        page.on("request", lambda sent: wrong.extend(outside(sent.url, url)))
        page.on("console", lambda said: wrong.extend([said.text] * (said.type == "error")))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(url)
        expect(page.locator("#headline")).to_have_text("Nothing drawn yet")
        yield page, wrong


pytestmark = pytest.mark.browser


def test_drawings_are_laid_out_as_bnn_lays_them_out(shown: tuple[Page, list[str]]) -> None:
    drawn = [one.picture() for one in (*drawings(DIGITS, 2)[::40], *drawings(CAPITALS, 2)[::40])]
    for picture in [*drawn, *map(render, JUDGED), render(EASY["4"], 12), Image.new("L", (SIZE, SIZE), 255)]:
        pixels = base64.b64encode(np.asarray(picture).tobytes()).decode()
        image, quality = shown[0].evaluate(LAID, [pixels, SIZE])
        read = read_images(picture)
        assert np.allclose(np.reshape(image, (28, 28)), read.images[0, 0].numpy(), atol=0.01)
        assert quality == read.quality[0]


def test_label_reason_and_words_are_the_classifiers(shown: tuple[Page, list[str]], few: Classifier) -> None:
    page, _ = shown
    for example in examples()[::3]:
        found = page.evaluate(SHOWN, png_url(example.image))
        said = few.predict(example.image)
        assert (found["label"], found["reason"]) == (said.labels[0], said.reasons[0]), example.name
        assert found["quality"] == said.quality[0]
        headline, explanation = verdict(said)
        expect(page.locator("#headline")).to_have_text(headline)
        if said.reasons[0] != "unfamiliar" or said.quality[0]:
            expect(page.locator("#explanation")).to_have_text(explanation)


def test_a_finger_draws_a_digit_and_nothing_outside_is_asked(shown: tuple[Page, list[str]]) -> None:
    page, wrong = shown
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#headline")).to_have_text("Nothing drawn yet")
    draw(page, Finger(page), EASY["3"])
    expect(page.locator("#headline")).to_have_text("3")
    expect(page.locator("#voices")).to_contain_text("of 3 networks say")
    assert page.locator(READY).bounding_box()["width"] <= SCREENS["phone"]["viewport"]["width"]  # type: ignore[index]
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page).response["violations"]
        assert not [one["id"] for one in found if one["impact"] in ("serious", "critical")], scheme
    assert wrong == []
