"""Images and their classes in one file: a CSV of pixels, or an .npz of arrays.

Pixels are whole numbers from 0 to 255, or fractions from 0 to 1 where none is larger.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnn.data.archives import DAMAGED
from bnn.errors import InputError, cause_in, shown

LABEL = "label"  # the head of a CSV's column of classes; without heads it is the first
TABLES = (".csv", ".npz")
_ARRAYS = ("images", "labels")  # of an .npz; names of the classes may stand beside them
_NAMES = "names"


class Table(NamedTuple):
    """Images with the names of their classes.

    Attributes:
        images: (N, H, W), or (N, H, W, 3) and such in colour, uint8 or float32 in [0, 1].
        labels: the name of each image's class, N of them.
        names: of all classes, in their order.
        places: where in the file each image stands, such as "line 7".
    """

    images: NDArray[Any]
    labels: Sequence[str]
    names: Sequence[str]
    places: Sequence[str]


def is_table(path: str | Path) -> bool:
    """Whether `path` has the ending of a file that `read_table` reads."""
    return Path(path).suffix.lower() in TABLES


def read_table(path: Path) -> Table:
    """The images in a CSV or an .npz.

    A CSV has a line an image, all of one square size: its class, and its pixels row by row. The class stands
    under the head "label", or first where there are no heads. An .npz has `images` (N, H, W), or (N, 784),
    and `labels` (N,), names or whole numbers; with `names` (C,), labels are numbers from 0 to C − 1.

    Raises:
        InputError: it cannot be read, holds no images, or a pixel or a label cannot be used.
    """
    try:
        return _read_csv(path) if path.suffix.lower() == ".csv" else _read_npz(path)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}: name one that is there.") from error
    except InputError:
        raise
    except (OSError, csv.Error, *DAMAGED) as error:
        raise InputError(f"{path} cannot be read ({cause_in(error)}): take another copy of it.") from error


def in_order(names: Sequence[str]) -> list[str]:
    """`names`, each once, as labels are dealt out: numbers by their size, and then words by the alphabet."""
    return sorted(
        set(names), key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)
    )


def _read_csv(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = ((reader.line_num, cells) for reader in [csv.reader(stream)] for cells in reader if cells)
        column, lines = _label_column(path, rows)
        labels, pixels, places = [], [], []
        for line, cells in lines:
            places.append(f"line {line}")
            labels.append(cells[column].strip() if column < len(cells) else "")
            pixels.append(_numbers(path, line, cells[:column] + cells[column + 1 :]))
            if len(pixels[-1]) != len(pixels[0]):
                raise InputError(
                    f"line {line} of {path} has {len(pixels[-1])} pixels, and the first image has "
                    f"{len(pixels[0])}: give all images one size."
                )
    if not pixels:
        raise InputError(f"{path} holds no images: give a line each.")
    return _table(path, np.stack(pixels), labels, in_order(labels), places)


def _label_column(
    path: Path, rows: Iterator[tuple[int, list[str]]]
) -> tuple[int, Iterator[tuple[int, list[str]]]]:
    """Where in a line its class stands, and the lines that are no heads."""
    first = next(rows, None)
    if first is None:
        raise InputError(f"{path} is empty: give a line an image, its class and its pixels.")
    heads = [cell.strip().lower() for cell in first[1]]
    if LABEL in heads:
        return heads.index(LABEL), rows
    if all(map(_is_number, heads[1:])):
        return 0, (row for part in ([first], rows) for row in part)
    raise InputError(f"{path} has heads, none of which is {LABEL!r}: call the column of the classes so.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(path: Path, line: int, cells: Sequence[str]) -> NDArray[np.float32]:
    try:
        return np.array(cells, dtype=np.str_).astype(np.float32)
    except ValueError as error:
        strange = next((cell for cell in cells if not _is_number(cell)), "")
        raise InputError(f"line {line} of {path} has {shown(strange)} for a pixel: give numbers.") from error


def _read_npz(path: Path) -> Table:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:  # unpickles nothing
            if missing := next((name for name in _ARRAYS if name not in arrays), None):
                raise InputError(f"{path} has no array {missing!r}: name its arrays images and labels.")
            images, labels = (arrays[name] for name in _ARRAYS)
            names = arrays.get(_NAMES)
    except InputError:
        raise
    except (ValueError, TypeError, AttributeError) as error:  # of objects, which are not unpickled, for one
        raise InputError(f"{path} cannot be read as an .npz of plain arrays ({cause_in(error)}).") from error
    if images.dtype.kind not in "uifb" or images.ndim < 2 or not images.size:
        raise InputError(
            f"the images in {path} are {images.dtype} {images.shape}: give numbers, (N, height, width)."
        )
    if labels.shape != images.shape[:1]:
        raise InputError(
            f"{path} has {len(images)} images and labels of shape {labels.shape}: give one label an image."
        )
    said = _words(path, labels, names)
    order = in_order(said) if names is None else [str(name).strip() for name in names.tolist()]
    return _table(path, images, said, order, [f"image {index}" for index in range(len(images))])


def _words(path: Path, labels: NDArray[Any], names: NDArray[Any] | None) -> list[str]:
    """The name of each label's class."""
    if names is None and labels.dtype.kind in "iuU":
        return [str(label).strip() for label in labels.tolist()]
    if names is None or labels.dtype.kind not in "iu" or names.ndim != 1:
        raise InputError(
            f"the labels in {path} are {labels.dtype}: give names, or whole numbers (with an array of names, "
            "from 0 on)."
        )
    outside = (labels < 0) | (labels >= len(names))
    if outside.any():
        raise InputError(
            f"image {int(outside.argmax())} in {path} has the label {labels[outside][0]}, and its names go "
            f"from 0 to {len(names) - 1}: correct either."
        )
    return [str(names[label]).strip() for label in labels.tolist()]


def _table(
    path: Path, pixels: NDArray[Any], labels: Sequence[str], names: Sequence[str], places: Sequence[str]
) -> Table:
    """`pixels` (N, P) or (N, H, W) and so on, of any numbers, as images."""
    if (
        empty := next((place for place, label in zip(places, labels, strict=True) if not label), None)
    ) is not None:
        raise InputError(f"{empty} of {path} has no label: name its class.")
    if pixels.ndim == 2:
        side = math.isqrt(pixels.shape[1])
        if not side or side * side != pixels.shape[1]:
            raise InputError(
                f"the images in {path} have {pixels.shape[1]} pixels, and none are square with so many (784 "
                "are 28 by 28): give all pixels, row by row."
            )
        pixels = pixels.reshape(-1, side, side)
    return Table(_scaled(path, pixels, places), labels, names, places)


def _scaled(path: Path, pixels: NDArray[Any], places: Sequence[str]) -> NDArray[Any]:
    """`pixels` as uint8, or where none is above 1, as float32."""
    each = pixels.reshape(len(pixels), -1)
    with np.errstate(invalid="ignore"):
        usable = ((each >= 0) & (each <= 255)).all(1)  # NaN is not
    if not usable.all():
        raise InputError(
            f"{places[int((~usable).argmax())]} of {path} has a pixel that is NaN or not from 0 to 255: "
            "correct it."
        )
    if each.max() <= 1:
        return np.asarray(pixels, np.float32)
    if (each != np.rint(each)).any():
        raise InputError(
            f"{path} has pixels above 1 that are not whole: give whole numbers from 0 to 255, or fractions "
            "from 0 to 1."
        )
    return np.asarray(pixels, np.uint8)
