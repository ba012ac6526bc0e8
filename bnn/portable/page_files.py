"""A page that needs no server: beside the ONNX files, what shows them in any browser.

The page's own scripts lie in the folder `page`; the pad is that of the served page. What runs ONNX there is
onnxruntime-web, some 14 MB that are not part of this project: whoever exports names a folder of it.
"""

import hashlib
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template

from bnn.data.pen import BRUSH, arc, render
from bnn.data.pictures import png_url
from bnn.data.preprocess import INK
from bnn.errors import InputError
from bnn.files import require_free, written_whole

VERSION = "1.30.0"  # of onnxruntime-web
RUNTIME = {  # its files that are needed, by their SHA-256
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
_HERE = Path(__file__).parent / "page"
_PAD = Path(__file__).parents[1] / "app"  # where the served page has its pad
_SCRIPTS = ("page.js", "ink.js", "words.js", "page.css")


def page_files(runtime: Path, layout: str = INK) -> Mapping[str, bytes]:
    """The page's files by name, but for what `bnn.portable.onnx_files.export_onnx` writes.

    Args:
        runtime: the unpacked npm package onnxruntime-web.
        layout: of the classifier's task.

    Raises:
        InputError: it is not that, or not of the version `VERSION`, or drawings have another layout.
    """
    if layout != INK:
        raise InputError(
            f"a page lays drawings out as {INK!r} alone, and this checkpoint was trained on {layout!r}: "
            "export without a page (--page)."
        )
    given = {name: runtime / "dist" / name for name in RUNTIME}
    contents = {name: path.read_bytes() for name, path in given.items() if path.is_file()}
    wrong = [name for name in RUNTIME if _digest(contents.get(name, b"")) != RUNTIME[name]]
    if wrong:
        raise InputError(
            f"{runtime} is not the package onnxruntime-web {VERSION} ({wrong[0]} is missing or another): get "
            f"it by `npm pack onnxruntime-web@{VERSION}`, unpack that, and name its folder package."
        )
    own = {name: (_HERE / name).read_bytes() for name in _SCRIPTS}
    return {"index.html": _index().encode(), "pad.js": _pad().encode(), **own, **contents}


def require_free_page(folder: Path, files: Mapping[str, bytes], *, overwrite: bool) -> None:
    """Checks, before long work, that `files` can be written; raises InputError as `require_free`."""
    for name in files:
        require_free(folder / name, overwrite=overwrite)


def write_page(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the `files` of `page_files` into `folder`, the page itself last."""
    for name in sorted(files, key=lambda name: name == "index.html"):
        with written_whole(folder / name) as path:
            path.write_bytes(files[name])


def _index() -> str:
    sample = render([arc(0.5, 0.5, 0.2, 0.3, 0, 360)])  # is turned when the empty pad is
    return Template((_HERE / "index.html").read_text(encoding="utf-8")).substitute(
        brush=BRUSH,
        sample=escape(png_url(sample)),
        pad=(_PAD / "pad.html").read_text(encoding="utf-8").rstrip(),
    )


def _pad() -> str:
    """The served page's pad as a module: what Gradio hands to it are arguments here."""
    script = (_PAD / "pad.js").read_text(encoding="utf-8")
    return f"export function pad(element, props, trigger) {{\n{script}}}\n"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
