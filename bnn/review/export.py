"""What a review has come to, as files: a folder for each class, and a CSV of all labels."""

import csv
import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from bnn.core.task import are_digits
from bnn.decisions import as_text
from bnn.files import folder_written_whole
from bnn.review.entries import NO_DIGIT, Reviewed

CLASSES, LABELS = "labelled", "labels.csv"  # what the export has at its top, besides the next
NO_CLASS = ("no-digit", "none")  # of the ten digits, and of other classes
_HEADS = ("file", "name", "label", "reason", "quality", "added", "labelled")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip's entries have a date: always the same bytes


def exported(reviewed: Sequence[Reviewed], names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file of the export.

    They are `labelled/NAME/000001.png` for an image of a class, `no-digit/000001.png` for one of none (where
    classes are not the digits, `none/000001.png`), and `labels.csv`. Files are called by their images'
    numbers in the queue; visitors' names are in the CSV.

    Args:
        reviewed: images with labels.
        names: of the classes.
    """
    for one in reviewed:
        yield _path(one, names), _png(one)
    yield LABELS, _csv(reviewed, names).encode()


def write_folder(reviewed: Sequence[Reviewed], names: Sequence[str], out: Path) -> None:
    """Writes the export into a new folder, whole or not at all.

    Raises:
        InputError: something is at `out` already, or it cannot be written.
    """
    with folder_written_whole(out) as staged:
        for path, content in exported(reviewed, names):
            (staged / path).parent.mkdir(parents=True, exist_ok=True)
            (staged / path).write_bytes(content)


def zipped(reviewed: Sequence[Reviewed], names: Sequence[str]) -> bytes:
    """The export as a zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in exported(reviewed, names):
            archive.writestr(zipfile.ZipInfo(path, _EPOCH), content)
    return stream.getvalue()


def _path(one: Reviewed, names: Sequence[str]) -> str:
    file = f"{one.number:06d}.png"
    if one.label == NO_DIGIT:
        return f"{NO_CLASS[0] if are_digits(names) else NO_CLASS[1]}/{file}"
    return f"{CLASSES}/{_folder(names[one.label])}/{file}"


def _folder(name: str) -> str:
    """The folder of a class: its name, where that can be a folder's."""
    is_plain = not (set(name) & {"/", "\\", os.sep} or name.startswith("."))
    return name if is_plain else quote(name, safe="").replace(".", "%2E")


def _png(one: Reviewed) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(one.image).save(stream, "PNG")
    return stream.getvalue()


def _csv(reviewed: Sequence[Reviewed], names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_HEADS)
    for one in reviewed:
        label = "none" if one.label == NO_DIGIT else as_text(names[one.label])
        times = map(_time, (one.added, one.labelled))
        writer.writerow([_path(one, names), as_text(one.name), label, one.reason, one.quality, *times])
    return text.getvalue()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
