"""Files and folders by their path, or by a URL that fsspec knows, such as s3://bucket/scans."""

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from bnn.data.imageset import image_files
from bnn.errors import InputError, cause_in, shown
from bnn.files import printable


def is_url(place: str) -> bool:
    """Whether `place` is a URL and no path."""
    return "://" in place


@contextmanager
def opened(place: str) -> Iterator[BinaryIO]:
    """The file at `place`, to be read and sought in."""
    if is_url(place):
        files, path = _files_at(place)
        with files.open(path, "rb") as stream:
            yield stream
    else:
        with Path(place).open("rb") as stream:
            yield stream


def files_at(place: str) -> list[tuple[str, str]]:
    """(place, stamp) of the file at `place`, or of all in that folder in order, hidden ones left out.

    A stamp changes where a file does: it tells size and time, or what the storage has for it.

    Raises:
        InputError: nothing is there, it is neither a file nor a folder, or the folder is empty.
    """
    return _remote(place) if is_url(place) else _local(Path(place))


def _local(path: Path) -> list[tuple[str, str]]:
    try:
        return [(str(file), _stamp(file)) for file in (image_files(path) if path.is_dir() else [path])]
    except FileNotFoundError as error:
        raise InputError(f"there is no file {printable(path)}.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{shown(str(path))} cannot be read ({cause_in(error)}).") from error


def _stamp(path: Path) -> str:
    there = path.stat()
    if not stat.S_ISREG(there.st_mode):
        raise InputError(f"{printable(path)} is a device or a pipe: name a file or a folder.")
    return f"{there.st_size} {there.st_mtime_ns}"


def _remote(place: str) -> list[tuple[str, str]]:
    files, path = _files_at(place)
    try:
        found = [path] if files.isfile(path) else sorted(files.find(path))
        kept = [one for one in found if not any(part.startswith(".") for part in one.split("/"))]
        stamps = [(files.unstrip_protocol(one), _digest(files.ukey(one))) for one in kept]
    except Exception as error:  # each storage has its own
        raise InputError(f"{shown(place)} cannot be listed ({cause_in(error)}).") from error
    if not stamps:
        raise InputError(f"there is nothing at {shown(place)}: name a file or a folder.")
    return stamps


def _files_at(place: str) -> tuple[Any, str]:
    """The storage of a URL, and its path there.

    Raises:
        InputError: there is none of that kind, or a package that it needs is not installed.
    """
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(place)
    except (ValueError, ImportError, OSError) as error:
        raise InputError(f"{shown(place)} cannot be reached ({cause_in(error)}).") from error


def _digest(text: str) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()
