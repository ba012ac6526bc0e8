"""MNIST-C: MNIST's test digits corrupted in 15 ways, made here as its authors made them.

Mu & Gilmer 2019, "MNIST-C: A robustness benchmark for computer vision". Ways and strengths are those of its
published code (google-research/mnist-c, corruptions.py), each at the one strength that the benchmark has. The
pseudo-random numbers are others, so that the images are like those that can be downloaded, and not the same.

A new kind is one function here and one entry in `KINDS`. Each function takes an image (28, 28) in [0, 1] and
a generator for what is random, and gives one that may still have to be clipped.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from bnn.core.networks import IMAGE_SIZE

Pixels = NDArray[np.float64]
Corrupt = Callable[[Pixels, Generator], Pixels]

EACH = 500  # digits that are corrupted in each way
_PLASMA = 256  # a side of the map of which a fog is a corner


def corrupted(image: NDArray[np.float32], kind: str, index: int, seed: int) -> NDArray[np.float32]:
    """An `image` (28, 28) in [0, 1], corrupted.

    Args:
        image: the digit.
        kind: a name in `KINDS`.
        index: its own, by which, with the kind and the seed, the corruption of each image is another.
        seed: of all that is random.
    """
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode()), index])
    return KINDS[kind](image.astype(np.float64), rng).clip(0, 1).astype(np.float32)


def shot_noise(image: Pixels, rng: Generator) -> Pixels:
    """Each pixel is a count of photons, three where it is white."""
    return rng.poisson(3 * image) / 3


def impulse_noise(image: Pixels, rng: Generator) -> Pixels:
    """17 % of the pixels become white or black, as likely the one as the other."""
    hit, white = rng.random((2, *image.shape))
    return np.where(hit < 0.17, white < 0.5, image)


def glass_blur(image: Pixels, rng: Generator) -> Pixels:
    """Blurred, pixels exchanged with neighbours up and left, twice over, and blurred again.

    The blur, of 0.7 pixels, goes up and down alone: the published code takes columns for colour channels.
    """
    glass = (255 * ndimage.gaussian_filter1d(image, 0.7, axis=0, mode="nearest")).astype(np.uint8)
    places = [(row, column) for row in range(27, 1, -1) for column in range(27, 1, -1)]
    for _ in range(2):
        swapped, ups, lefts = rng.random(len(places)) < 0.5, *rng.integers(0, 2, (2, len(places)))
        for (row, column), up, left in zip(
            np.array(places)[swapped], ups[swapped], lefts[swapped], strict=True
        ):
            here, there = (row, column), (row - up, column - left)
            glass[here], glass[there] = glass[there], glass[here]
    return ndimage.gaussian_filter1d(glass / 255, 0.7, axis=0, mode="nearest")


def motion_blur(image: Pixels, rng: Generator) -> Pixels:
    """Smeared one way, within 45 degrees of level, with the weights of half a Gaussian of 3 pixels.

    As ImageMagick has it (MagickCore/effect.c, `MotionBlurImage`), with a radius of 10: over 21 pixels.
    """
    angle, steps = math.radians(rng.uniform(-45, 45)), np.arange(21)
    weights = np.exp(-(steps**2) / (2 * 3**2))
    rows, columns = (np.ceil(steps * part(angle) - 0.5).astype(int) for part in (math.sin, math.cos))
    place = np.arange(IMAGE_SIZE)
    smeared = np.zeros_like(image)
    for weight, down, right in zip(weights / weights.sum(), rows, columns, strict=True):
        moved = np.ix_((place + down).clip(0, IMAGE_SIZE - 1), (place + right).clip(0, IMAGE_SIZE - 1))
        smeared += weight * image[moved]
    return smeared


def shear(image: Pixels, rng: Generator) -> Pixels:
    """Slanted by 0.4 radians one way or the other, and made higher, as scikit-image slants."""
    angle = _either(rng) * 0.4
    return _warped(image, [[math.cos(angle), 0], [-math.sin(angle), 1]])


def scale(image: Pixels, rng: Generator) -> Pixels:
    """Made smaller, to 0.7 of its size."""
    return _warped(image, np.eye(2) / 0.7)


def rotate(image: Pixels, rng: Generator) -> Pixels:
    """Turned by 0.4 radians one way or the other."""
    angle = _either(rng) * 0.4
    return _warped(image, [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


def brightness(image: Pixels, rng: Generator) -> Pixels:
    """Brighter by a half."""
    return image + 0.5


def translate(image: Pixels, rng: Generator) -> Pixels:
    """Moved by 3 pixels up or down, and by 3 to the left or right."""
    return _warped(image, np.eye(2), [3 * _either(rng), 3 * _either(rng)])


def stripe(image: Pixels, rng: Generator) -> Pixels:
    """The left and the right quarter inverted."""
    striped = 1 - image
    striped[:, 7:21] = image[:, 7:21]
    return striped


def fog(image: Pixels, rng: Generator) -> Pixels:
    """A plasma fractal laid over it, three times as strong as the image."""
    brightest = image.max()
    corner = plasma(rng, decay=1.4)[:IMAGE_SIZE, :IMAGE_SIZE]
    foggy: Pixels = (image + 3 * corner) * brightest / (brightest + 3)
    return foggy


def spatter(image: Pixels, rng: Generator) -> Pixels:
    """Spots of dark grey mud."""
    liquid = ndimage.gaussian_filter(rng.normal(0.65, 0.3, image.shape), 1, mode="nearest")
    mud = ndimage.gaussian_filter((liquid > 0.65).astype(np.float64), 1.5, mode="nearest")
    mud[mud < 0.8] = 0
    return image * (1 - mud) + 63 / 255 * mud


def dotted_line(image: Pixels, rng: Generator) -> Pixels:
    """A line of dashes from the left edge to the right one."""
    first, last = rng.integers(0, 27, 2)
    dashes = np.arange(IMAGE_SIZE) // 2 % 2 == 1
    return image + dashes * line((0, first), (27, last))


def zigzag(image: Pixels, rng: Generator) -> Pixels:
    """A zigzag from left to right, each of its strokes 4 pixels wide and as high."""
    first = rng.integers(0, 27)
    rise = rng.integers(-5, 5)
    long = math.hypot(23, rise)
    turns = np.arange(int((long - 2) // 4) + 1)
    along, aside = 2.0 * (2 * turns + 1), 2.0 * (-1.0) ** turns
    end = 4 * (long // 4)
    last = (long, aside[-1] / (2 * (long - end)))
    corners = np.array([(0, 0), *zip(along, aside, strict=True), last])
    cos, sin = 23 / long, rise / long
    places = corners @ np.array([[cos, sin], [-sin, cos]]) + (2, first)
    for start, stop in pairwise(places):
        image = (image + line(start, stop)).clip(0, 1)
    return image


def canny_edges(image: Pixels, rng: Generator) -> Pixels:
    """Its edges alone, by Canny 1986 with a blur of 1 pixel and thresholds of 0.1 and 0.2.

    They are thinned by OpenCV, and by scikit-image in the published code: a pixel here and there differs.
    """
    smooth = ndimage.gaussian_filter(image, 1, mode="constant")
    across, down = ((1000 * ndimage.sobel(smooth, axis)).round().astype(np.int16) for axis in (1, 0))
    edges: Pixels = cv2.Canny(across, down, 100, 200, L2gradient=True) / 255
    return edges


KINDS: Mapping[str, Corrupt] = {
    "shot noise": shot_noise,
    "impulse noise": impulse_noise,
    "glass blur": glass_blur,
    "motion blur": motion_blur,
    "shear": shear,
    "scale": scale,
    "rotate": rotate,
    "brightness": brightness,
    "translate": translate,
    "stripe": stripe,
    "fog": fog,
    "spatter": spatter,
    "dotted line": dotted_line,
    "zigzag": zigzag,
    "canny edges": canny_edges,
}


def line(start: tuple[float, float], stop: tuple[float, float]) -> Pixels:
    """How bright a line is at each pixel, (28, 28): 1 + log(1 − d / 2.3) at d pixels above or below it.

    Args:
        start, stop: (column, row) of its ends, the left one first.
    """
    (left, first), (right, last) = start, stop
    if left == right:
        return np.zeros((IMAGE_SIZE, IMAGE_SIZE))
    place = np.arange(IMAGE_SIZE)
    rows = first + (last - first) / (right - left) * (place - left)
    distance = np.abs(place[:, None] - rows).clip(0, 2.3 - 1e-10)
    within = (place >= math.floor(left)) & (place < math.ceil(right))
    bright: Pixels = within * (np.log(1 - distance / 2.3) + 1).clip(0, 1)
    return bright


def plasma(rng: Generator, decay: float) -> Pixels:
    """A plasma fractal, (256, 256) from 0 to 1, by the diamond-square algorithm.

    Fournier, Fussell & Carpenter 1982, "Computer rendering of stochastic models".

    Args:
        rng: of its heights.
        decay: by how much they vary less at half the distance; the square of it, in what is added.
    """
    heights, step, wobble = np.zeros((_PLASMA, _PLASMA)), _PLASMA, 100.0

    def mean(of_four: Pixels) -> Pixels:
        return of_four / 4 + wobble * rng.uniform(-wobble, wobble, of_four.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        below = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = mean(below + np.roll(below, -1, 1))
        middles, corners = heights[half::step, half::step], heights[::step, ::step]
        across, down = corners + np.roll(corners, -1, 1), corners + np.roll(corners, -1, 0)
        heights[::step, half::step] = mean(middles + np.roll(middles, 1, 0) + across)
        heights[half::step, ::step] = mean(middles + np.roll(middles, 1, 1) + down)
        step, wobble = half, wobble / decay
    heights -= heights.min()
    scaled: Pixels = heights / heights.max()
    return scaled


def _either(rng: Generator) -> int:
    return int(rng.choice((-1, 1)))


def _warped(image: Pixels, matrix: Any, moved: Sequence[int] = (0, 0)) -> Pixels:
    """At (row, column) z what `image` has at `matrix` (z − middle) + middle + `moved`; black comes in."""
    middle = np.full(2, (IMAGE_SIZE - 1) / 2)
    offset = middle - np.asarray(matrix) @ middle + moved
    warped: Pixels = ndimage.affine_transform(image, matrix, offset, order=1, mode="grid-constant")
    return warped
