"""Random pen strokes: drawings without any template."""

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bnn.core.networks import IMAGE_SIZE
from bnn.data.geometry import laid_out
from bnn.data.layout import BOX

Pixels = NDArray[np.float32]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

MOST_STROKES = 6
WIDTHS = (1.6, 4.2)  # of pens, in pixels of MNIST's layout
POINTS = 24  # of a stroke
_STROKES = (0.08, 0.25, 0.27, 0.2, 0.12, 0.08)  # shares of drawings of 1 to 6 strokes
_FINER = 4  # drawn larger and reduced, for smooth edges
_CORNER = 0.6  # radians from which a turn shows that a pen is round


def pen_strokes(count: int, rng: Generator) -> Pixels:
    """Drawings (count, 28, 28) of 1 to 6 random strokes each, in MNIST's layout.

    A stroke is a line, an arc, a polyline, or a curve of changing curvature, open or closed; it starts
    anywhere or on an earlier one, or joins two points of them; some are an earlier one's mirror image, and
    some of those its other half, so that the two enclose something.
    """
    strokes = _placed(curves(count * MOST_STROKES, rng).reshape(count, MOST_STROKES, POINTS, 2), rng)
    numbers = rng.choice(MOST_STROKES, count, p=_STROKES) + 1
    finest, broadest = WIDTHS
    widths = finest + (broadest - finest) * rng.random(count) ** np.sqrt(numbers)  # many strokes, finer ones
    return laid_out(
        torch.from_numpy(drawn_by_pen(_fitted(strokes, numbers, BOX - widths), numbers, widths))
    ).numpy()


def curves(count: int, rng: Generator) -> Floats:
    """`count` strokes as points (count, P, 2), at most 1 in width and height, their middles at 0.

    The heading is integrated from turns: none, constant, waving or at corners, and mixtures of these.
    """
    time = np.linspace(0, 1, POINTS - 1)
    one = (count, 1)
    sign = rng.choice((-1, 1), one)
    bent = sign * rng.uniform(0.6, 2.2 * np.pi, one) * (rng.random(one) < 0.45)  # radians over the stroke
    waves = rng.uniform(1, 5, one) * (rng.random(one) < 0.3)
    phase, frequency = rng.uniform(0, 2 * np.pi, one), rng.uniform(0.5, 1.5, one)
    heading = _heading(count, rng) + rng.normal(0, 0.15, one) * time + bent * time
    heading += waves * np.sin(2 * np.pi * frequency * time + phase)
    cornered = rng.random(one) < 0.4
    for share in (1, 0.5, 0.3):
        at, angle = rng.uniform(0.15, 0.85, one), rng.choice((-1, 1), one) * rng.uniform(0.5, 2.7, one)
        heading += angle * (time > at) * (cornered & (rng.random(one) < share))
    steps = np.stack((np.cos(heading), np.sin(heading)), -1)
    points = np.concatenate((np.zeros((count, 1, 2)), steps.cumsum(1)), 1)
    closed = (rng.random(one) < 0.3) & ((np.abs(bent) > 1) | cornered)
    drift = points[:, -1:] * np.linspace(0, 1, POINTS)[:, None]
    points -= drift * closed[..., None]
    points[..., 0] *= np.exp(rng.uniform(-0.6, 0.6, one))
    low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)
    size = 1 - 0.75 * rng.random((count, 1, 1)) ** 1.5
    result: Floats = (points - (low + high) / 2) / (high - low).max(-1, keepdims=True).clip(1e-9) * size
    return result


def _heading(count: int, rng: Generator) -> Floats:
    """Where strokes set out for, (count, 1) radians: anywhere, or about along an axis or a diagonal."""
    free = rng.uniform(0, 2 * np.pi, (count, 1))
    along = np.pi / 4 * rng.choice((0, 0, 1, 2, 2, 2, 3, 4, 6), (count, 1)) + rng.normal(0, 0.12, (count, 1))
    return np.where(rng.random((count, 1)) < 0.5, free, along)


def _placed(strokes: Floats, rng: Generator) -> Floats:
    """`strokes` (N, S, P, 2) joined to earlier ones of their drawing, beside them, or their mirror images."""
    count, most, points, _ = strokes.shape
    every = np.arange(count)
    axis = np.where(rng.random(count) < 0.3, 1, 0)  # upright mirrors are commoner
    mirrored = rng.random(count) < 0.3
    halved = mirrored & (rng.random(count) < 0.5)
    _end_level(strokes, np.flatnonzero(halved), axis[halved])
    at = strokes[every, 0, np.where(halved, 0, _anchor(count, points, rng))]
    for number in range(1, most):
        to, other = (
            strokes[every, rng.integers(0, number, count), _anchor(count, points, rng)] for _ in range(2)
        )
        own = strokes[every, number, _anchor(count, points, rng)]
        joined = (rng.random((count, 1)) < 0.65) * (to - own)
        beside = rng.uniform(-0.45, 0.45, (count, 2)) * (joined == 0).all(1, keepdims=True)
        strokes[:, number] += (joined + beside)[:, None]
        bridging = rng.random(count) < 0.2
        strokes[bridging, number] = _between(strokes[bridging, number], to[bridging], other[bridging])
        if number % 2:
            strokes[mirrored, number] = _mirrored(strokes[mirrored, number - 1], axis[mirrored], at[mirrored])
    strokes[..., 0] *= np.exp(rng.uniform(-0.7, 0.2, (count, 1, 1)))  # as people write, rather tall
    return strokes


def _end_level(strokes: Floats, rows: NDArray[np.int64], axis: NDArray[np.int64]) -> None:
    """Bends the first of `rows` of `strokes` (N, S, P, 2) to end where it began in coordinate `axis`."""
    across = strokes[rows, 0, :, axis]
    strokes[rows, 0, :, axis] = across - np.linspace(0, 1, POINTS) * (across[:, -1:] - across[:, :1])


def _between(strokes: Floats, start: Floats, end: Floats) -> Floats:
    """`strokes` (N, P, 2) bent to lead from `start` (N, 2) to `end` (N, 2)."""
    time = np.linspace(0, 1, strokes.shape[1])[:, None]
    before, after = start - strokes[:, 0], end - strokes[:, -1]
    bent: Floats = strokes + (1 - time) * before[:, None] + time * after[:, None]
    return bent


def _anchor(count: int, points: int, rng: Generator) -> NDArray[np.int64]:
    """A point of each of `count` strokes to join at: often an end, or the middle."""
    usual = rng.choice((0, 0, points - 1, points // 2), count)
    return np.where(rng.random(count) < 0.7, usual, rng.integers(0, points, count))


def _mirrored(strokes: Floats, axis: NDArray[np.int64], at: Floats) -> Floats:
    """`strokes` (N, P, 2) mirrored in coordinate `axis` (N,) at the points `at` (N, 2)."""
    flipped = 2 * at[:, None] - strokes
    return np.where((np.arange(2) == axis[:, None])[:, None], flipped, strokes)


def _fitted(strokes: Floats, numbers: Counts, sides: Floats) -> Floats:
    """`strokes` (N, S, P, 2) around 0, the first `numbers` (N,) as large as a square of `sides` (N,)."""
    counts = (np.arange(strokes.shape[1]) < numbers[:, None])[..., None, None]
    low = np.where(counts, strokes, np.inf).min((1, 2), keepdims=True)
    high = np.where(counts, strokes, -np.inf).max((1, 2), keepdims=True)
    scale = sides[:, None, None, None] / (high - low).max(-1, keepdims=True).clip(1e-9)
    fitted: Floats = (strokes - (low + high) / 2) * scale
    return fitted


def drawn_by_pen(strokes: Floats, numbers: Counts, widths: Floats) -> Pixels:
    """The first `numbers` (N,) of `strokes` (N, S, P, 2), pixels around the middle, by round pens.

    Returns:
        (N, 28, 28) in [0, 1].
    """
    places = (strokes + IMAGE_SIZE / 2) * _FINER
    steps = np.diff(places, axis=2)
    turns = np.diff(np.arctan2(steps[..., 1], steps[..., 0]), axis=2)
    round_at = np.ones(
        places.shape[:-1], bool
    )  # at the ends, and where a turn would show that it is a polygon
    round_at[:, :, 1:-1] = np.cos(turns) < np.cos(_CORNER)
    drawn = np.empty((len(strokes), IMAGE_SIZE, IMAGE_SIZE), np.float32)
    for n, (number, width) in enumerate(zip(numbers, widths * _FINER, strict=True)):
        image = Image.new("L", (IMAGE_SIZE * _FINER, IMAGE_SIZE * _FINER))
        pen, radius = ImageDraw.Draw(image), width / 2
        for stroke in places[n, :number]:
            pen.line(stroke.ravel().tolist(), fill=255, width=round(width))
        for x, y in places[n, :number][round_at[n, :number]].tolist():
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        drawn[n] = np.asarray(image.reduce(_FINER))
    return drawn / np.float32(255)
