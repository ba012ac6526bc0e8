"""Things to try, all made here: strokes, letters of a font, noise. Each is a grey image, black on white."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bnn.data import shapes
from bnn.data.pen import BRUSH, SIZE, Strokes, arc, render

_LETTER_SHARE = 0.62  # of the pad's side that a letter's font has
_NOISE_CELLS = 28


@dataclass(frozen=True)
class Example:
    """An image to try.

    Attributes:
        group: the heading it stands under.
        name: what it shows.
        image: of the pad's size, black on white.
    """

    group: str
    name: str
    image: Image.Image


DIGITS: dict[str, Strokes] = {
    "0": [arc(0.5, 0.5, 0.17, 0.29, -90, 270)],
    "1": [[(0.43, 0.3), (0.53, 0.2), (0.5, 0.8)]],
    "2": [[*arc(0.49, 0.34, 0.17, 0.14, 190, 390), (0.3, 0.79), (0.7, 0.78)]],
    "3": [[*arc(0.47, 0.34, 0.16, 0.14, 200, 430), *arc(0.47, 0.64, 0.18, 0.16, 280, 500)]],
    "4": [[(0.38, 0.2), (0.32, 0.52), (0.68, 0.5)], [(0.64, 0.22), (0.58, 0.82)]],
    "5": [[(0.66, 0.2), (0.38, 0.21), (0.36, 0.45), *arc(0.48, 0.61, 0.18, 0.18, 240, 500)]],
    "6": [[(0.6, 0.2), (0.42, 0.38), *arc(0.5, 0.64, 0.15, 0.15, 190, 550)]],
    "7": [[(0.3, 0.22), (0.7, 0.21), (0.46, 0.8)]],
    "8": [[*arc(0.5, 0.34, 0.13, 0.13, 60, -240), *arc(0.5, 0.64, 0.16, 0.16, 240, 660)]],
    "9": [[*arc(0.5, 0.36, 0.15, 0.15, 0, -340), (0.65, 0.4), (0.58, 0.8)]],
}
DOUBTFUL: dict[str, Strokes] = {
    "4 or 9": [[(0.6, 0.22), (0.42, 0.26), (0.36, 0.5), (0.64, 0.48)], [(0.63, 0.2), (0.58, 0.82)]],
    "1 or 7": [[(0.38, 0.3), (0.56, 0.2), (0.5, 0.8)]],
    "5 or 6": [[(0.64, 0.2), (0.42, 0.26), (0.36, 0.5), *arc(0.49, 0.63, 0.16, 0.17, 200, 500), (0.37, 0.6)]],
}
DOODLES: dict[str, Strokes] = {
    "a fish": [
        arc(0.45, 0.5, 0.28, 0.18, 0, 360),
        [(0.7, 0.5), (0.9, 0.35), (0.9, 0.65), (0.7, 0.5)],
    ],
    "a tree": [
        [(0.5, 0.85), (0.5, 0.3)],
        [(0.2, 0.5), (0.5, 0.3), (0.8, 0.5)],
        [(0.25, 0.7), (0.5, 0.5), (0.75, 0.7)],
        [(0.3, 0.3), (0.5, 0.12), (0.7, 0.3)],
    ],
    "a face": [
        arc(0.5, 0.5, 0.3, 0.3, 0, 360),
        [(0.4, 0.42), (0.4, 0.46)],
        [(0.6, 0.42), (0.6, 0.46)],
        arc(0.5, 0.52, 0.15, 0.13, 20, 160),
    ],
}
HEART: Strokes = shapes.DOODLES["heart"][0]
CAPITAL: Strokes = [[(0.28, 0.8), (0.5, 0.2), (0.72, 0.8)], [(0.36, 0.6), (0.64, 0.6)]]
FLAGGED: Strokes = [[(0.36, 0.36), (0.52, 0.2), (0.52, 0.8)]]
LETTERS = "EKMX"
STRANGE = "Not digits"  # the group of what should be refused
FOOLING = "Still fool it"  # and of what should be and is not, or is and should not be
SAMPLE = DIGITS["6"]  # what is turned on an empty pad


@cache
def examples() -> tuple[Example, ...]:
    """All of them, in the order they are shown."""
    drawn = (("Easy", DIGITS), ("Ambiguous", DOUBTFUL), (STRANGE, DOODLES))
    made = [Example(group, name, render(strokes)) for group, kind in drawn for name, strokes in kind.items()]
    letters = [Example(STRANGE, f"the letter {letter}", _letter(letter)) for letter in LETTERS]
    upside_down = Example(STRANGE, "an upside-down 4", render(DIGITS["4"]).rotate(180))
    strange = [*letters, upside_down, Example(STRANGE, "noise", _noise())]
    # Shown because it is so, with the checkpoint that ships and its own promises.
    fooling = [
        Example(FOOLING, "a heart, taken for a 0", render(HEART)),
        Example(FOOLING, "a capital A, taken for a 4", render(CAPITAL)),
        Example(FOOLING, "a capital H, taken for a 4", render(shapes.CAPITALS["H"][0])),
        Example(FOOLING, "a 1 with a flag, refused", render(FLAGGED)),
    ]
    return (*made, *strange, *fooling)


def _letter(letter: str) -> Image.Image:
    image = Image.new("L", (SIZE, SIZE), 255)
    font = ImageFont.load_default(_LETTER_SHARE * SIZE)
    ImageDraw.Draw(image).text((SIZE / 2, SIZE / 2), letter, 0, font, "mm", stroke_width=BRUSH // 6)
    return image


def _noise() -> Image.Image:
    cells = np.random.default_rng(0).integers(0, 256, (_NOISE_CELLS, _NOISE_CELLS), np.uint8)
    return Image.fromarray(cells).resize((SIZE, SIZE), Image.Resampling.NEAREST)
