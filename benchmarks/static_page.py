"""What the page without a server weighs and takes: `python benchmarks/static_page.py FOLDER`.

FOLDER is what `bnn export --onnx FOLDER --half --page PACKAGE` wrote. It is shown by a web server on this
machine, opened in Chromium as on a phone, and given drawings. Times are those of the processor in the page's
thread, which hardly go by what else the machine does.
"""

import shutil
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread

from playwright.sync_api import CDPSession, Page, sync_playwright

from bnn.data.drawn import drawings
from bnn.data.pictures import png_url
from bnn.data.shapes import DIGITS

DRAWN = 30  # digits, after the first, at which the browser is still compiling
SLOW = 300_000  # ms that anything may take
SHOWN = (
    "(url) => new Promise((done) => {"
    " document.addEventListener('decided', () => done(), { once: true });"
    " document.querySelector('#pad canvas').dispatchEvent(new CustomEvent('show', { detail: url })); })"
)


def main(folder: Path) -> None:
    """Prints the size of each file and of all, and the time until the page is ready and for a drawing."""
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    for name, size in sizes.items():
        print(f"{size / 1e6:8.3f} MB  {name}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"], timeout=SLOW
        )
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.set_default_timeout(SLOW)
        measured(page, f"http://127.0.0.1:{server.server_port}/")
        browser.close()
    server.shutdown()


def measured(page: Page, url: str) -> None:
    """Opens the page at `url`, draws, and prints what both took."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
    loaded: list[float] = []
    page.on("response", lambda one: loaded.append(float(one.headers.get("content-length", 0))))
    page.goto(url)
    page.get_by_text("Nothing drawn yet").wait_for()
    print(f"{sum(loaded) / 1e6:8.1f} MB  fetched when it is first opened")
    print(f"{taken(devtools):8.1f} s   until it is ready")
    times = []
    for drawing in drawings(DIGITS, 0)[: DRAWN + 1]:
        before = taken(devtools)
        page.evaluate(SHOWN, png_url(drawing.picture()))
        times.append(taken(devtools) - before)
    print(f"{1000 * median(times[1:]):8.0f} ms  for a drawing, the median of {DRAWN}")


def taken(devtools: CDPSession) -> float:
    """Seconds of the processor that the page's thread has had."""
    metrics = devtools.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
