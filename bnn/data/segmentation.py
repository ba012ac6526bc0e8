"""From the ink of a picture to what may be its digits: rows, and in each row pieces of ink, left to right.

Every connected part is cut wherever two touching digits might part, which is too often (over-segmentation),
and neighbouring atoms that may be one digit are put together again in every way that fits. Which of these
pieces are the digits is for the classifier's evidence to say, by `best_pieces` (recognition-based
segmentation, Casey & Lecolinet 1996).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bnn.data.ink import Ink

Pixels = NDArray[np.float32]
Floats = NDArray[np.float64]
Numbers = NDArray[np.int32]
Boxes = NDArray[np.int64]
Mask = NDArray[np.bool_]

# Lengths are in heights of a typical digit of the picture, unless they say otherwise.
_BIG = 0.5  # of the greatest height: what is as high is a digit, or several
_SMALL = 0.45  # what is smaller both ways is a mark and no digit
_OVERLAP = 0.4  # of the lower one's height: what two digits of a row share
_CUT_FROM = 0.55  # a part that is narrower is not cut
_CUTS_EVERY = 0.12  # how far two cuts are apart
_SWAY = 0.2  # how far a cut may turn aside on its way down
_THROUGH = 2.5  # stroke widths of ink that a cut may go through
_INK = 0.3  # of full ink, from which a pixel counts for a part's outline
_NOTCH = 0.12  # how deep a notch between two digits is
_SLANT = 0.4  # how far the notch at the bottom may be from the one at the top
_GAP = 0.15  # what is farther apart is not one digit
_WIDEST = 1.5  # of a digit
_MOST_ATOMS = 12  # of a digit
_CUT_HEIGHT = 48  # pixels of the height at which cuts are looked for
_RULE_SPAN = 0.6  # of the picture's width that a ruled line spans
_RULE_GAP = 0.4  # of the width, that a digit on a ruled line may hide of it
_RULE_COVERS = 0.6  # of the columns between the digits that a ruled line goes through
_BETWEEN = 0.1  # of the picture's width, that is between its digits at least
_BESIDE = 3  # stroke widths above and below a ruled line that are free between the digits
_RULE_THICK = 0.6  # stroke widths: thicker is no ruled line
_POINT = 0.6  # stroke widths: a speck of that size within a row may be a decimal point


@dataclass(frozen=True)
class Piece:
    """What may be a digit: some neighbouring atoms of a row.

    Attributes:
        start, stop: the first atom, and the one after the last.
        cuts: at how many of its two ends it is cut from ink that it is connected with.
    """

    start: int
    stop: int
    cuts: int = 0


@dataclass(frozen=True, eq=False)
class Row:
    """A row of ink, as atoms from left to right.

    Attributes:
        atoms: numbers in `Segmentation.atoms`.
        pieces: which of them may be a digit together; every atom by itself is one.
    """

    atoms: tuple[int, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The ink of a picture in atoms, in the pixels (H, W) of its `Ink`.

    Attributes:
        ink: (H, W) float32 in [0, 1], without ruled lines.
        atoms: (H, W) int32, the atom that a pixel belongs to, from 1; 0 where there is none.
        boxes: (A + 1, 4), of each atom: top, left, bottom, right (the last two exclusive); first of none.
        rows: from the top of the page to its bottom.
        height: pixels of a typical digit's height; 0 without ink.
    """

    ink: Pixels
    atoms: Numbers
    boxes: Boxes
    rows: tuple[Row, ...]
    height: float

    def box(self, row: Row, piece: Piece) -> Boxes:
        """Of a piece: top, left, bottom, right, (4,)."""
        boxes = self.boxes[list(row.atoms[piece.start : piece.stop])]
        return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])

    def patch(self, row: Row, piece: Piece) -> Pixels:
        """The ink of a piece, cropped, as if the picture showed nothing else: 1 where it is darkest."""
        top, left, bottom, right = self.box(row, piece)
        place = slice(top, bottom), slice(left, right)
        own = np.isin(self.atoms[place], row.atoms[piece.start : piece.stop])
        ink = np.where(own, self.ink[place], np.float32(0))
        return ink / max(float(ink.max()), np.finfo(np.float32).tiny)

    def is_at_edge(self, row: Row, piece: Piece) -> bool:
        """Whether a piece reaches an edge of the picture."""
        top, left, bottom, right = self.box(row, piece)
        return min(top, left) == 0 or bottom == self.ink.shape[0] or right == self.ink.shape[1]

    def is_mark(self, row: Row, piece: Piece) -> bool:
        """Whether a piece is too small for a digit of this picture."""
        top, left, bottom, right = self.box(row, piece)
        return max(bottom - top, right - left) < _SMALL * self.height


def segmented(ink: Ink, *, cell: bool = False) -> Segmentation:
    """The rows of `ink` and what may be their digits.

    Args:
        ink: of a picture.
        cell: whether the picture is a form's cell, along whose edges there may be lines but no digits.
    """
    rules = _rules(ink)
    mask = (ink.labels > 0) & ~rules
    beside = cv2.dilate(rules.astype(np.uint8), np.ones((5, 3), np.uint8)).astype(np.bool_) & ~mask
    strength = np.where(beside, np.float32(0), ink.ink)
    parts, boxes = _without_crumbs(*_connected(mask), ink.stroke_width)
    if len(boxes) == 1:
        return Segmentation(ink.ink, parts, boxes, (), 0.0)
    dropped = (ink.specks if cell else ink.specks | ink.lines) & ~rules & ~beside
    parts, boxes, restored = _with_dropped(parts, boxes, dropped, ink.stroke_width)
    height = _typical_height(boxes[1:])
    rows = _rows(boxes[1:], height)
    atoms, of_part = _cut(parts, boxes, height, ink)
    atoms = _with_fringe(atoms, strength, round(ink.stroke_width / 2))
    atom_boxes = _boxes_of(atoms)
    return Segmentation(
        ink=np.where(restored[parts], np.float32(1), strength),
        atoms=atoms,
        boxes=atom_boxes,
        rows=tuple(
            _row({atom: part for part in row for atom in of_part[part + 1]}, atom_boxes, height)
            for row in rows
        ),
        height=height,
    )


def best_pieces(pieces: tuple[Piece, ...], costs: Floats) -> tuple[list[int], Floats]:
    """Which pieces, by index, are the digits of a row, left to right; and how sure it is of each piece.

    The pieces chosen cover every atom once at the least cost. With a path's probability taken as
    proportional to exp(−cost), the sureness of a piece is the share of the paths through it (the
    forward-backward algorithm).

    Args:
        pieces: of a row, with a path through them all.
        costs: (P,) nats.

    Returns:
        Indices of the chosen, and log-shares (P,), at most 0.
    """
    last = max(piece.stop for piece in pieces)
    order = sorted(range(len(pieces)), key=lambda index: pieces[index].start)
    least, via = np.full(last + 1, np.inf), np.zeros(last + 1, np.int64)
    forward, backward = np.full(last + 1, -np.inf), np.full(last + 1, -np.inf)
    least[0] = forward[0] = backward[last] = 0
    for index in order:
        start, stop = pieces[index].start, pieces[index].stop
        forward[stop] = np.logaddexp(forward[stop], forward[start] - costs[index])
        if least[start] + costs[index] < least[stop]:
            least[stop], via[stop] = least[start] + costs[index], index
    for index in reversed(order):
        start, stop = pieces[index].start, pieces[index].stop
        backward[start] = np.logaddexp(backward[start], backward[stop] - costs[index])
    shares = np.array(
        [
            forward[piece.start] - cost + backward[piece.stop] - forward[last]
            for piece, cost in zip(pieces, costs, strict=True)
        ]
    )
    chosen: list[int] = []
    at = last
    while at > 0:
        chosen.append(int(via[at]))
        at = pieces[chosen[-1]].start
    return chosen[::-1], shares


def _rules(ink: Ink) -> Mask:
    """Ruled lines across the digits: thin, and nearly as long as the picture is wide."""
    mask = (ink.labels > 0) | ink.lines | ink.specks
    width = mask.shape[1]
    thin = _thin(mask, _RULE_THICK * ink.stroke_width)
    found = cv2.HoughLinesP(
        thin.astype(np.uint8),
        rho=1,
        theta=np.pi / 720,
        threshold=max(20, width // 4),
        minLineLength=_RULE_SPAN * width,
        maxLineGap=_RULE_GAP * width,
    )
    rules = np.zeros_like(mask)
    for left, top, right, bottom in () if found is None else found.reshape(-1, 4):
        if abs(bottom - top) < 0.1 * (right - left):
            _add_rule(rules, mask, (left, top, right, bottom), round(_BESIDE * ink.stroke_width))
    return rules


def _thin(mask: Mask, most: float) -> Mask:
    """Where ink is at most so many pixels thick, from top to bottom."""
    size = int(most) + 1
    thick = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((size, 1), np.uint8))
    return mask & (thick == 0)


def _add_rule(rules: Mask, mask: Mask, line: tuple[int, int, int, int], beside: int) -> None:
    """Adds the thin ink along `line` to `rules`, where no stroke goes through it.

    It is no ruled line unless it goes on between the digits, where there is no other ink `beside` it.
    """
    left, top, right, bottom = line
    columns = np.arange(mask.shape[1])
    middles = np.round(top + (columns - left) * (bottom - top) / max(1, right - left)).astype(int)
    runs = [_run(mask[:, column], middle) for column, middle in zip(columns, middles, strict=True)]
    lengths = np.array([stop - start for start, stop in runs])
    most = 1.6 * np.median(lengths[lengths > 0]) + 1
    thin = (lengths > 0) & (lengths <= most)
    near = np.abs(np.arange(len(mask))[:, None] - middles) <= beside
    between = (mask & near).sum(0) <= lengths
    if between.mean() < _BETWEEN or thin[between].mean() < _RULE_COVERS:
        return
    for column, (start, stop) in enumerate(runs):
        if thin[column]:
            rules[start:stop, column] = True


def _run(column: Mask, middle: int) -> tuple[int, int]:
    """Where the ink of a column about `middle` starts and stops; nowhere where there is none."""
    near = [row for row in (middle, middle - 1, middle + 1) if 0 <= row < len(column) and column[row]]
    if not near:
        return 0, 0
    above, below = np.flatnonzero(~column[: near[0]]), np.flatnonzero(~column[near[0] :])
    start = int(above[-1]) + 1 if len(above) else 0
    return start, near[0] + int(below[0]) if len(below) else len(column)


def _connected(mask: Mask) -> tuple[Numbers, Boxes, NDArray[np.int64]]:
    """The connected parts of `mask`, numbered from 1; the boxes and areas of the ground and of each."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    left, top, width, height, area = np.asarray(stats, np.int64).T
    return np.asarray(labels, np.int32), np.stack([top, left, top + height, left + width], 1), area


def _boxes_of(labels: Numbers) -> Boxes:
    """The box of each number from 0 in `labels`."""
    count = int(labels.max()) + 1
    boxes = np.zeros((count, 4), np.int64)
    rows, columns = np.nonzero(labels)
    numbers = labels[rows, columns]
    for axis, places in enumerate((rows, columns)):
        first, last = np.full(count, max(labels.shape)), np.full(count, -1)
        np.minimum.at(first, numbers, places)
        np.maximum.at(last, numbers, places)
        boxes[:, axis], boxes[:, axis + 2] = first, last + 1
    return boxes


def _without_crumbs(
    parts: Numbers, boxes: Boxes, areas: NDArray[np.int64], stroke: float
) -> tuple[Numbers, Boxes]:
    """Without what a removed line or noise has left over: parts that are smaller than a dot of the pen."""
    kept = areas >= max(1.0, 0.25 * stroke**2)
    kept[0] = True
    numbers = np.where(kept, np.cumsum(kept) - 1, 0).astype(np.int32)
    return numbers[parts], boxes[kept]


def _with_dropped(parts: Numbers, boxes: Boxes, dropped: Mask, stroke: float) -> tuple[Numbers, Boxes, Mask]:
    """With what of `dropped` ink may be a digit or a decimal point; and which parts are such."""
    height = _typical_height(boxes[1:])
    labels, found, _ = _connected(dropped)
    chosen = [
        index
        for index in range(1, len(found))
        if _is_digit_sized(found[index], height, labels.shape)
        or (_is_point_sized(found[index], stroke) and _within(found[index], boxes[1:]))
    ]
    numbers = np.zeros(len(found), np.int32)
    numbers[chosen] = np.arange(len(boxes), len(boxes) + len(chosen))
    restored = np.arange(len(boxes) + len(chosen)) >= len(boxes)
    return np.where(parts, parts, numbers[labels]), np.concatenate([boxes, found[chosen]]), restored


def _is_digit_sized(box: Boxes, height: float, shape: tuple[int, ...]) -> bool:
    """Whether it is as large as the picture's digits, and not as long as the picture."""
    sides = box[2:] - box[:2]
    return bool(
        _BIG * height <= sides.max() <= _WIDEST * height and (sides < _RULE_SPAN * np.array(shape)).all()
    )


def _is_point_sized(box: Boxes, stroke: float) -> bool:
    return bool((box[2:] - box[:2]).min() >= max(2.0, _POINT * stroke))


def _within(box: Boxes, boxes: Boxes) -> bool:
    """Whether a speck lies between two parts of a row: as high, one to its left and one to its right."""
    top, left, bottom, right = box
    level = (boxes[:, 0] <= bottom) & (boxes[:, 2] + 0.2 * (boxes[:, 2] - boxes[:, 0]) >= top)
    return bool((level & (boxes[:, 3] <= right)).any() and (level & (boxes[:, 1] >= left)).any())


def _typical_height(boxes: Boxes) -> float:
    heights = boxes[:, 2] - boxes[:, 0]
    return float(np.median(heights[heights >= _BIG * np.quantile(heights, 0.9)]))


def _rows(boxes: Boxes, height: float) -> list[list[int]]:
    """Parts by rows: each digit is in that of the nearest one to its right that stands as high."""
    big = np.flatnonzero(boxes[:, 2] - boxes[:, 0] >= _BIG * height)
    row_of = dict(enumerate(range(len(boxes))))
    for index in big.tolist():
        nearest = _right_of(index, big, boxes)
        if nearest is not None:
            old, new = row_of[nearest], row_of[index]
            row_of = {part: new if row == old else row for part, row in row_of.items()}
    for index in np.setdiff1d(np.arange(len(boxes)), big):
        row_of[int(index)] = row_of[int(big[_distances(boxes[index], boxes[big]).argmin()])]
    rows = [[part for part, row in row_of.items() if row == number] for number in set(row_of.values())]
    return sorted(rows, key=lambda row: float(np.median(boxes[row][:, [0, 2]].mean(1))))


def _right_of(index: int, among: NDArray[np.int64], boxes: Boxes) -> int | None:
    """The nearest part of a row right of part `index`; None where there is none."""
    tops, bottoms = boxes[among, 0], boxes[among, 2]
    top, left, bottom, _ = boxes[index]
    shared = np.minimum(bottoms, bottom) - np.maximum(tops, top)
    level = shared >= _OVERLAP * np.minimum(bottoms - tops, bottom - top)
    after = (boxes[among, 1] > left) | ((boxes[among, 1] == left) & (among > index))
    possible = among[level & after]
    return int(possible[boxes[possible, 1].argmin()]) if len(possible) else None


def _distances(box: Boxes, boxes: Boxes) -> Floats:
    """How far a box is from each of `boxes`, 0 where they meet."""
    below, right = boxes[:, 0] - box[2], boxes[:, 1] - box[3]
    above, left = box[0] - boxes[:, 2], box[1] - boxes[:, 3]
    return np.hypot(np.maximum(0, np.maximum(above, below)), np.maximum(0, np.maximum(left, right)))


def _cut(parts: Numbers, boxes: Boxes, height: float, ink: Ink) -> tuple[Numbers, list[list[int]]]:
    """The parts cut wherever two digits may touch: atoms, and each part's numbers (the ground's first)."""
    atoms, count = np.zeros_like(parts), 0
    of_part: list[list[int]] = [[]]
    for number in range(1, len(boxes)):
        top, left, bottom, right = boxes[number]
        place = slice(top, bottom), slice(left, right)
        own = parts[place] == number
        pieces = own.astype(np.int32)
        if right - left >= _CUT_FROM * height:
            for seam in _seams(np.where(own, ink.ink[place], 0), height, ink.stroke_width):
                pieces += own & (np.arange(right - left) >= seam[:, None])
        used = np.unique(pieces[own])
        renumbered = np.searchsorted(used, pieces).astype(np.int32) + 1
        atoms[place][own] = renumbered[own] + count
        of_part.append([count + 1 + index for index in range(len(used))])
        count += len(used)
    return atoms, of_part


def _seams(ink: Pixels, height: float, stroke: float) -> list[Floats]:
    """Ways down through a part, left to right: at each row, the column that it is at.

    They lead from a notch at the part's top to one at its bottom, or else through little ink.
    """
    scale = min(1.0, _CUT_HEIGHT / height)
    size = (max(2, round(ink.shape[1] * scale)), max(2, round(ink.shape[0] * scale)))
    small = np.asarray(cv2.resize(ink, size, interpolation=cv2.INTER_AREA), np.float32)
    high, sway = height * scale, max(1, round(_SWAY * height * scale))
    starts = np.arange(round(0.15 * high), size[0] - round(0.15 * high), max(1, round(_CUTS_EVERY * high)))
    found = [_seam(small, int(start), sway) for start in starts]
    cheap = [(cost, seam) for cost, seam in found if cost <= _THROUGH * max(stroke * scale, 1.5)]
    kept = _between_notches(small, high)
    for _, seam in sorted(cheap, key=lambda pair: pair[0]):
        if all(np.abs(seam - other).mean() >= _CUTS_EVERY * high for other in kept):
            kept.append(seam)
    rows = (np.arange(ink.shape[0]) + 0.5) * size[1] / ink.shape[0] - 0.5
    whole = [np.interp(rows, np.arange(size[1]), seam) / scale for seam in kept]
    return sorted(whole, key=lambda seam: float(seam.mean()))


def _between_notches(ink: Pixels, high: float) -> list[Floats]:
    """Straight ways down between two notches of a part's outline, or from one straight on."""
    from scipy.signal import find_peaks  # half a second to import, and few pictures come here

    full = ink > _INK
    inked = full.any(0)
    depths = (np.where(inked, side.argmax(0), len(ink)) for side in (full, full[::-1]))
    tops, bottoms = (find_peaks(depth, prominence=_NOTCH * high)[0] for depth in depths)
    ends = [(top, _nearest(top, bottoms, _SLANT * high)) for top in tops]
    ends += [(_nearest(bottom, tops, _SLANT * high), bottom) for bottom in bottoms]
    lines = (np.linspace(top, bottom, len(ink)) + 0.5 for top, bottom in dict.fromkeys(ends))
    kept: list[Floats] = []
    for line in lines:
        if all(np.abs(line - other).mean() >= _CUTS_EVERY * high / 2 for other in kept):
            kept.append(line)
    return kept


def _nearest(column: int, others: NDArray[np.int64], most: float) -> int:
    """The nearest of `others`, or `column` where it is more than `most` off or there is none."""
    if not len(others):
        return int(column)
    nearest = int(others[np.abs(others - column).argmin()])
    return nearest if abs(nearest - column) <= most else int(column)


def _seam(ink: Pixels, start: int, sway: int) -> tuple[float, Floats]:
    """The way down near column `start` through the least ink: how much of it, in pixels; and its columns."""
    low, high = max(0, start - sway), min(ink.shape[1], start + sway + 1)
    band = ink[:, low:high].astype(np.float64)
    costs, came = band[0], np.zeros(band.shape, np.int64)
    for row in range(1, len(band)):
        padded = np.concatenate([[np.inf], costs, [np.inf]])
        steps = np.stack([padded[:-2] + 0.05, padded[1:-1], padded[2:] + 0.05])
        came[row] = steps.argmin(0) - 1
        costs = steps.min(0) + band[row]
    columns = np.zeros(len(band), np.int64)
    columns[-1] = costs.argmin()
    for row in range(len(band) - 1, 0, -1):
        columns[row - 1] = columns[row] + came[row, columns[row]]
    return float(costs.min()), (columns + low + 0.5).astype(np.float64)


def _with_fringe(atoms: Numbers, ink: Pixels, reach: int) -> Numbers:
    """With the pale edge of the strokes, each pixel in an atom beside it."""
    grown = atoms.astype(np.float32)
    box = np.ones((3, 3), np.uint8)
    for _ in range(max(1, reach)):
        grown = np.where((grown == 0) & (ink > 0), cv2.dilate(grown, box), grown)
    return grown.astype(np.int32)


def _row(part_of: dict[int, int], boxes: Boxes, height: float) -> Row:
    """A row of atoms, whose parts are given."""
    atoms = sorted(part_of, key=lambda atom: int(boxes[atom, 1] + boxes[atom, 3]))
    parts = [part_of[atom] for atom in atoms]
    return Row(tuple(atoms), tuple(_pieces(boxes[atoms], parts, height)))


def _pieces(boxes: Boxes, parts: list[int], height: float) -> Iterator[Piece]:
    """What may be a digit of the atoms with these boxes and parts, left to right."""
    for start in range(len(boxes)):
        right = boxes[start, 3]
        for stop in range(start + 1, min(len(boxes), start + _MOST_ATOMS) + 1):
            group = boxes[start:stop]
            wide, high = group[:, 3].max() - group[:, 1].min(), group[:, 2].max() - group[:, 0].min()
            too_far = group[-1, 1] - right > _GAP * height
            if stop > start + 1 and (too_far or wide > _WIDEST * height or high > 2 * height):
                break
            inside = set(parts[start:stop])
            yield Piece(
                start, stop, sum(not inside.isdisjoint(side) for side in (parts[:start], parts[stop:]))
            )
            right = max(right, group[-1, 3])
