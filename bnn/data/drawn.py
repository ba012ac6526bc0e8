"""Sets that are drawn with the pad's pen: letters, doodles, and digits in all common ways to write them.

They are to be measured on. Nothing is fitted to them, and nothing is chosen by them. A new kind is one entry
in `bnn.data.shapes`.
"""

import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from bnn.data.pen import BRUSH, Stroke, Strokes, render
from bnn.data.shapes import CAPITALS, DIGITS, DOODLES, SMALL_LETTERS, Kinds

OF_A_KIND = 10  # drawings, over which the ways to draw it take turns
DRAWN: dict[str, Kinds] = {"capitals": CAPITALS, "small-letters": SMALL_LETTERS, "doodles": DOODLES}
DRAWN_DIGITS: dict[str, Kinds] = {"drawn": DIGITS}  # the first letter of a kind's name is its label

_TURN, _SLANT = 7, 0.15  # degrees either way; how far the top is moved, of the height
_SCALE, _STRETCH = (0.75, 1.05), 1.1  # of the drawing; of its width against its height, either way
_SHIFT, _EDGE = 0.06, 0.08  # of the pad's side: how far it is moved at most; what is left free at the edge
_WOBBLE, _WAVES = 0.012, 2  # of the pad's side: how unsteady the hand is; to and fro at most, over the pad
_SLIP = 0.008  # how far a stroke starts from where it should
_STEP = 0.03  # a stroke is cut into parts of this length, so that it can wobble
_WIDTH = (0.8, 1.2)  # of the pen, in the pad's own

Places = NDArray[np.float64]


class Drawing(NamedTuple):
    """What is drawn, the strokes that make it, and how wide they are in pixels of the pad."""

    kind: str
    strokes: Strokes
    brush: float

    def picture(self) -> Image.Image:
        """It on the pad, black on white."""
        return render(self.strokes, self.brush)


def drawings(kinds: Kinds, seed: int) -> list[Drawing]:
    """`OF_A_KIND` drawings of each of `kinds`; those of a kind follow from its name and `seed` alone."""
    found = []
    for kind, ways in kinds.items():
        rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
        found += [by_hand(kind, ways[turn % len(ways)], rng) for turn in range(OF_A_KIND)]
    return found


def by_hand(kind: str, strokes: Strokes, rng: Generator) -> Drawing:
    """`strokes` as a person may draw them: moved, smaller, slanted, turned, and not quite steadily."""
    affine, shift = _affine(rng), rng.uniform(-_SHIFT, _SHIFT, 2)
    waves, phases = 2 * np.pi * rng.uniform(-_WAVES, _WAVES, (2, 2)), rng.uniform(0, 2 * np.pi, 2)
    drawn = []
    for stroke in strokes:
        places = (_cut(stroke) - 0.5) @ affine.T + 0.5 + shift + rng.normal(0, _SLIP, 2)
        drawn.append(places + _WOBBLE * np.sin(places @ waves + phases))
    kept = _kept_on_pad(drawn)
    return Drawing(kind, [list(map(tuple, stroke.tolist())) for stroke in kept], BRUSH * rng.uniform(*_WIDTH))


def _affine(rng: Generator) -> Places:
    """Slants, stretches, turns and scales a place from the pad's middle, (2, 2)."""
    turn = np.radians(rng.uniform(-_TURN, _TURN))
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    slanted = np.array([[1, rng.uniform(-_SLANT, _SLANT)], [0, 1]])
    stretched = np.diag([_STRETCH ** rng.uniform(-1, 1), 1])
    scaled: Places = rng.uniform(*_SCALE) * turned @ slanted @ stretched
    return scaled


def _cut(stroke: Stroke) -> Places:
    """`stroke` with places between, `_STEP` apart at most, (K, 2)."""
    places = np.array(stroke, np.float64)
    parts = [places[:1]]
    for start, end in pairwise(places):
        count = max(1, int(np.ceil(np.hypot(*(end - start)) / _STEP)))
        parts.append(start + (end - start) * np.linspace(0, 1, count + 1)[1:, None])
    return np.concatenate(parts)


def _kept_on_pad(strokes: Sequence[Places]) -> list[Places]:
    """`strokes` made smaller, where they are larger than the pad, and moved to lie on it, if they do not."""
    places = np.concatenate(strokes)
    low, high = places.min(0), places.max(0)
    middle, scale = (low + high) / 2, min(1.0, (1 - 2 * _EDGE) / (high - low).max())
    half = scale * (high - low) / 2
    return [(stroke - middle) * scale + middle.clip(_EDGE + half, 1 - _EDGE - half) for stroke in strokes]
