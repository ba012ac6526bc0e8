"""`bnn export`: the classifier for programs that have no Python, as ONNX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from bnn.classifier import Classifier
from bnn.portable.onnx_files import ENSEMBLE, export_onnx, require_onnx
from bnn.portable.page_files import page_files, require_free_page, write_page
from bnn.tables import table

WHAT = {"probs": "probabilities", "entropies": "entropies (nats)", "scores": "scores"}  # is compared


def export_command(
    path: Path | None,
    folder: Path,
    *,
    half: bool = False,
    runtime: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Writes the checkpoint at `path` as ONNX into `folder`, and prints how near it is to the original.

    Args:
        path: the checkpoint; None for the one that ships.
        folder: where the files go.
        half: whether weights are stored in half precision.
        runtime: the unpacked npm package onnxruntime-web, where a page is wanted.
        overwrite: whether files that are there already are replaced.

    Returns:
        The exit status, 0.

    Raises:
        InputError: as `bnn.portable.onnx_files.export_onnx`, or the runtime is another, or the checkpoint is
            laid out otherwise than a drawing; nothing is written then.
    """
    require_onnx()
    classifier = Classifier.load(path)
    files = {} if runtime is None else page_files(runtime, classifier.task.layout)
    require_free_page(folder, files, overwrite=overwrite)
    console = Console()
    with console.status("writing it as ONNX, and holding that against the original", spinner="line"):
        about = export_onnx(classifier, folder, half=half, overwrite=overwrite)
    write_page(folder, files)
    _tell(console, folder, about)
    return 0


def _tell(console: Console, folder: Path, about: Mapping[str, Any]) -> None:
    checked, tolerance = about["checked"], about["tolerance"]
    shown = table("against the original", "images", "off by", "allowed")
    made = f"{checked['images']:,} generated"
    for what, allowed in tolerance.items():
        shown.add_row(WHAT[what], made, f"{checked[what]:.2g}", f"{allowed:g}")
    shown.add_row("decisions", made, str(checked["otherwise"]), f"{checked['near']} near a threshold")
    shown.add_row("the rule's decisions", f"{checked['calibration']:,} calibration", "0", "0")
    console.print(shown)
    size = about["files"][ENSEMBLE]["bytes"] / 1e6
    for sentence in (about["promise"], f"Wrote {folder} ({ENSEMBLE}: {size:.1f} MB)."):
        console.print(Text(sentence), soft_wrap=True)
