"""`bnn export`: the classifier for programs that have no Python, as ONNX."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from bnn.classifier import Classifier
from bnn.portable.onnx_files import ENSEMBLE, export_onnx, require_onnx
from bnn.tables import table


def export_command(path: Path | None, folder: Path, *, half: bool = False, overwrite: bool = False) -> int:
    """Writes the checkpoint at `path` as ONNX into `folder`, and prints how near it is to the original.

    Args:
        path: the checkpoint; None for the one that ships.
        folder: where the files go.
        half: whether weights are stored in half precision.
        overwrite: whether files that are there already are replaced.

    Returns:
        The exit status, 0.

    Raises:
        InputError: as `bnn.portable.onnx_files.export_onnx`; nothing is written then.
    """
    require_onnx()
    console = Console()
    with console.status("writing it as ONNX, and holding that against the original", spinner="line"):
        about = export_onnx(Classifier.load(path), folder, half=half, overwrite=overwrite)
    _tell(console, folder, about)
    return 0


def _tell(console: Console, folder: Path, about: dict[str, Any]) -> None:
    checked, tolerance = about["checked"], about["tolerance"]
    shown = table("held against the original", "on", "off by at most", "allowed")
    on = f"{checked['images']:,} generated images"
    shown.add_row("probabilities", on, f"{checked['probs']:.2g}", f"{tolerance['probs']:g}")
    shown.add_row("measures", on, f"{checked['measures']:.2g}", f"{tolerance['measures']:g}")
    near = f"{checked['near']}, near a threshold"
    shown.add_row("decisions", on, f"{checked['otherwise']} images", near)
    shown.add_row("the rule", f"{checked['calibration']:,} calibration images", "0 images", "0")
    console.print(shown)
    size = about["files"][ENSEMBLE]["bytes"] / 1e6
    for sentence in (about["promise"], f"Wrote {folder} ({ENSEMBLE}: {size:.1f} MB)."):
        console.print(Text(sentence), soft_wrap=True)
