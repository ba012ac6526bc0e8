"""The pad to draw on, with pen, eraser, undo and turning.

Gradio's own editor uploads a file for every change; this one hands the drawing over as a short text.
"""

import base64
import io
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from bnn.data.pen import BRUSH, SIZE
from bnn.data.pictures import PNG_URL, png_url
from bnn.data.preprocess import open_stream
from bnn.errors import InputError

MOST_CHARACTERS = 400_000  # of a drawing handed over; scribbled all over it has a tenth of that
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HERE = Path(__file__).parent


def pad(sample: Image.Image, elem_id: str) -> gr.HTML:
    """A square white pad for mouse, touch and pen.

    Its value is the drawing, black on white, as `drawing` reads it. The event `input` comes after every
    change.

    Args:
        sample: what is turned when a visitor turns the empty pad.
        elem_id: of the element in the page.
    """
    return gr.HTML(
        "",
        html_template=(_HERE / "pad.html").read_text(encoding="utf-8"),
        js_on_load=(_HERE / "pad.js").read_text(encoding="utf-8"),
        elem_id=elem_id,
        brush=BRUSH,
        sample=png_url(sample),
    )


def drawing(value: Any) -> Image.Image | None:
    """The grey image of `SIZE`×`SIZE` in a pad's value, a PNG data URL; None where nothing is drawn.

    Raises:
        InputError: it holds none.
    """
    if not value:
        return None
    if not isinstance(value, str) or not value.startswith(PNG_URL):
        raise InputError("a drawing must be a PNG image as a data URL.")
    if len(value) > MOST_CHARACTERS:
        raise InputError(f"a drawing may have {MOST_CHARACTERS:,} characters, and this has {len(value):,}.")
    try:
        packed = base64.b64decode(value.removeprefix(PNG_URL), validate=True)
    except ValueError as error:
        raise InputError("a drawing's data URL holds no base64.") from error
    if not packed.startswith(_SIGNATURE):
        raise InputError("a drawing must be a PNG image as a data URL.")
    image = open_stream(io.BytesIO(packed), "the drawing", SIZE * SIZE)
    if image.size != (SIZE, SIZE):
        raise InputError(f"a drawing must have {SIZE}×{SIZE} pixels, not {image.width}×{image.height}.")
    return image.convert("L")
