"""Images in the rows of a Parquet file: image files as bytes, or pixels in a list or in columns."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnn.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 16  # rows that are unpacked together
MOST_GROUP = 2_000_000_000  # bytes of a row group's images: a column of one is unpacked page by page
_BUFFER = 1_000_000  # bytes that are read of a column at once
_NAMES = ("image", "images", "img", "bytes", "png", "jpg", "jpeg", "pixels")  # looked for first
_NO_PIXELS = r"(?i)(label|class|target|id|index|row|split|__.*)"  # names of columns of other numbers


class Column(NamedTuple):
    """The column, or columns, of the images: of bytes, of a struct with bytes, of lists, or a pixel each."""

    kind: str
    names: Sequence[str]


def count_rows(stream: BinaryIO) -> int:
    """How many rows the Parquet file in `stream` has.

    Raises:
        InputError: none of its columns holds images, or its row groups are too large.
    """
    import pyarrow.parquet as pq

    file = pq.ParquetFile(stream)
    column_of_images(file.schema_arrow)
    groups = (file.metadata.row_group(index) for index in range(file.num_row_groups))
    if any(group.total_byte_size > MOST_GROUP for group in groups):
        raise InputError(f"a row group of it has more than {MOST_GROUP // 10**9} GB: write smaller ones.")
    return int(file.metadata.num_rows)


def images_in(stream: BinaryIO, start: int, stop: int) -> Iterator[bytes | NDArray[Any] | None]:
    """What rows `start` to `stop` hold, one by one: an image file's bytes, an array, or None for nothing."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False)
    column = column_of_images(file.schema_arrow)
    ends = np.cumsum([file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)])
    groups = [index for index, end in enumerate(ends) if end > start and end - _rows(file, index) < stop]
    if not groups:
        return
    row = int(ends[groups[0]]) - _rows(file, groups[0])
    for batch in file.iter_batches(AT_ONCE, row_groups=groups, columns=list(column.names)):
        wanted = batch.slice(max(0, start - row), max(0, stop - max(row, start)))
        row += len(batch)
        if len(wanted):
            yield from _values(column, wanted)
        if row >= stop:
            return


def _rows(file: Any, group: int) -> int:
    return int(file.metadata.row_group(group).num_rows)


def column_of_images(schema: "pa.Schema") -> Column:
    """Where the images stand: by name, or the first column of bytes, of lists of numbers, or of pixels.

    Raises:
        InputError: nowhere.
    """
    fields = sorted(schema, key=lambda field: field.name.lower() not in _NAMES)
    for kind, fits in (("bytes", _is_binary), ("struct", _has_bytes), ("list", _is_list)):
        for field in fields:
            if fits(field.type):
                return Column(kind, [field.name])
    pixels = [
        field.name for field in schema if _is_number(field.type) and not re.fullmatch(_NO_PIXELS, field.name)
    ]
    if len(pixels) > 1 and math.isqrt(len(pixels)) ** 2 == len(pixels):
        return Column("pixels", pixels)
    raise InputError(
        "it has no column of images: give image files as bytes, lists of pixels, or a column a pixel of "
        "square images."
    )


def _is_binary(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _has_bytes(kind: Any) -> bool:
    """As Hugging Face's data sets have images: {"bytes": …, "path": …}."""
    import pyarrow.types as types

    return bool(types.is_struct(kind) and any(f.name == "bytes" and _is_binary(f.type) for f in kind))


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_number(kind.value_type) or _is_list(kind.value_type)
    return False


def _is_number(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_integer(kind) or types.is_floating(kind))


def _values(column: Column, batch: "pa.RecordBatch") -> Iterator[bytes | NDArray[Any] | None]:
    if column.kind == "pixels":
        pixels = np.stack([one.to_numpy(zero_copy_only=False) for one in batch.columns], 1)
        yield from (pixels_of(row) for row in pixels)
        return
    for cell in batch.column(0):
        value = cell.as_py()
        if column.kind == "struct" and value is not None:
            value = value["bytes"]
        yield _array_of(value) if column.kind == "list" and value is not None else value


def _array_of(value: list[Any]) -> NDArray[Any]:
    """A list of pixels, or of rows of them, as an image; of rows of several lengths comes none."""
    try:
        return pixels_of(np.asarray(value))
    except ValueError:
        return np.zeros(0)


def pixels_of(values: NDArray[Any]) -> NDArray[Any]:
    """An image's `values`, flat or (H, W): whole numbers are 0 to 255, fractions 0 to 1, or 0 to 255 as well.

    What is no image among them is left as it is, for whoever reads images to refuse.
    """
    if values.ndim == 1 and values.dtype.kind in "iuf" and math.isqrt(values.size) ** 2 == values.size:
        values = values.reshape(math.isqrt(values.size), -1)
    is_bytes = values.dtype.kind in "iu" or (values.dtype.kind == "f" and values.size and values.max() > 1)
    if is_bytes and values.min(initial=0) >= 0 and values.max(initial=0) <= 255:
        return values.astype(np.float32) / 255 if values.dtype.kind == "f" else values.astype(np.uint8)
    return values
