"""Images by the million: loose files, zips, tars (WebDataset shards too), IDX and Parquet files.

A source is scanned once for how many rows it has, and then read from any row on, in the memory of one image.
What cannot be read is a row too, with the reason.
"""

import errno
import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from bnn.data import archives
from bnn.data.archives import DAMAGED, MOST_BYTES, TarMembers, require_small, require_unpackable
from bnn.data.columns import count_rows, images_in
from bnn.data.places import opened
from bnn.data.preprocess import MAX_PIXELS, Images, open_stream
from bnn.errors import InputError, cause_in
from bnn.files import printable

LOOSE, DAMAGED_SOURCE = "file", "damaged"  # kinds of sources besides those in `KINDS`
MOST_NAME = 1000  # characters of a member's name: an archive may claim 65,535
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif"),
    *(".tiff", ".webp", ".avif", ".heic", ".heif"),
)
# What a WebDataset shard has beside an image, under the same name: labels and descriptions.
BESIDE = (".cls", ".cls2", ".class", ".index", ".inx", ".id", ".count", ".json", ".jsn", ".txt", ".text")
_GZIP, _IDX_IMAGES, _IDX_HEAD = b"\x1f\x8b", b"\0\0\x08\x03", 16  # unsigned bytes in three dimensions
_PEEKED = 512  # bytes at the start of a file, by which its kind is told


class Item(NamedTuple):
    """An image of a source, or why it cannot be read.

    Attributes:
        name: what goes behind the source's, such as "/a.png" or "[7]".
        image: None where there is none.
        why: one sentence.
    """

    name: str
    image: Images | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that holds images, or is one.

    Attributes:
        place: path or URL.
        stamp: see `bnn.data.places.files_at`.
        kind: a name in `KINDS`, or `LOOSE`, or `DAMAGED_SOURCE`.
        rows: how many images, and what cannot be read, it holds.
        starts: where every so many rows start, in a tar archive.
        why: what is wrong with a damaged one.
    """

    place: str
    stamp: str
    kind: str = LOOSE
    rows: int = 1
    starts: Sequence[int] = ()
    why: str = ""


def scanned(place: str, stamp: str, every: int) -> Source:
    """The source at `place`, which is read in parts of `every` rows.

    Raises:
        InputError: the file cannot be opened.
    """
    if PurePosixPath(place).suffix.lower() in IMAGE_SUFFIXES:
        return Source(place, stamp)
    try:
        with opened(place) as stream:
            kind = _kind(stream)
            if kind == LOOSE:
                return Source(place, stamp)
            try:
                rows, starts = KINDS[kind].scan(stream, every)
            except Exception as error:
                why = f"the file is damaged: {_reason(error)}."
                return Source(place, stamp, DAMAGED_SOURCE, why=why)
    except OSError as error:
        raise InputError(f"{printable(place)} cannot be read ({cause_in(error)}).") from error
    return Source(place, stamp, kind, rows, starts)


def items(source: Source, start: int, stop: int, every: int) -> Iterator[Item]:
    """Rows `start` to `stop` of `source`, all of them, whatever becomes of the reading.

    Args:
        source: as it was scanned.
        start, stop: of the rows; `start` is a multiple of `every`.
        every: as it was scanned.

    Raises:
        OSError: the file cannot be reached.
    """
    if source.kind == DAMAGED_SOURCE:
        yield Item("", None, source.why)
    elif source.kind == LOOSE:
        yield _loose(source.place)
    else:
        where = source.starts[start // every] if source.starts else start
        row, why = start, "the file has changed since it was counted."
        try:
            with opened(source.place) as stream:
                for item in KINDS[source.kind].read(stream, where, start, stop):
                    yield item
                    row += 1
        except Exception as error:
            why = f"the file is damaged there: {_reason(error)}."
        yield from (Item(f"[{left}]", None, why) for left in range(row, stop))


def _reason(error: Exception) -> str:
    """What is wrong with a damaged file; whatever else has happened is raised on."""
    of_the_file = isinstance(error, (*DAMAGED, struct.error, gzip.BadGzipFile))
    # Of the system's errors one without a number is pyarrow's, and a place before a file's start is invalid.
    if of_the_file or (type(error) is OSError and error.errno in (None, errno.EINVAL)):
        return cause_in(error)
    raise error


def _loose(place: str) -> Item:
    try:
        with opened(place) as stream:
            content = stream.read(MOST_BYTES + 1)
        require_small(len(content), MOST_BYTES)
    except InputError as error:
        return Item("", None, str(error))
    except (FileNotFoundError, PermissionError) as error:
        return Item("", None, f"it cannot be read ({cause_in(error)}).")
    return Item("", content)


def image_of(item: Item) -> Images:
    """What of `item` is to be judged.

    Raises:
        InputError: it cannot be read, or is larger than may be.
    """
    if item.image is None:
        raise InputError(item.why or "it is empty.")
    if not isinstance(item.image, bytes):
        return item.image
    require_small(len(item.image), MOST_BYTES)
    return open_stream(io.BytesIO(item.image), "it", MAX_PIXELS)


def _kind(stream: BinaryIO) -> str:
    """The kind of the file in `stream`, which is at its start again."""
    head = stream.read(_PEEKED)
    stream.seek(0)
    if head.startswith(b"PK"):
        return "zip"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(_GZIP):
        try:
            with gzip.open(stream) as unpacked:
                head = unpacked.read(_PEEKED)
        except Exception as error:
            _reason(error)
        stream.seek(0)
    if head.startswith(_IDX_IMAGES):
        return "idx"
    return "tar" if head[257:262] == b"ustar" else LOOSE


@contextmanager
def _plain(stream: BinaryIO) -> Iterator[BinaryIO]:
    """`stream`, unpacked where it is packed by gzip."""
    head = stream.read(len(_GZIP))
    stream.seek(0)
    if head == _GZIP:
        with gzip.open(stream) as unpacked:
            yield cast(BinaryIO, unpacked)
    else:
        yield stream


def _member(name: str) -> str:
    return "/" + printable(name[:MOST_NAME])[:MOST_NAME]


Scanned = tuple[int, Sequence[int]]


class Kind(NamedTuple):
    """How a kind of source is counted, and read from a place on."""

    scan: Callable[[BinaryIO, int], Scanned]
    read: Callable[[BinaryIO, int, int, int], Iterator[Item]]


def _scan_zip(stream: BinaryIO, _: int) -> Scanned:
    with zipfile.ZipFile(stream) as archive:
        return len(archives.entries(archive)), ()


def _read_zip(stream: BinaryIO, _: int, start: int, stop: int) -> Iterator[Item]:
    with zipfile.ZipFile(stream) as archive:
        for entry in archives.entries(archive)[start:stop]:
            name = _member(entry.filename)
            try:
                require_unpackable(entry, MOST_BYTES)
                yield Item(name, archives.unpacked(archive, entry))
            except InputError as error:
                yield Item(name, None, str(error))
            except Exception as error:
                yield Item(name, None, f"it cannot be unpacked: {_reason(error)}.")


def _is_row(member: tarfile.TarInfo) -> bool:
    """Whether a tar's `member` is an image, or should be one."""
    beside = PurePosixPath(member.name).suffix.lower() in BESIDE
    return not (member.isdir() or beside or archives.is_clutter(member.name))


def _scan_tar(stream: BinaryIO, every: int) -> Scanned:
    rows, starts = 0, []
    with _plain(stream) as plain:
        members = TarMembers(plain)
        try:
            for member in members:
                if _is_row(member):
                    if rows % every == 0:
                        starts.append(member.offset)
                    rows += 1
        except Exception as error:
            _reason(error)
            if rows % every == 0:  # one row more tells of the damage
                starts.append(members.reached)
            rows += 1
    return rows, starts


def _read_tar(stream: BinaryIO, where: int, start: int, stop: int) -> Iterator[Item]:
    left = stop - start
    with _plain(stream) as plain:
        members = TarMembers(plain, where)
        for member in members:
            if not _is_row(member):
                continue
            name = _member(member.name)
            try:
                yield Item(name, members.content(member, MOST_BYTES))
            except InputError as error:
                yield Item(name, None, str(error))
            left -= 1
            if not left:
                return


def _scan_idx(stream: BinaryIO, _: int) -> Scanned:
    with _plain(stream) as plain:
        told, height, width = struct.unpack(">III", plain.read(_IDX_HEAD)[4:])
        if not 0 < height * width <= MOST_BYTES:
            raise InputError(f"its images are {height}×{width} pixels")
        there = (plain.seek(0, io.SEEK_END) - _IDX_HEAD) // (height * width)
    return min(told, there + 1), ()  # one row more tells that the rest lacks


def _read_idx(stream: BinaryIO, _: int, start: int, stop: int) -> Iterator[Item]:
    with _plain(stream) as plain:
        height, width = struct.unpack(">II", plain.read(_IDX_HEAD)[8:])
        plain.seek(_IDX_HEAD + start * height * width)
        for row in range(start, stop):
            content = plain.read(height * width)
            if len(content) < height * width:
                raise EOFError("it ends in the midst")
            yield Item(f"[{row}]", np.frombuffer(content, np.uint8).reshape(height, width))


def _scan_parquet(stream: BinaryIO, _: int) -> Scanned:
    return count_rows(stream), ()


def _read_parquet(stream: BinaryIO, _: int, start: int, stop: int) -> Iterator[Item]:
    for row, image in enumerate(images_in(stream, start, stop), start):
        yield Item(f"[{row}]", image)


KINDS = {
    "zip": Kind(_scan_zip, _read_zip),
    "tar": Kind(_scan_tar, _read_tar),
    "idx": Kind(_scan_idx, _read_idx),
    "parquet": Kind(_scan_parquet, _read_parquet),
}
