"""Where the ink is in a picture of a digit, a line or a page: its ground, its parts, its strokes.

The ground is what a morphological closing leaves (Serra 1982): every stroke narrower than the window is
filled, while shade, steps of light and margins stay as they are. What stands out from it is ink or a line;
parts that hug an edge are lines, those that are small beside the largest are specks.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bnn.data.layout import stroke_width

Pixels = NDArray[np.float32]
Grey = NDArray[np.uint8]
Mask = NDArray[np.bool_]

LONGEST = 2000  # pixels of the longer side of the picture that is worked on; larger ones are shrunk
FAINTEST = 0.06  # of the range of brightness: what stands out less is no ink
_COARSE = 128  # pixels of the longer side of the picture in which polarity and stroke width are guessed
_ROUGH = 64  # and of that in which the ground far around is
_SAMPLED = 128  # pixels of a side in which the ground's noise is measured
_BINS = 256  # levels of strength that are told apart
_NOISES = 3  # standard deviations of the ground that are no ink
_EDGE = 0.3  # of the ink's strength: where a stroke ends
_DRAWING = 800  # pixels of the longer side of a picture that is shrunk where its strokes are wide
_WIDE, _SMALLEST = 14, 200  # pixels across its strokes, and of its longer side, down to which it is shrunk
_FEW = 200  # pixels of a large picture that are as strong as its ink, at least
_ROUNDS = 4  # in which lines are taken away
_WINDOW = 2  # stroke widths that the ground's window has
_BAND = 0.16  # of a side: a part that touches an edge and lies in so narrow a band along it is no ink
_LONG = 0.25  # of a side: a part that is shorter is no line
_NEAR = 0.02  # of a side: what is so near to an edge touches it
_SPECK = 0.05  # of the largest part's area
_FRINGE = 0.08  # of the ink's strength: the palest pixels of a stroke's edge


@dataclass(frozen=True, eq=False)
class Ink:
    """The ink of a picture, in the pixels (H, W) of the picture that was worked on.

    Attributes:
        ink: (H, W) float32 in [0, 1], how much of each pixel is ink; 0 outside of the parts.
        labels: (H, W) int32, the part that a pixel belongs to, from 1; 0 where there is none.
        boxes: (P, 4) int64, of each part: top, left, bottom, right (the last two exclusive).
        areas: (P,) int64 pixels of each part.
        lines: (H, W) bool, what was taken for lines and margins.
        specks: (H, W) bool, what was taken for dirt.
        stroke_width: pixels across the widest stroke of the largest part; 0 without parts.
        contrast: how far the ink stands out from the ground, of the range of brightness.
        noise: standard deviation of the ground, of the range of brightness.
        scale: pixels of the picture as it was given for one of these.
    """

    ink: Pixels
    labels: NDArray[np.int32]
    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]
    lines: Mask
    specks: Mask
    stroke_width: float
    contrast: float
    noise: float
    scale: float


def find_ink(brightness: Pixels) -> Ink:
    """The ink in a picture of `brightness` (H, W) in [0, 1], dark on bright or bright on dark."""
    small, scale = shrunk(brightness)
    is_bright, width = _guessed(small)
    if is_bright:
        small = 1 - small
    if max(small.shape) <= _DRAWING and width > _WIDE:  # a drawing need not be as fine as it is
        small, coarser = shrunk(small, max(_SMALLEST, round(max(small.shape) * _WIDE / width)))
        scale, width = scale * coarser, width / coarser
    window = round(_WINDOW * width) if width else min(small.shape)
    return _parts(*_above_ground(small, max(3, window)), scale)


def shrunk(brightness: Pixels, longest: int = LONGEST) -> tuple[Pixels, float]:
    """The picture with sides of at most `longest` pixels, and how many of the given make one of these."""
    height, width = brightness.shape
    scale = max(height, width) / longest
    if scale <= 1:
        return np.ascontiguousarray(brightness, np.float32), 1.0
    return _float(cv2.resize(brightness, _size((height, width), scale), interpolation=cv2.INTER_AREA)), scale


def _size(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    """Width and height of a picture of `shape` (H, W), `scale` of whose pixels become one."""
    return max(1, round(shape[1] / scale)), max(1, round(shape[0] / scale))


def _guessed(brightness: Pixels) -> tuple[bool, float]:
    """Whether the ink is brighter than its ground, and about how many pixels wide its strokes are at most."""
    coarse, scale = shrunk(brightness, _COARSE)
    is_bright = _is_bright(coarse)
    strength, _ = _above_ground(1 - coarse if is_bright else coarse, max(3, min(coarse.shape)))
    width = stroke_width(_sorted_out(strength).labels > 0)
    return is_bright, (width + 2) * scale if width else 0.0


def _is_bright(brightness: Pixels) -> bool:
    """Whether the ink is brighter than its ground: on that side of the local median lies more."""
    grey = _grey(shrunk(brightness, _ROUGH)[0])
    window = min(grey.shape) * 3 // 4 | 1
    ground = cv2.medianBlur(cv2.copyMakeBorder(grey, *4 * (window // 2,), cv2.BORDER_REFLECT), window)
    half = window // 2
    inner = ground[half : half + grey.shape[0], half : half + grey.shape[1]]
    apart = grey.astype(np.float32) - inner
    return bool((apart * apart * apart).sum() > 0)


def _above_ground(brightness: Pixels, window: int) -> tuple[Pixels, float]:
    """How far dark ink stands out from its ground, in [0, 1], and the ground's noise."""
    ground = _ground(_grey(brightness), window)
    apart = (ground - brightness) / np.maximum(ground, 0.1)
    step = max(1, max(apart.shape) // _SAMPLED)
    sample = apart[::step, ::step].ravel()
    middle = _median(sample)
    noise = 1.4826 * _median(np.abs(sample - middle))
    return np.asarray(np.clip(apart - middle - _NOISES * noise, 0, 1), np.float32), noise


def _median(values: NDArray[np.floating[Any]]) -> float:
    """That of `values` (N,), as NumPy's, which takes three times as long."""
    ordered = np.sort(values)
    return float((ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2)


def _ground(grey: Grey, window: int) -> Pixels:
    """The brightness of the ground (H, W) under dark strokes that are narrower than `window`."""
    calm = cv2.medianBlur(grey, 3)
    scale = max(1, max(grey.shape) / _ROUGH)
    far = cv2.resize(calm, _size(grey.shape, scale), interpolation=cv2.INTER_AREA)
    around = cv2.medianBlur(far, _odd(min(round(2 * window / scale), *far.shape)))
    beyond = cv2.resize(around, grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
    window |= 1  # an even window would move what it closes by half a pixel
    half = window // 2 + 1
    padded = cv2.copyMakeBorder(beyond, *4 * (half,), cv2.BORDER_REPLICATE)
    padded[half:-half, half:-half] = calm
    return _float(_float(_closed(np.asarray(padded, np.uint8), window)[1:-1, 1:-1]) / 255)


def _closed(grey: Grey, window: int) -> Grey:
    """The morphological closing of `grey` by a square, without the half window that lies along its edges.

    A square's largest pixel is that of columns of rows; OpenCV's takes time that grows with the window.
    """
    wide = cv2.copyMakeBorder(grey, *4 * (window // 2,), cv2.BORDER_CONSTANT, value=0)
    across = cv2.transpose(_running(np.maximum, np.asarray(wide, np.uint8), window))
    across = _running(np.maximum, np.asarray(across, np.uint8), window)
    closed = cv2.transpose(_running(np.minimum, across, window))
    return _running(np.minimum, np.asarray(closed, np.uint8), window)


def _running(extreme: np.ufunc, grey: Grey, window: int) -> Grey:
    """The `extreme` of each `window` rows of `grey` (H, W), (H + 1 - window, W), in steps that double."""
    reach = 1
    while reach < window:
        step = min(reach, window - reach)
        grey = extreme(grey[:-step], grey[step:])
        reach += step
    return grey


@dataclass(frozen=True, eq=False)
class _Sorted:
    """Which pixels are parts, lines and specks, and how strong the parts' ink is."""

    labels: NDArray[np.int32]
    stats: NDArray[np.int64]
    lines: Mask
    specks: Mask
    high: float


def _sorted_out(strength: Pixels) -> _Sorted:
    """What stands out, as parts, lines and specks."""
    lines, rest = np.zeros(strength.shape, np.bool_), strength
    for _ in range(_ROUNDS):  # without a black margin, pale ink is ink
        high = _high(rest)
        labels, stats = _connected(rest > (_EDGE * high if high >= FAINTEST else 1))
        hugging = _hugging(labels, stats)
        if not hugging.any():
            break
        lines |= _widened(hugging[labels], 1)
        rest = np.where(lines, 0, strength)
    return _without_specks(labels, stats, lines, high)


def _connected(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The connected parts of `mask` (H, W), numbered from 1, and their left, top, width, height, area."""
    _, labels, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(
        mask.view(np.uint8),
        8,
        cv2.CV_32S,
        cv2.CCL_GRANA,  # with stats, the quickest for pictures this small
    )
    return np.asarray(labels, np.int32), np.asarray(stats, np.int64)


def _high(strength: Pixels) -> float:
    """The strength of the ink: that of the few strongest pixels."""
    few = min(max(4, min(_FEW, strength.size // 2000)), strength.size)
    inked = np.sort(strength[strength > 0])
    least = float(inked[-few]) if len(inked) >= few else 0.0
    return math.floor(least * _BINS / (1 + 1 / _BINS)) / (_BINS - 1)


def _hugging(labels: NDArray[np.int32], stats: NDArray[np.int64]) -> Mask:
    """Which parts (index 0 is the ground) touch an edge and lie in a narrow band along the edges."""
    height, width = labels.shape
    band = max(1, round(_BAND * min(height, width)))
    left, top, wide, high, area = stats.T
    near = round(_NEAR * min(height, width))
    touches = np.minimum(left, top) <= near
    touches |= np.minimum(width - left - wide, height - top - high) <= near
    touches[0] = False  # the ground
    if not touches.any():
        return touches
    inner = np.bincount(labels[band:-band, band:-band].ravel(), minlength=len(stats))
    along = (wide >= 0.8 * width) | (high >= 0.8 * height)
    solid = along & (area >= 0.85 * wide * high)  # a margin broader than the band
    long = np.maximum(wide, high) >= _LONG * min(height, width)
    return touches & ((long & (inner <= 0.02 * area)) | (solid & (area < 0.5 * labels.size)))


def _without_specks(labels: NDArray[np.int32], stats: NDArray[np.int64], lines: Mask, high: float) -> _Sorted:
    areas = stats[1:, cv2.CC_STAT_AREA]
    is_part = np.concatenate([[False], areas >= _SPECK * areas.max(initial=0)])
    if is_part[1:].all():
        return _Sorted(labels, stats[1:], lines, np.zeros_like(lines), high)
    numbers = np.where(is_part, np.cumsum(is_part), 0).astype(np.int32)
    specks = ~is_part
    specks[0] = False
    return _Sorted(numbers.take(labels), stats[is_part], lines, specks.take(labels), high)


def _parts(strength: Pixels, noise: float, scale: float) -> Ink:
    found = _sorted_out(strength)
    parts = found.labels > 0
    width = stroke_width(parts)
    reach = _widened(parts, max(1, round(width / 2))) & ~found.lines & ~found.specks
    soft = np.where(reach & (strength > _FRINGE * found.high), strength, 0)
    top = max(float(soft.max()), FAINTEST)
    left, upper, wide, tall, areas = found.stats.T
    return Ink(
        ink=np.clip(soft / top, 0, 1).astype(np.float32),
        labels=found.labels,
        boxes=np.stack([upper, left, upper + tall, left + wide], 1),
        areas=areas,
        lines=found.lines,
        specks=found.specks,
        stroke_width=width,
        contrast=found.high,
        noise=noise,
        scale=scale,
    )


def _widened(mask: Mask, by: int) -> Mask:
    """`mask` and what is at most `by` pixels off."""
    box = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * by + 1, 2 * by + 1))
    return cv2.dilate(mask.view(np.uint8), box).astype(np.bool_)


def _grey(brightness: Pixels) -> Grey:
    return np.round(brightness * 255).astype(np.uint8)


def _float(array: NDArray[np.generic]) -> Pixels:
    return np.asarray(array, np.float32)


def _odd(size: int) -> int:
    """The largest odd number that is at most `size`, and at least 1."""
    return max(1, size - 1 + size % 2)
