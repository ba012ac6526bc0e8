"""Members of zip and tar archives, which anyone may have made: bounded, and never unpacked to disk."""

import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from bnn.errors import InputError

MOST_BYTES = 20_000_000  # of one file, unpacked
MOST_HEADER = 1_000_000  # bytes that tell of one member of a tar archive
# Hidden files, and what systems add to folders and archives unasked. The page's script has it too.
CLUTTER = r"(^|/)(\.[^/.][^/]*|__MACOSX|Thumbs\.db|desktop\.ini)(/|$)"
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others unpack without bound, a kilobyte to gigabytes
DAMAGED = (  # what a damaged archive, or a file in it, may raise
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    ArithmeticError,
    LookupError,
    RuntimeError,  # of one that is encrypted, or nested too deeply, or needs a newer program
    ValueError,
)


def is_clutter(name: str) -> bool:
    """Whether a file of this `name` is hidden, or of those that systems add."""
    return re.search(CLUTTER, name) is not None


def entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files in `archive`, without folders and clutter."""
    files = (entry for entry in archive.infolist() if not entry.filename.endswith("/"))
    return [entry for entry in files if not is_clutter(entry.filename)]


def require_unpackable(entry: zipfile.ZipInfo, most: int) -> None:
    """Checks, by what the archive says of it, that unpacking `entry` takes no more than `most` bytes.

    Raises:
        InputError: it is encrypted, packed in a way that has no bound, or larger.
    """
    if entry.flag_bits & 1:
        raise InputError("it is encrypted.")
    if entry.compress_type not in _PACKINGS:
        raise InputError("it is packed in an unusual way: pack it with deflate, as most programs do.")
    require_small(entry.file_size, most)


def require_small(size: int, most: int) -> None:
    """Checks that `size` bytes are no more than `most`.

    Raises:
        InputError: they are more.
    """
    if size > most:
        raise InputError(f"it has more than {most // 10**6} MB.")


def unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The content of an `entry` that may be unpacked; one that holds more than it says raises, as damaged."""
    with archive.open(entry) as stream:
        return stream.read(entry.file_size)


class TarMembers:
    """The members of a tar archive one by one, in the memory of one, each by where its header starts.

    Python's reader keeps every header, believes sizes below 0 and reads a header of any length; and where it
    finds no header, in the midst of an archive, it ends as if all were read. Here that is an error.

    Args:
        stream: seekable, of the archive as it is unpacked.
        start: where in it the header of the first member starts.

    Attributes:
        reached: where the next header should start.

    Raises:
        Exception: one of `DAMAGED`.
    """

    def __init__(self, stream: BinaryIO, start: int = 0) -> None:
        stream.seek(start)
        self.reached = start
        self._stream = _Metered(stream)
        self._archive = tarfile.TarFile(fileobj=cast(BinaryIO, self._stream))

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        while (member := self._next()) is not None:
            if member.size < 0 or self._archive.offset <= self.reached:
                raise tarfile.ReadError("a size in it is below 0")
            self.reached = self._archive.offset
            yield member
        self._stream.refill()
        self._stream.seek(self.reached)
        if self._stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it ends in the midst, or a header in it is spoilt")

    def _next(self) -> tarfile.TarInfo | None:
        self._stream.refill()
        member = self._archive.next()
        self._archive.members.clear()  # type: ignore[attr-defined]
        return member

    def content(self, member: tarfile.TarInfo, most: int) -> bytes:
        """What the `member` that came last holds.

        Raises:
            InputError: it is more than `most` bytes, or a link or a device.
        """
        if not member.isreg():
            raise InputError("it is a link or a device: pack the file itself.")
        require_small(member.size, most)
        self._stream.refill(most + MOST_HEADER)
        stream = self._archive.extractfile(member)
        if stream is None:
            raise InputError("it is no file.")
        return stream.read()


class _Metered:
    """A stream of which only so many bytes can be read until more are allowed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._left = stream, MOST_HEADER
        self.seek, self.tell = stream.seek, stream.tell

    def refill(self, most: int = MOST_HEADER) -> None:
        """Allows `most` bytes more to be read."""
        self._left = most

    def read(self, size: int = -1) -> bytes:
        self._left -= size
        if size < 0 or self._left < 0:
            raise tarfile.ReadError("a header in it has no end")
        return self._stream.read(size)
