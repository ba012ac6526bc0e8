"""The digits that the examples learn, scikit-learn's 1,797 of 8×8 pixels, and images that are no digits."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

FULL_SIDE = 8  # pixels along an image's side
WHITE = 16  # the brightest pixel
LETTERS = "ACEFHKMNPRTUVWXY"  # which no digit looks like


@dataclass(frozen=True)
class Digits:
    """Images and what they show, to learn from and to judge by.

    Attributes:
        train, test: (N, side, side) pixels in [0, 1].
        train_labels, test_labels: (N,) the true digits.
    """

    train: Array
    test: Array
    train_labels: Labels
    test_labels: Labels

    @classmethod
    def split(cls, train: int, seed: int, side: int = FULL_SIDE) -> Self:
        """`train` digits to learn from, chosen by `seed`, alike of each class; the rest are to judge by.

        Pixels are averaged down to `side` × `side`, which must divide 8.
        """
        flat, labels = load_digits(return_X_y=True)
        ratio = FULL_SIDE // side
        images = flat.reshape(-1, side, ratio, side, ratio).mean((2, 4)) / WHITE
        return cls(*train_test_split(images, labels, train_size=train, random_state=seed, stratify=labels))


def noise(count: int, seed: int) -> Array:
    """Images (count, 8, 8) of pixels uniform in [0, 1]."""
    return np.random.default_rng(seed).random((count, FULL_SIDE, FULL_SIDE))


def letters() -> Array:
    """Capital letters of three weights and slants, (N, 8, 8), reduced as scikit-learn's digits were.

    Those were bitmaps of 32×32, of which every 4×4 pixels are counted.
    """
    drawn = [
        _letter(letter, weight, slant) for letter in LETTERS for weight in (0, 1, 2) for slant in (-10, 0, 10)
    ]
    return np.stack(drawn)


def _letter(letter: str, weight: int, slant: int) -> Array:
    side = 4 * FULL_SIDE
    image = Image.new("1", (side, side))
    font = ImageFont.load_default(side)
    ImageDraw.Draw(image).text((side / 2, side / 2), letter, 1, font, "mm", stroke_width=weight)
    bitmap = np.asarray(image.rotate(slant), dtype=np.float64)
    return bitmap.reshape(FULL_SIDE, 4, FULL_SIDE, 4).sum((1, 3)) / WHITE
