"""Whether a picture can be judged at all: what is wrong with it, in a word of `QUALITIES`."""

import cv2
import numpy as np
from numpy.typing import NDArray

from bnn.data.ink import Ink

BLANK, FAINT, TOO_SMALL, CUT_OFF, SEVERAL = "blank", "faint", "too small", "cut off", "several marks"
QUALITIES = {  # what a picture is refused for, whatever the rule says
    BLANK: "nothing is drawn there",
    FAINT: "it hardly stands out from its ground",
    TOO_SMALL: "it is a dot, or too small to read",
    CUT_OFF: "a part of it lies outside of the picture",
    SEVERAL: "there is more than one mark",
}

_FAINT = 0.025  # of the range of brightness, beyond the noise: what stands out less is nothing at all
_LOUD = 0.05  # standard deviation of a ground in which much might be hidden
_FEWEST = 6  # pixels of the picture that a digit is tall or wide
_DOT = 1.5  # stroke widths that a digit is long at least; a disc is 1, and none of MNIST's calibration digits
_DASH, _SLIM = 2.7, 1.35  # and stroke widths that a single stroke is long and across
_TALL, _OVERLAP = 0.6, 0.25  # of the taller, of the narrower: marks as tall, side by side, are several
_APART = 0.25  # of the digit's size: a part that is farther off belongs to no digit
_COMPACT = 1.7  # stroke widths of a dot of its own, as that of "!"
_FULL = 0.75  # of full ink: where a stroke is cut, and not where its edge ends
_MET = 0.25  # stroke widths of it at the edge: a stroke runs over it
_SIDE = 0.8  # of a side, that a line or a margin reaches over, and what is left of a digit does not
_MARGIN = 0.04  # of a side, that a digit which was not cropped tightly has beside it


def quality_of(ink: Ink) -> str:
    """What is wrong with a picture of `ink`, a word of `QUALITIES`; "" where it can be judged."""
    if not len(ink.areas):
        if ink.lines.any() and max(_reach(ink.lines, axis) for axis in (0, 1)) < _SIDE:
            return CUT_OFF
        return FAINT if ink.contrast > _FAINT or ink.noise > _LOUD else BLANK
    if _size(ink.boxes) * ink.scale < _FEWEST or _is_dot(ink):
        return TOO_SMALL
    if _is_cut_off(ink):
        return CUT_OFF
    if any(_is_apart(ink, part) for part in range(len(ink.areas))):
        return SEVERAL
    return ""


def _reach(mask: NDArray[np.bool_], axis: int) -> float:
    """The share of the picture's side along `axis` that `mask` (H, W) reaches over."""
    places = np.flatnonzero(mask.any(1 - axis))
    return float(places[-1] + 1 - places[0]) / mask.shape[axis]


def _size(boxes: NDArray[np.int64]) -> float:
    """The longer side of the box around all `boxes` (P, 4)."""
    return float((boxes[:, 2:].max(0) - boxes[:, :2].min(0)).max())


def _is_dot(ink: Ink) -> bool:
    """Whether the largest part is no longer than a dot or a dash."""
    part = int(ink.areas.argmax())
    longest = (ink.boxes[part, 2:] - ink.boxes[part, :2]).max()
    if longest < _DOT * ink.stroke_width:
        return True
    if longest > _DASH * ink.stroke_width:
        return False
    points = np.argwhere(ink.labels == part + 1).astype(np.float32)
    across, along = sorted(cv2.minAreaRect(points)[1])
    return along + 1 < _DASH * ink.stroke_width and across + 1 < _SLIM * ink.stroke_width


def _is_cut_off(ink: Ink) -> bool:
    """Whether a stroke runs over one edge or two, and the others are free."""
    full = ink.ink > _FULL
    edges = (full[0], full[-1], full[:, 0], full[:, -1])
    met = sum(int(edge.sum()) >= max(2, _MET * ink.stroke_width) for edge in edges)
    top, left = ink.boxes[:, :2].min(0)
    bottom, right = ink.boxes[:, 2:].max(0)
    height, width = full.shape
    room = (top / height, 1 - bottom / height, left / width, 1 - right / width)
    return met > 0 and sum(share >= _MARGIN for share in room) >= 2


def _is_apart(ink: Ink, part: int) -> bool:
    """Whether a part is another mark beside the largest one, and none of its strokes."""
    main = int(ink.areas.argmax())
    if part == main:
        return False
    one, other = ink.boxes[main], ink.boxes[part]
    gap = np.maximum(other[:2] - one[2:], one[:2] - other[2:]).max()
    if gap > _APART * _size(ink.boxes[main : main + 1]):
        return True
    sides = np.stack([one[2:] - one[:2], other[2:] - other[:2]])
    shared = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    beside = shared[1] < _OVERLAP * sides[:, 1].min() and sides[:, 0].min() > _TALL * sides[:, 0].max()
    dot = sides[1].max() < _COMPACT * ink.stroke_width and gap > 0.3 * ink.stroke_width
    return bool(beside or dot)
