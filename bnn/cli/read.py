"""`bnn read`: the digits of pictures, their places, and the numbers that they make."""

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bnn.classifier import Classifier
from bnn.cli.predict import PIPED_WIDTH, complain, walked
from bnn.decisions import SIDES, digits_csv, plain_reading
from bnn.errors import InputError, shown
from bnn.files import printable, require_free, written_whole
from bnn.progress import tracked
from bnn.reading import Box, Reading, read

KINDS = (".csv", ".jsonl")

Readings = Iterable[tuple[Path, Reading]]


def read_command(
    classifier: Classifier,
    files: Sequence[Path],
    *,
    grid: str | None = None,
    boxes: Path | None = None,
    out: Path | None = None,
    overwrite: bool = False,
) -> bool:
    """`bnn read`: prints what each picture says, and writes the digits with their places to `out`.

    A file that cannot be used is named on standard error, and the others are done.

    Args:
        classifier: decides.
        files: image files and folders of them.
        grid: rows and columns of the pages' cells, such as 10x20.
        boxes: a CSV file of the cells' places.
        out: a CSV file, a line a digit, or JSON lines, a line a picture.
        overwrite: whether `out` is replaced where it is there already.

    Returns:
        Whether some file could not be used.

    Raises:
        InputError: grid, boxes or `out` cannot be used; nothing is read then.
    """
    cells = _grid(grid) if grid is not None else None
    places = _boxes(boxes) if boxes is not None else None
    if cells is not None and places is not None:
        raise InputError("give --grid or --boxes, not both.")
    if out is not None:
        _require_kind(out)
        require_free(out, overwrite=overwrite)
    found, failed = walked(files)
    readings = []
    for file in tracked(found, "reading", len(found)):
        try:
            readings.append((file, read(file, classifier, grid=cells, boxes=places)))
        except InputError as error:
            complain(InputError(f"{file}: {error}") if str(file) not in str(error) else error)
            failed.append(file)
    _print_table(readings)
    if out is not None:
        _write(out, readings)
    return bool(failed)


def _grid(text: str) -> tuple[int, int]:
    """Rows and columns, from such as 10x20."""
    rows, _, columns = text.lower().partition("x")
    try:
        return int(rows), int(columns)
    except ValueError as error:
        raise InputError(f"--grid takes rows and columns such as 10x20, and not {shown(text)}.") from error


def _boxes(path: Path) -> list[Box]:
    """The boxes in a CSV file with the heads left, top, right, bottom."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"the boxes in {path} cannot be read ({error}).") from error
    if not lines:
        raise InputError(f"{path} has no box: give lines of {','.join(SIDES)} under these heads.")
    return [_box(line, number, path) for number, line in enumerate(lines, 2)]


def _box(line: dict[str, str], number: int, path: Path) -> Box:
    try:
        left, top, right, bottom = (round(float(line[side])) for side in SIDES)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"line {number} of {path} is no box: give {','.join(SIDES)} in pixels, under these heads."
        ) from error
    return left, top, right, bottom


def _require_kind(out: Path) -> None:
    if out.suffix.lower() not in KINDS:
        raise InputError(f"{out} must end in {' or '.join(KINDS)}: that says how it is written.")


def _print_table(readings: Readings) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("number", no_wrap=True)
    table.add_column("reads", min_width=10, overflow="fold")
    table.add_column("why", min_width=10, overflow="fold")
    table.add_column("file", min_width=12, overflow="fold")
    for file, reading in readings:
        number = Text(reading.number or "I don't know")
        table.add_row(number, Text(reading.text), reading.reason, Text(printable(file)))
    if table.row_count:
        Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)


def _write(out: Path, readings: Readings) -> None:
    with written_whole(out) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        if out.suffix.lower() == ".csv":
            stream.write(digits_csv((str(file), reading) for file, reading in readings))
        else:
            plain = ({"file": str(file)} | plain_reading(reading) for file, reading in readings)
            stream.writelines(json.dumps(one) + "\n" for one in plain)
