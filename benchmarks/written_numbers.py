"""Numbers of 1 to 8 digits put together from labelled digits, as pictures: for measuring, from a seed.

A digit's ink is enlarged and put beside the one before it, a little higher or lower, larger or smaller. In
the kind *apart* no two touch. In *touching* each is pushed on with an even chance, and at least one is,
until it touches the one before it or reaches under it by a fifth of a digit's height. *lined* and *shaded*
are *apart* on ruled paper, on whose lines the digits stand, and on paper in uneven light.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

KINDS = ("apart", "touching", "lined", "shaded")
MOST_DIGITS = 8
_INK = 0.15  # of full ink, from which a pixel counts for a digit's box
_BLEND = 0.5  # of full ink, from which two digits' pixels touch


@dataclass(frozen=True, eq=False)
class Written:
    """A picture of a number.

    Attributes:
        picture: (H, W) uint8, dark on bright.
        text: the number's digits.
        boxes: (K, 4) of the digits' ink: left, top, right, bottom (the last two exclusive), in pixels.
    """

    picture: NDArray[np.uint8]
    text: str
    boxes: NDArray[np.int64]


def written_numbers(
    images: Floats, labels: NDArray[np.int64], kind: str, count: int, seed: int
) -> list[Written]:
    """`count` numbers of a kind, of digits drawn from `images` (N, 28, 28) in [0, 1] with `labels` (N,)."""
    generator = np.random.default_rng([seed, KINDS.index(kind)])
    return [_written(images, labels, kind, generator) for _ in range(count)]


def _written(images: Floats, labels: NDArray[np.int64], kind: str, generator: np.random.Generator) -> Written:
    chosen = generator.integers(len(images), size=generator.integers(1, MOST_DIGITS + 1))
    height = generator.uniform(40, 80)  # of a digit, in pixels
    digits = [_enlarged(images[index], height * generator.uniform(0.85, 1.15)) for index in chosen]
    tops = [round(1.5 * height - len(digit) + height * generator.uniform(-0.08, 0.08)) for digit in digits]
    lefts = _lefts(digits, tops, _touches(len(digits), kind, generator), height, generator)
    margin = round(height * generator.uniform(0.4, 1))
    size = round(2 * height), lefts[-1] + digits[-1].shape[1] + 2 * margin
    ink = np.zeros(size, np.float32)
    boxes = []
    for digit, top, left in zip(digits, tops, lefts, strict=True):
        bottom, right = top + len(digit), left + margin + digit.shape[1]
        place = ink[top:bottom, left + margin : right]
        np.maximum(place, digit, out=place)
        boxes.append((left + margin, top, right, bottom))
    paper = _paper(size, kind, height, generator)
    picture = paper * (1 - ink * generator.uniform(0.6, 0.9))
    picture += generator.normal(0, 0.01, size)
    return Written(
        (picture.clip(0, 1) * 255).round().astype(np.uint8),
        "".join(str(labels[index]) for index in chosen),
        np.array(boxes),
    )


def _enlarged(image: Floats, height: float) -> Floats:
    """A digit's ink, cropped, at the scale at which 20 pixels have that `height`."""
    rows, columns = (np.flatnonzero((image > _INK).any(axis)) for axis in (1, 0))
    cropped = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    size = tuple(max(1, round(side * height / 20)) for side in cropped.shape[::-1])
    return np.asarray(cv2.resize(cropped, size, interpolation=cv2.INTER_CUBIC)).clip(0, 1)


def _touches(count: int, kind: str, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Which digits touch the one before them."""
    touches = (generator.random(count) < 0.5) & (kind == "touching")
    if kind == "touching" and count > 1:
        touches[generator.integers(1, count)] = True
    return touches


def _lefts(
    digits: list[Floats],
    tops: list[int],
    touches: NDArray[np.bool_],
    height: float,
    generator: np.random.Generator,
) -> list[int]:
    """Where each digit starts."""
    lefts = [0]
    for index in range(1, len(digits)):
        before, after = digits[index - 1], digits[index]
        apart = before.shape[1] + height * generator.uniform(0.15, 0.5)
        if touches[index]:
            meeting = _meeting(before, after, tops[index] - tops[index - 1])
            apart = max(meeting - height * generator.uniform(0, 0.04), before.shape[1] - height / 5)
        lefts.append(lefts[-1] + max(1, round(apart)))
    return lefts


def _meeting(before: Floats, after: Floats, lower: int) -> int:
    """How far right of `before` the digit `after`, that much `lower`, has to start to just touch it."""
    distances = []
    for row, line in enumerate(before):
        other = after[row - lower] if 0 <= row - lower < len(after) else after[:0]
        right, left = np.flatnonzero(line > _BLEND), np.flatnonzero(other.ravel() > _BLEND)
        if len(right) and len(left):
            distances.append(right[-1] + 1 - left[0])
    return max(distances, default=before.shape[1])


def _paper(size: tuple[int, int], kind: str, height: float, generator: np.random.Generator) -> Floats:
    """The brightness of the paper, in [0, 1]."""
    paper = np.full(size, generator.uniform(0.88, 1), np.float32)
    if kind == "shaded":
        rows, columns = np.ogrid[0 : 1 : size[0] * 1j, 0 : 1 : size[1] * 1j]
        turned = generator.uniform(0, 2 * np.pi)
        along = rows * np.sin(turned) + columns * np.cos(turned)
        paper *= 1 - 0.4 * (along - along.min()) / np.ptp(along)
    if kind == "lined":
        thick, dark = max(1, round(height / 40)), generator.uniform(0.2, 0.5)
        first = 1.5 * height - thick - 1.4 * height * generator.integers(0, 2)
        for top in np.arange(first % (1.4 * height), size[0], 1.4 * height):
            paper[round(top) : round(top) + thick] *= 1 - dark
    return paper
