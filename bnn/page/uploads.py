"""What visitors upload: image files and zip archives of them, bounded and never unpacked to disk."""

import io
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import torch
from torch import Tensor

from bnn.errors import InputError
from bnn.networks import IMAGE_SIZE
from bnn.preprocess import open_stream, prepare

MOST_IMAGES = 1000
MOST_PIXELS = 25_000_000  # of one image: a photograph
MOST_BYTES = 20_000_000  # of one file, unpacked
MOST_BYTES_TOGETHER = 200_000_000  # of all, unpacked
_CLUTTER = ("__MACOSX", "Thumbs.db", "desktop.ini")  # that systems add to archives unasked


@dataclass(frozen=True)
class Upload:
    """A file by the name that its visitor gave it, and its content."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Unusable:
    """A file that cannot be judged, and why, in one sentence."""

    name: str
    why: str


@dataclass(frozen=True)
class Images:
    """The images that could be read, by name and as the network sees them (N, 1, 28, 28); the other files."""

    names: list[str]
    prepared: Tensor
    unusable: list[Unusable]


def read_images(paths: Iterable[str]) -> Images:
    """The images in the files and archives at `paths`.

    Raises:
        InputError: they are more than `MOST_IMAGES`, or larger than `MOST_BYTES_TOGETHER`.
    """
    names: list[str] = []
    prepared = [torch.empty(0, 1, IMAGE_SIZE, IMAGE_SIZE)]
    unusable: list[Unusable] = []
    for item in contents(paths):
        image = _prepared(item) if isinstance(item, Upload) else item
        if isinstance(image, Unusable):
            unusable.append(image)
        else:
            names.append(item.name)
            prepared.append(image)
    return Images(names, torch.cat(prepared), unusable)


def contents(paths: Iterable[str]) -> Iterator[Upload | Unusable]:
    """The files at `paths`, archives replaced by what lies in them.

    Raises:
        InputError: see `read_images`.
    """
    size = 0
    for count, item in enumerate(_all(paths)):
        size += len(item.content) if isinstance(item, Upload) else 0
        if count >= MOST_IMAGES:
            raise InputError(f"these are more than {MOST_IMAGES:,} images: upload them in parts.")
        if size > MOST_BYTES_TOGETHER:
            raise InputError(f"these have more than {MOST_BYTES_TOGETHER // 10**6} MB: upload them in parts.")
        yield item


def _prepared(upload: Upload) -> Tensor | Unusable:
    try:
        return prepare(open_stream(io.BytesIO(upload.content), "it", MOST_PIXELS))
    except InputError as error:
        return Unusable(upload.name, str(error))


def _all(paths: Iterable[str]) -> Iterator[Upload | Unusable]:
    for path in map(Path, paths):
        if zipfile.is_zipfile(path):
            yield from _in_archive(path)
        else:
            with path.open("rb") as stream:
                yield _read(stream, path.name)


def _in_archive(path: Path) -> Iterator[Upload | Unusable]:
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.is_dir() and not _is_clutter(entry.filename):
                    yield _entry(archive, entry)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        yield Unusable(path.name, f"the archive is damaged: {error}.")


def _is_clutter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part in _CLUTTER or part.startswith("._") for part in parts)


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Upload | Unusable:
    if entry.flag_bits & 1:
        return Unusable(entry.filename, "it is encrypted.")
    try:
        with archive.open(entry) as stream:
            return _read(stream, entry.filename)
    except Exception as error:  # damaged archives raise exceptions of nearly any kind
        return Unusable(entry.filename, f"it cannot be unpacked: {str(error).rstrip('.')}.")


def _read(stream: IO[bytes], name: str) -> Upload | Unusable:
    content = stream.read(MOST_BYTES + 1)  # what an archive says of its sizes is not believed
    if len(content) > MOST_BYTES:
        return Unusable(name, f"it has more than {MOST_BYTES // 10**6} MB.")
    return Upload(name, content)
