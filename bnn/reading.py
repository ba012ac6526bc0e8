"""Reading a picture: which digits it shows, where, and the number that they make, or why it is refused."""

import math
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core.ensemble import PredictiveEnsemble
from bnn.core.evidence import Evidence
from bnn.core.networks import IMAGE_SIZE
from bnn.data.ink import find_ink
from bnn.data.layout import laid_out
from bnn.data.preprocess import Images, Pixels, pictured
from bnn.data.quality import BLANK, CUT_OFF, SEVERAL, TOO_SMALL, quality_of
from bnn.data.segmentation import Piece, Row, Segmentation, best_pieces, segmented
from bnn.errors import InputError
from bnn.numerals import percent
from bnn.ood.contrast import Turned
from bnn.ood.detector import gather_evidence

Box = tuple[int, int, int, int]  # left, top, right, bottom (the last two exclusive), in the picture's pixels

ANSWERED, UNCLEAR = "answered", "unclear cut"
# Marks of one picture that are judged, and pieces that they may be cut into: more is noise, and takes long.
MOST_PIECES = 1500
_LEAST_CELL = 8  # pixels each way
LAYOUT = "mnist"  # of the tasks whose classes can be read

_ROUGH = 6  # draws that are enough to find the digits; all decide on them
# Costs in nats of taking a piece for a digit, by which the digits are found; see `_costs`.
_SURPRISES = 1.0  # of each nat of the piece's mean surprise, times three
_MOST_SURPRISE = 40.0  # beyond which a piece is no worse a digit
_PIECE = 1.0
_CUT = 2.0  # for each end that is cut
_MARK = 15.0
_WIDE = 30.0  # of each height by which a piece is wider than most digits
_WIDEST = 0.9  # heights
_CLEAR = 8.0  # a connected part that costs no more is a digit and not cut
# Share of the ways to read a row that a digit must be found in; more where it was cut, or may be two digits.
_SURE, _SURE_OF_CUT = 0.9, 0.99
_MAY_BE_TWO = 1.0  # heights: as wide as that
# Nats of surprise of a digit, at most; fewer where it was cut. With a 1 stuck to it, it surprises more.
_STRANGEST, _STRANGEST_CUT = 10.0, 7.0


@dataclass(frozen=True)
class Mark:
    """What was found at one place of a picture.

    Attributes:
        box: left, top, right, bottom (the last two exclusive) in pixels of the picture, held upright.
        answer: the digit; None where it is refused.
        reason: "answered", "ambiguous" or "unfamiliar" as for one image, or "mirrored or turned?"; "too
            small" for a digit (a decimal point, dirt), "unclear cut" (it is doubtful where one digit ends),
            and of a cell whose place was given "blank", "several marks"; "cut off" is what goes on outside
            of picture or cell.
        probability: of the likeliest digit, in [0, 1].
        candidates: the digits that it may be, likeliest first.
    """

    box: Box
    answer: str | None
    reason: str
    probability: float
    candidates: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """The digits of a picture.

    Attributes:
        rows: from top to bottom, each from left to right.
        promise: what is promised of a whole number, in words.

    Example:
        >>> import bnn
        >>> reading = bnn.read("docs/number.png", bnn.Classifier.load(draws=10))
        >>> reading
        Reading: 4 0 7 1
        >>> reading.number
        '4071'
        >>> reading.marks[0].box
        (50, 22, 92, 82)
    """

    rows: tuple[tuple[Mark, ...], ...]
    promise: str

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All that was found, in the order in which it is read."""
        return tuple(mark for row in self.rows for mark in row)

    @property
    def text(self) -> str:
        """What is read, such as "4 ? 7 1": "?" is what is refused; a line a row."""
        return "\n".join(" ".join(mark.answer or "?" for mark in row) for row in self.rows)

    @property
    def numbers(self) -> tuple[str | None, ...]:
        """The number of each row, leading zeros kept; None where some digit of it is refused."""
        return tuple(_number(row) for row in self.rows)

    @property
    def number(self) -> str | None:
        """The number, if the picture shows one row and each of its digits is answered; else None."""
        return self.numbers[0] if len(self.rows) == 1 else None

    @property
    def reason(self) -> str:
        """Why there is no number, in a sentence; "answered" where there is one."""
        if self.number is not None:
            return ANSWERED
        if not self.rows:
            return "No digit was found."
        if len(self.rows) > 1:
            return f"There are {len(self.rows)} rows, each with a number of its own."
        refused = [mark.reason for mark in self.marks if mark.answer is None]
        counted = [f"{refused.count(reason)} {reason}" for reason in dict.fromkeys(refused)]
        return f"Of {len(self.marks)} digits {len(refused)} cannot be told ({', '.join(counted)})."

    def __repr__(self) -> str:
        return f"Reading: {self.text}" if self.rows else "Reading: no digit"


def read(
    picture: Images,
    classifier: Classifier | None = None,
    *,
    grid: tuple[int, int] | None = None,
    boxes: Sequence[Box] | None = None,
) -> Reading:
    """The digits of a picture: of a number, a line, a form's field or a page.

    Args:
        picture: one, of any kind that `Classifier.predict` takes; its ink may be dark or bright.
        classifier: decides on each digit; by default the one that ships, loaded anew.
        grid: rows and columns of a page that is ruled into cells of equal size, a digit or nothing in each.
        boxes: the places of such cells, in pixels: left, top, right, bottom.

    Raises:
        InputError: the picture cannot be read, the grid does not fit it, a box lies outside of it, it has
            more marks than a page of digits, or the classifier's classes are not laid out as digits are.

    Example:
        >>> import bnn
        >>> bnn.read("docs/number.png", bnn.Classifier.load(draws=10)).text
        '4 0 7 1'
    """
    classifier = classifier or Classifier.load()
    if classifier.task.layout != LAYOUT:
        raise InputError(
            f"only what is laid out as digits are ({LAYOUT}) can be read, and not the layout "
            f"{classifier.task.layout!r}."
        )
    if grid is not None and boxes is not None:
        raise InputError("give a grid or boxes, not both.")
    brightness, shape = pictured(picture)
    if grid is None and boxes is None:
        rows = tuple(tuple(row) for row in _found(brightness, classifier, _few_draws(classifier)))
    elif grid is not None:
        rows = _in_cells(brightness, _cells(grid, brightness.shape), classifier)
    else:
        places = [_resized(box, shape, brightness.shape) for box in _checked(boxes or (), shape)]
        rows = _in_cells(brightness, [places], classifier)
    rows = tuple(tuple(_moved(mark, brightness.shape, shape) for mark in row) for row in rows)
    return Reading(rows, promised(classifier, max(map(len, rows), default=1)))


def promised(classifier: Classifier, digits: int) -> str:
    """What `classifier` promises of whole numbers of so many `digits`, in words."""
    if (
        classifier.rule.promise is None
        or not classifier.is_as_calibrated
        or "risk" not in classifier.rule.controls
    ):
        return "Nothing is promised of the number: the digits' rule promises no risk."
    promise = classifier.rule.promise
    most = min(1.0, digits * promise.risk)
    return (
        f"Of numbers of {digits} digit{'s' * (digits != 1)} like those it learnt, each digit found where it "
        f"is, at most {percent(most)} are answered wrongly (with {percent(1 - promise.delta)} confidence)."
    )


def _number(row: Sequence[Mark]) -> str | None:
    answers = [mark.answer for mark in row]
    return None if None in answers else "".join(map(str, answers))


def _few_draws(classifier: Classifier) -> PredictiveEnsemble:
    """As many of its networks as it takes to find digits."""
    draws = classifier.posterior.sample(min(_ROUGH, len(classifier.ensemble)), classifier.seed)
    return PredictiveEnsemble(classifier.network, draws)


def _found(
    brightness: Pixels, classifier: Classifier, rough: PredictiveEnsemble, *, cell: bool = False
) -> list[list[Mark]]:
    """The digits of a picture, or of a form's cell, row by row."""
    ink = find_ink(brightness)
    _require_few(ink.areas)
    found = segmented(ink, cell=cell)
    rows = [
        _digits(found, row, costs)
        for row, costs in zip(found.rows, _costs(found, classifier, rough), strict=True)
    ]
    chosen = [
        (row, piece, sure) for row, pieces in zip(found.rows, rows, strict=True) for piece, sure in pieces
    ]
    places = [_scaled(found.box(row, piece), ink.scale, brightness.shape) for row, piece, _ in chosen]
    evidence = classifier.evidence(_seen(found, [(row, piece) for row, piece, _ in chosen]))
    quality = quality_of(ink)
    why = [
        _doubt(found, row, piece, sure and _is_plausible(piece, surprise), quality)
        for (row, piece, sure), surprise in zip(chosen, _surprise(evidence), strict=True)
    ]
    marks = _decided(evidence, places, why, classifier)
    return [[next(marks) for _ in pieces] for pieces in rows]


def _digits(found: Segmentation, row: Row, costs: NDArray[np.float64]) -> list[tuple[Piece, bool]]:
    """The pieces of a row that are its digits, and whether each is sure to be one."""
    chosen, shares = best_pieces(row.pieces, costs)
    return [(row.pieces[index], _is_sure(found, row, row.pieces[index], shares[index])) for index in chosen]


def _is_sure(found: Segmentation, row: Row, piece: Piece, share: float) -> bool:
    """Whether so large a log-share of the ways to read a row is enough for a digit."""
    suspect = piece.cuts > 0 or _width(found, row, piece) > _MAY_BE_TWO
    return bool(share >= math.log(_SURE_OF_CUT if suspect else _SURE))


def _is_plausible(piece: Piece, surprise: float) -> bool:
    """Whether a piece with that `surprise`, nats, is no more so than a digit that was found where it is."""
    return surprise <= (_STRANGEST_CUT if piece.cuts else _STRANGEST)


def _width(found: Segmentation, row: Row, piece: Piece) -> float:
    """Of a piece, in its own heights (where it is low: in heights of the picture's digits)."""
    top, left, bottom, right = found.box(row, piece)
    return float(right - left) / max(float(bottom - top), 0.7 * found.height)


def _doubt(found: Segmentation, row: Row, piece: Piece, sure: bool, quality: str) -> str:
    """Why a piece of a picture of that `quality` is refused whatever it looks like; "" where it is not."""
    if quality == TOO_SMALL or found.is_mark(row, piece):
        return TOO_SMALL
    if quality == CUT_OFF and found.is_at_edge(row, piece):
        return CUT_OFF
    return "" if sure else UNCLEAR


def _decided(
    evidence: Evidence, places: Sequence[Box], why: Sequence[str], classifier: Classifier
) -> Iterator[Mark]:
    """What `classifier` says of `evidence` of what is at N `places`, unless a reason `why` not is."""
    prediction = classifier.decide(evidence, np.full(len(places), ""))
    for index, (place, doubt) in enumerate(zip(places, why, strict=True)):
        answered = not doubt and prediction.labels[index] >= 0
        yield Mark(
            box=place,
            answer=prediction.decision(index) if answered else None,
            reason=_reason(doubt, str(prediction.quality[index] or prediction.reasons[index])),
            probability=float(prediction.probs[index].max()),
            candidates=tuple(prediction.names[label] for label in prediction.candidates[index]),
        )


def _reason(doubt: str, said: str) -> str:
    """Why a mark is refused: what is no digit by itself is so however it was cut."""
    return said if not doubt or (doubt == UNCLEAR and said != ANSWERED) else doubt


def _costs(
    found: Segmentation, classifier: Classifier, rough: PredictiveEnsemble
) -> Iterator[NDArray[np.float64]]:
    """For each row, what taking each of its pieces for a digit costs, (P,) nats.

    It is how surprising the piece is as a digit, and what cuts, width and smallness speak against it. Of
    parts that are clearly a digit as they stand, no other piece is judged.
    """

    def judged(pieces: list[tuple[Row, Piece]]) -> NDArray[np.float64]:
        if not pieces:
            return np.zeros(0)
        evidence = gather_evidence(rough, classifier.detector, _seen(found, pieces))
        return _surprise(evidence) + [_unlikeliness(found, row, piece) for row, piece in pieces]

    whole = [(row, piece) for row in found.rows for piece in row.pieces if piece.cuts == 0]
    _require_few(whole)
    costs = dict(zip(map(_key, whole), judged(whole), strict=True))
    open_pieces = [
        (row, piece)
        for row in found.rows
        for clear in [_clear(row, costs)]
        for piece in row.pieces
        if piece.cuts and not clear[piece.start : piece.stop].any()
    ]
    _require_few(open_pieces)
    costs |= dict(zip(map(_key, open_pieces), judged(open_pieces), strict=True))
    for row in found.rows:
        yield np.array([costs.get(_key((row, piece)), np.inf) for piece in row.pieces])


def _require_few(pieces: Sized) -> None:
    if len(pieces) > MOST_PIECES:
        raise InputError("the picture has more marks than a page of digits: cut it, or take a clearer one.")


def _key(at: tuple[Row, Piece]) -> tuple[int, Piece]:
    row, piece = at
    return row.atoms[0], piece


def _clear(row: Row, costs: dict[tuple[int, Piece], float]) -> NDArray[np.bool_]:
    """Which atoms of a row belong to a connected part that is clearly a digit, (A,) bool."""
    clear = np.zeros(len(row.atoms), np.bool_)
    for piece in row.pieces:
        if costs.get(_key((row, piece)), np.inf) <= _CLEAR:
            clear[piece.start : piece.stop] = True
    return clear


def _surprise(evidence: Evidence) -> NDArray[np.float64]:
    """The cost of what the pieces look like, (P,) nats: their mean surprise, times three.

    Which way up they are says nothing of where one ends.
    """
    named = [surprise for name, surprise in evidence.surprises.items() if name != Turned.name]
    surprises = torch.stack(named) if named else evidence.total[None]
    mean = 3 * _SURPRISES * surprises.double().mean(0).numpy()
    return np.where(mean <= _MOST_SURPRISE, mean, _MOST_SURPRISE)


def _unlikeliness(found: Segmentation, row: Row, piece: Piece) -> float:
    """The cost of how a piece was got and how large it is, nats."""
    wider = _width(found, row, piece) - _WIDEST
    mark = _MARK if found.is_mark(row, piece) else 0.0
    return _PIECE + _CUT * piece.cuts + _WIDE * max(0.0, wider) + mark


def _seen(found: Segmentation, pieces: Sequence[tuple[Row, Piece]]) -> Tensor:
    """What the networks see of `pieces`, (N, 1, 28, 28)."""
    seen = np.array([laid_out(found.patch(row, piece)) for row, piece in pieces], np.float32)
    return torch.from_numpy(seen.reshape(len(pieces), 1, IMAGE_SIZE, IMAGE_SIZE))


def _scaled(box: NDArray[np.int64], scale: float, shape: tuple[int, ...]) -> Box:
    """A box in pixels of the picture of that `shape`, which is `scale` times as large."""
    top, left, bottom, right = (box * scale).tolist()
    return (
        math.floor(left),
        math.floor(top),
        min(shape[1], math.ceil(right)),
        min(shape[0], math.ceil(bottom)),
    )


def _moved(mark: Mark, of: tuple[int, ...], to: tuple[int, ...]) -> Mark:
    """`mark` with its box in the picture itself, which may have been shrunk as it was read."""
    return mark if of == to else replace(mark, box=_resized(mark.box, of, to))


def _resized(box: Box, of: tuple[int, ...], to: tuple[int, ...]) -> Box:
    """The same place in a picture of the shape `to` (H, W) as a box in one of the shape `of`."""
    down, across = to[0] / of[0], to[1] / of[1]
    left, top, right, bottom = box
    return (
        math.floor(left * across),
        math.floor(top * down),
        min(to[1], math.ceil(right * across)),
        min(to[0], math.ceil(bottom * down)),
    )


def _in_cells(
    brightness: Pixels, cells: Sequence[Sequence[Box]], classifier: Classifier
) -> tuple[tuple[Mark, ...], ...]:
    """The digits in cells whose places are known, one a cell."""
    flat = [cell for row in cells for cell in row]
    rough = _few_draws(classifier)
    read_alone = [
        _found(brightness[top:bottom, left:right], classifier, rough, cell=True)
        for left, top, right, bottom in flat
    ]
    marks = iter([_one(found, cell) for found, cell in zip(read_alone, flat, strict=True)])
    return tuple(tuple(next(marks) for _ in row) for row in cells)


def _one(found: list[list[Mark]], cell: Box) -> Mark:
    marks = [mark for row in found for mark in row]
    if not marks:
        return Mark(cell, None, BLANK, 0.0, ())
    if len(marks) > 1:
        return Mark(cell, None, SEVERAL, 0.0, ())
    left, top, right, bottom = marks[0].box
    inside = left > 0 and right < cell[2] - cell[0] and top > 0 and bottom < cell[3] - cell[1]
    box = (left + cell[0], top + cell[1], right + cell[0], bottom + cell[1])
    return replace(marks[0], box=box) if inside else Mark(box, None, CUT_OFF, 0.0, ())


def _cells(grid: tuple[int, int], shape: tuple[int, ...]) -> list[list[Box]]:
    """The cells of a page of that `shape`, row by row."""
    rows, columns = grid
    height, width = shape
    if rows < 1 or columns < 1:
        raise InputError(f"a grid has at least one row and one column, and {rows}x{columns} has not.")
    if height < _LEAST_CELL * rows or width < _LEAST_CELL * columns:
        raise InputError(
            f"a grid of {rows}x{columns} does not fit a picture of {width}x{height} pixels: a cell needs "
            f"{_LEAST_CELL} each way."
        )
    tops, lefts = np.linspace(0, height, rows + 1), np.linspace(0, width, columns + 1)
    across = list(pairwise(lefts.round().astype(int).tolist()))
    down = pairwise(tops.round().astype(int).tolist())
    return [[(left, top, right, bottom) for left, right in across] for top, bottom in down]


def _checked(boxes: Sequence[Box], shape: tuple[int, ...]) -> list[Box]:
    """`boxes`, all of which lie within a picture of that `shape`."""
    height, width = shape
    for left, top, right, bottom in boxes:
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise InputError(
                f"the box {left},{top},{right},{bottom} does not lie within the picture of {width}x{height} "
                "pixels: give left, top, right, bottom in pixels."
            )
    return [(int(left), int(top), int(right), int(bottom)) for left, top, right, bottom in boxes]
