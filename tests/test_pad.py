"""The pad's value: a drawing handed over as a short text, and every way in which that can be none."""

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from bnn.app.examples import SAMPLE
from bnn.app.pad import MOST_CHARACTERS, drawing
from bnn.data.pen import BRUSH, SIZE, render
from bnn.data.pictures import png_url
from bnn.errors import InputError

PREFIX = "data:image/png;base64,"


def url(content: bytes) -> str:
    return PREFIX + base64.b64encode(content).decode("ascii")


def file_of(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def scribble(seed: int, strokes: int = 8) -> Image.Image:
    image = Image.new("L", (SIZE, SIZE), 255)
    pen, places = ImageDraw.Draw(image), np.random.default_rng(seed).integers(0, SIZE, (strokes, 4))
    for stroke in places.tolist():
        pen.line(stroke, fill=0, width=BRUSH)
    return image


def bomb(side: int) -> bytes:
    """A small PNG that says it has side × side pixels, and has them."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
def test_a_drawing_comes_back_bit_for_bit(seed: int, strokes: int) -> None:
    image = scribble(seed, strokes)
    again = drawing(png_url(image))
    assert again is not None
    assert np.array_equal(np.asarray(again), np.asarray(image))


def test_a_canvas_gives_colours_that_are_all_grey() -> None:
    image = scribble(0)
    again = drawing(url(file_of(image.convert("RGBA"))))
    assert again is not None
    assert again.mode == "L"
    assert np.array_equal(np.asarray(again), np.asarray(image))


def test_noise_on_every_pixel_is_too_long_and_strokes_all_over_are_not() -> None:
    assert len(png_url(scribble(0, 500))) < MOST_CHARACTERS / 2
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 4), np.uint8)
    with pytest.raises(InputError, match=rf"may have {MOST_CHARACTERS:,} characters, and this has \d"):
        drawing(png_url(Image.fromarray(noise)))


@pytest.mark.parametrize("value", [None, ""])
def test_nothing_drawn_is_no_drawing(value: str | None) -> None:
    assert drawing(value) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "must be a PNG image as a data URL"),
        (float("nan"), "must be a PNG image as a data URL"),
        (True, "must be a PNG image as a data URL"),
        ([PREFIX], "must be a PNG image as a data URL"),
        ({"path": "/etc/passwd"}, "must be a PNG image as a data URL"),
        (b"bytes", "must be a PNG image as a data URL"),
        ("/etc/passwd", "must be a PNG image as a data URL"),
        ("http://example.org/a.png", "must be a PNG image as a data URL"),
        ("data:text/html;base64,AAAA", "must be a PNG image as a data URL"),
        (f" {PREFIX}AAAA", "must be a PNG image as a data URL"),
        (f"{PREFIX}A", "no base64"),
        (f"{PREFIX}AAA\n", "no base64"),
        (f"{PREFIX}<script>", "no base64"),
        (f"{PREFIX}ÄÄÄÄ", "no base64"),
        (PREFIX, "must be a PNG image as a data URL"),
        (url(b"words"), "must be a PNG image as a data URL"),
        (url(file_of(scribble(0))[:300]), "the drawing cannot be read"),
        (url(file_of(Image.new("L", (SIZE, SIZE)), "JPEG")), "must be a PNG image as a data URL"),
        (url(file_of(Image.new("L", (SIZE, SIZE - 1)))), f"not {SIZE}×{SIZE - 1}"),
        (url(file_of(Image.new("L", (SIZE // 2, SIZE * 2)))), f"not {SIZE // 2}×{SIZE * 2}"),
        (url(file_of(Image.new("L", (1, 1)))), "not 1×1"),
        (url(bomb(12_000)), "more than 160,000 pixels"),
        (PREFIX + "A" * MOST_CHARACTERS, f"may have {MOST_CHARACTERS:,} characters"),
    ],
)
def test_what_is_no_drawing_is_told_in_one_sentence(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*\.$"):
        drawing(value)


@given(flips=st.dictionaries(st.integers(0, 10**4), st.integers(0, 255), max_size=6))
def test_a_damaged_drawing_is_a_drawing_or_one_sentence(flips: dict[int, int]) -> None:
    content = bytearray(file_of(render(SAMPLE)))
    for place, byte in flips.items():
        content[place % len(content)] = byte
    try:
        image = drawing(url(bytes(content)))
    except InputError:
        return
    assert image is not None
    assert (image.mode, image.size) == ("L", (SIZE, SIZE))
