"""The control that takes files: chosen, dropped, whole folders, or a sample to try.

Gradio's own takes either files or a folder, and its drop no folder at all; this one takes what there is, and
keeps the names that files have within their folder.
"""

import base64
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from bnn.app.examples import Example
from bnn.app.uploads import MOST_BYTES_TOGETHER, MOST_IMAGES, MOST_NAME, SavedFile, Unusable
from bnn.data.archives import CLUTTER, MOST_BYTES
from bnn.data.pictures import framed
from bnn.errors import InputError

SAMPLE_SIDE = 112  # pixels of an image in the sample archive, which the page carries with it
_LIMITS = (
    f"PNG, JPEG and other images, in folders and zip archives too: up to {MOST_IMAGES:,} of up to "
    f"{MOST_BYTES // 10**6} MB each. They are deleted within 20 minutes."
)
_NOT_UPLOADED = "it could not be uploaded: it may be too large, or unreadable."
_HERE = Path(__file__).parent


def files_choice(sample: bytes, elem_id: str) -> gr.HTML:
    """A control for image files, folders and archives.

    Its value is what was uploaded, as `uploaded` reads it. The event `input` comes when all is there.

    Args:
        sample: a zip archive that visitors may try or download.
        elem_id: of the element in the page.
    """
    return gr.HTML(
        [],
        html_template=(_HERE / "files.html").read_text(encoding="utf-8"),
        js_on_load=(_HERE / "files.js").read_text(encoding="utf-8"),
        elem_id=elem_id,
        limits=_LIMITS,
        sample=data_url("application/zip", sample),
        clutter=CLUTTER,
        most=MOST_IMAGES,
        most_bytes=MOST_BYTES_TOGETHER,
        longest=MOST_NAME,
    )


def uploaded(value: Any) -> list[SavedFile | Unusable]:
    """The files in the control's value, a list of {"name", "path"}; without a path those that failed.

    The paths are whatever the browser says: `gradio_private.Page` lets none pass but those of uploads.

    Raises:
        InputError: it holds something else.
    """
    if not isinstance(value, list | None):
        raise InputError("uploads must be a list of files.")
    return [_file(one) for one in value or []]


def sample_archive(examples: Iterable[Example]) -> bytes:
    """A zip archive of `examples`, a folder for each group."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for example in examples:
            entry = zipfile.ZipInfo(
                f"{example.group}/{example.name}.png"
            )  # of no date: always the same bytes
            archive.writestr(entry, _small_png(example.image))
    return stream.getvalue()


def data_url(kind: str, content: bytes) -> str:
    """`content` of the MIME type `kind` as text that a page can hold."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _file(one: Any) -> SavedFile | Unusable:
    match one:
        case {"name": str(name), "path": str(path)}:
            return SavedFile(path, name)
        case {"name": str(name), **others} if "path" not in others:
            return Unusable(name, _NOT_UPLOADED)
    raise InputError("an upload must have a name and a path.")


def _small_png(image: Image.Image) -> bytes:
    """`image` made smaller, with the white edge that drawings get, so that both are judged alike."""
    small = image.resize((SAMPLE_SIDE, SAMPLE_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    framed(small).save(stream, "PNG")
    return stream.getvalue()
