"""`make demo`, as a newcomer runs it, in a real browser."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="Playwright is not installed (extra `tests`)")

from browser import CHROMIUM, chromium, draw, headline
from playwright.sync_api import expect
from programs import PATIENCE, program
from serving import free_port

from bnn.app.examples import DIGITS

ROOT = Path(__file__).parent.parent

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.skipif(not (ROOT / ".venv" / "page").exists(), reason="needs the Makefile's environment"),
]


@pytest.fixture
def demo() -> Iterator[str]:
    """The address that `make demo` prints; at the end Ctrl-C must stop it cleanly."""
    with program(
        *("make", "demo", f"ARGS=--port {free_port()}"),
        cwd=ROOT,
        env=os.environ | {"BROWSER": "true"},  # the browser that `--open` opens: one that does nothing
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/?", line):
                yield found.group()
                break
        else:
            pytest.fail("".join(printed))
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in rest


def test_make_demo_brings_the_page_up_and_a_drawn_digit_is_read(demo: str) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(demo)
        draw(page, page.mouse, DIGITS["7"])
        expect(headline(page)).to_have_text("7", timeout=1000 * PATIENCE)
