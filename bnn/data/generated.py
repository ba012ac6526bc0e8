"""Generated images that are no digits.

A new set is one function here and one name in `GENERATED`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bnn.core.networks import IMAGE_SIZE
from bnn.data import background
from bnn.data.digits import load_sklearn_digits
from bnn.data.strokes import pen_strokes

SIZE = 1000  # images of a set
_SHAPE = (SIZE, IMAGE_SIZE, IMAGE_SIZE)

Pixels = NDArray[np.float32]


def uniform_noise(rng: Generator) -> Pixels:
    """Every pixel uniform in [0, 1]."""
    return rng.random(_SHAPE, np.float32)


def gaussian_noise(rng: Generator) -> Pixels:
    """Every pixel Normal(0.5, 0.25), clipped to [0, 1]."""
    return (0.5 + 0.25 * rng.standard_normal(_SHAPE, np.float32)).clip(0, 1)


def salt_and_pepper(rng: Generator) -> Pixels:
    """White specks on black; each image has its own share of them, between 5 % and 50 %."""
    share = rng.uniform(0.05, 0.5, (SIZE, 1, 1))
    return (rng.random(_SHAPE) < share).astype(np.float32)


def stripes(rng: Generator) -> Pixels:
    """Black and white stripes of any direction, 2 to 7 pixels wide."""
    angle, phase = rng.uniform(0, 2 * np.pi, (2, SIZE, 1, 1))
    width = rng.uniform(2, 7, (SIZE, 1, 1))
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    position = rows * np.sin(angle) + columns * np.cos(angle)
    return (np.sin(np.pi * position / width + phase) > 0).astype(np.float32)


def blankish(rng: Generator) -> Pixels:
    """One grey an image, with a faint noise of standard deviation 0.02."""
    grey = rng.random((SIZE, 1, 1), np.float32)
    return (grey + np.float32(0.02) * rng.standard_normal(_SHAPE, np.float32)).clip(0, 1)


def strokes(rng: Generator) -> Pixels:
    """One to six random pen strokes."""
    return pen_strokes(SIZE, rng)


def chimeras(rng: Generator) -> Pixels:
    """scikit-learn's digits (which need no file) put together wrongly or spoilt, in six ways."""
    digits = load_sklearn_digits(Path(), train=True).images[:, 0]
    made: Pixels = background.chimeras(digits, SIZE, rng).numpy()
    return made


Make = Callable[[Generator], Pixels]
NOISE: Mapping[str, Make] = {
    "noise": uniform_noise,
    "gaussian-noise": gaussian_noise,
    "salt-and-pepper": salt_and_pepper,
    "stripes": stripes,
    "blankish": blankish,
}
GENERATED: Mapping[str, Make] = {**NOISE, "strokes": strokes, "chimeras": chimeras}
