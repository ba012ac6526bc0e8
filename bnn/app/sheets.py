"""Sheets: uploaded pictures of several digits, read within bounds and shown with a box around each digit."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from bnn.app.drawings import BOXES, sheet_svg
from bnn.app.files import data_url
from bnn.app.uploads import Unusable, cut
from bnn.classifier import Classifier
from bnn.data.ink import find_ink
from bnn.data.pictures import picture
from bnn.data.preprocess import Pixels, brightness_of
from bnn.errors import InputError
from bnn.files import printable
from bnn.reading import Reading, read

MOST_MARKS = 300  # of one sheet; as many take 10 s, and half a minute where they are noise
MOST_MARKS_TOGETHER = 1000  # of all sheets of an upload
MOST_BYTES_SHOWN = 8_000_000  # of the pictures of all sheets, as the page holds them
_LEAST = 10  # marks that a sheet counts for: the page holds the picture of each
_LONGEST = 800  # pixels of the longer side of a picture that is shown
_LONGEST_TEXT = 40  # characters in the table


@dataclass(frozen=True)
class Sheet:
    """A picture of several digits.

    Attributes:
        url: the picture, in grey, as text that a page can hold.
        size: width and height of the picture in which the boxes of `reading` lie.
        reading: its digits.
    """

    url: str
    size: tuple[int, int]
    reading: Reading

    @property
    def line(self) -> str:
        """What is read, in one line, cut where it is long."""
        return cut(self.reading.text.replace("\n", " / "), _LONGEST_TEXT)

    @property
    def counted(self) -> str:
        """How many of its digits are answered, in words."""
        marks = self.reading.marks
        answered = sum(mark.answer is not None for mark in marks)
        return f"{answered} of {len(marks)} digits answered"


def read_sheets(
    classifier: Classifier, files: Iterable[tuple[int, bytes]], names: list[str]
) -> tuple[dict[int, Sheet], list[Unusable]]:
    """The sheets among pictures with several marks, by the number of their image, and what was not read.

    A picture in which only one digit is found is no sheet.

    Args:
        classifier: decides on each digit.
        files: image files, each with the number of its image.
        names: of the images.
    """
    sheets: dict[int, Sheet] = {}
    unread: list[Unusable] = []
    left, bytes_left = MOST_MARKS_TOGETHER, MOST_BYTES_SHOWN
    for index, content in files:
        try:
            brightness = brightness_of(content)
            left -= _marks(brightness, left)
            if bytes_left <= 0:
                raise InputError("the sheets before it fill the page: upload it by itself.")
            reading = read(brightness, classifier)
        except InputError as error:
            unread.append(Unusable(names[index], str(error)))
            continue
        if len(reading.marks) > 1:
            height, width = brightness.shape
            sheets[index] = Sheet(_shown(brightness), (width, height), reading)
            bytes_left -= len(sheets[index].url)
    return sheets, unread


def sheets_html(sheets: Sequence[tuple[str, Sheet]]) -> str:
    """`sheets`, each after its file's name, with boxes, what they read, and what the boxes' colours mean."""
    if not sheets:
        return ""
    keys = "".join(f'<span class="{kind}">{kind}</span>' for kind in BOXES)
    figures = "".join(_figure(name, sheet) for name, sheet in sheets)
    return f'<h2>Sheets ({len(sheets):,})</h2><p class="keys">{keys}</p><div class="sheets">{figures}</div>'


def _marks(brightness: Pixels, left: int) -> int:
    """What a sheet counts for, which may be as many marks as are `left`."""
    marks = max(_LEAST, require_few_marks(brightness))
    if marks > left:
        raise InputError(
            f"the sheets before it have nearly {MOST_MARKS_TOGETHER:,} marks together: upload it by itself."
        )
    return marks


def require_few_marks(brightness: Pixels) -> int:
    """How many marks a picture has.

    Raises:
        InputError: they are more than `MOST_MARKS`, which would take long.
    """
    marks = len(find_ink(brightness).areas)
    if marks > MOST_MARKS:
        raise InputError(f"it has more than {MOST_MARKS} marks: cut it into parts, or use bnn read.")
    return marks


def _shown(brightness: Pixels) -> str:
    image = picture(np.asarray(brightness))
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BOX)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return data_url("image/jpeg", stream.getvalue())


def _figure(name: str, sheet: Sheet) -> str:
    name, reading = printable(name), sheet.reading
    svg = sheet_svg(sheet.url, sheet.size, reading.marks, f"{name} reads {sheet.line}")
    said = reading.reason if reading.number is None else reading.promise
    return (
        f'<figure title="{escape(name)}">{svg}<figcaption><code>{escape(name)}</code>: {sheet.counted}'
        f'<pre>{escape(reading.text)}</pre><span class="small-print">{escape(said)}</span>'
        "</figcaption></figure>"
    )
