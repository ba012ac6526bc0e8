"""What visitors upload: image files and zip archives of them, bounded and never unpacked to disk."""

import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bnn.core.networks import IMAGE_SIZE
from bnn.data.archives import DAMAGED, MOST_BYTES, entries, require_small, require_unpackable, unpacked
from bnn.data.preprocess import INK, MAX_PIXELS, Prepared, open_stream, read_images
from bnn.data.quality import SEVERAL
from bnn.errors import InputError, cause_in

MOST_IMAGES = 1000
MOST_BYTES_TOGETHER = 200_000_000  # of all, unpacked
MOST_PIXELS_TOGETHER = 1_000_000_000  # of all: reading so many takes a minute or two
MOST_NAME = 200  # characters of a name: an answer holds it several times, and an archive may claim 65,535
MOST_WHY = 300  # characters of a reason


@dataclass(frozen=True)
class SavedFile:
    """An uploaded file: where it lies, and the name that its visitor gave it."""

    path: str
    name: str

    @classmethod
    def at(cls, path: str) -> "SavedFile":
        """The file at `path`, which keeps its name."""
        return cls(path, Path(path).name)


@dataclass(frozen=True)
class Upload:
    """A file by the name that its visitor gave it, and its content."""

    name: str
    content: bytes

    @property
    def size(self) -> int:
        """Bytes of it."""
        return len(self.content)


@dataclass(frozen=True)
class Unusable:
    """A file that cannot be judged, and why, in one sentence; `size` bytes were unpacked to find out."""

    name: str
    why: str
    size: int = 0


@dataclass(frozen=True)
class Images:
    """The images that could be read, by name and as the network sees them; the other files.

    Attributes:
        several: the files, by the number of their image, of pictures with several marks, larger than 28×28.
    """

    names: list[str]
    prepared: Prepared
    unusable: list[Unusable]
    several: Mapping[int, bytes] = field(default_factory=dict)


def read_files(files: Iterable[SavedFile | Unusable], layout: str = INK) -> Images:
    """The images in `files` and archives, in that `layout`; what could not be uploaded is listed as unusable.

    Raises:
        InputError: they are more than `MOST_IMAGES`, or larger together than `MOST_BYTES_TOGETHER` or
            `MOST_PIXELS_TOGETHER`.
    """
    names: list[str] = []
    prepared: list[Prepared] = []
    unusable: list[Unusable] = []
    several: dict[int, bytes] = {}
    pixels = 0
    for item in contents(files):
        if isinstance(item, Unusable):
            unusable.append(item)
            continue
        read = prepared_upload(item, layout)
        if isinstance(read, Unusable):
            unusable.append(read)
            continue
        if read[0].quality[0] == SEVERAL and read[1] > IMAGE_SIZE**2:
            several[len(names)] = item.content
        names.append(item.name)
        prepared.append(read[0])
        pixels += read[1]
        if pixels > MOST_PIXELS_TOGETHER:
            most = f"{MOST_PIXELS_TOGETHER / 10**6:,.0f} million pixels"
            raise InputError(f"these have more than {most} together: upload them in parts.")
    return Images(names, Prepared.joined(prepared), unusable, several)


def contents(files: Iterable[SavedFile | Upload | Unusable]) -> Iterator[Upload | Unusable]:
    """What `files` hold, archives replaced by what lies in them.

    Raises:
        InputError: they are more than `MOST_IMAGES`, or larger together than `MOST_BYTES_TOGETHER`.
    """
    size = 0
    for count, item in enumerate(_all(files)):
        size += item.size
        if count >= MOST_IMAGES:
            raise InputError(f"these are more than {MOST_IMAGES:,} images: upload them in parts.")
        if size > MOST_BYTES_TOGETHER:
            raise InputError(f"these have more than {MOST_BYTES_TOGETHER // 10**6} MB: upload them in parts.")
        yield _named(item)


def _named(item: Upload | Unusable) -> Upload | Unusable:
    """`item` with a name, and a reason, that are not too long."""
    if isinstance(item, Unusable):
        item = replace(item, why=cut(item.why, MOST_WHY))
    return replace(item, name=cut(item.name, MOST_NAME))


def cut(text: str, most: int) -> str:
    """`text`, of which the end is left out where it has more than so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def prepared_upload(upload: Upload, layout: str) -> tuple[Prepared, int] | Unusable:
    """The image as the network sees it, and how many pixels it had."""
    try:
        image = open_stream(io.BytesIO(upload.content), "it", MAX_PIXELS)
        return read_images(image, layout), image.width * image.height
    except InputError as error:
        return Unusable(upload.name, cut(str(error), MOST_WHY))


def _all(files: Iterable[SavedFile | Upload | Unusable]) -> Iterator[Upload | Unusable]:
    for file in files:
        if isinstance(file, Unusable):
            yield file
        elif isinstance(file, Upload):
            yield _bounded(file)
        elif zipfile.is_zipfile(file.path):
            yield from _in_archive(file)
        else:
            yield _alone(file)


def _alone(file: SavedFile) -> Upload | Unusable:
    try:
        with Path(file.path).open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError:  # such as that it was deleted meanwhile
        return Unusable(file.name, "it is here no longer: upload it again.")
    return _bounded(Upload(file.name, content))


def _bounded(upload: Upload) -> Upload | Unusable:
    """`upload`, unless it is too large."""
    try:
        require_small(upload.size, MOST_BYTES)
    except InputError as error:
        return Unusable(upload.name, str(error))
    return upload


def _in_archive(file: SavedFile) -> Iterator[Upload | Unusable]:
    try:
        with zipfile.ZipFile(file.path) as archive:
            for entry in entries(archive):
                yield _entry(archive, entry)
    except (*DAMAGED, OSError) as error:  # the latter of a place before the file's start
        yield Unusable(file.name, f"the archive is damaged: {cause_in(error)}.")


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Upload | Unusable:
    name = entry.filename
    try:
        require_unpackable(entry, MOST_BYTES)
    except InputError as error:
        return Unusable(name, str(error))
    try:
        return Upload(name, unpacked(archive, entry))
    except Exception:  # damaged archives raise exceptions of nearly any kind
        return Unusable(name, "it cannot be unpacked: the archive is damaged there.", entry.file_size)
