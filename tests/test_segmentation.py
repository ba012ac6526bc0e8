"""From ink to rows, atoms, and the pieces that may be digits."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnn.data.ink import find_ink
from bnn.data.segmentation import Piece, Segmentation, best_pieces, segmented

Pixels = NDArray[np.float32]


def paper(height: int, width: int) -> Pixels:
    return np.ones((height, width), np.float32)


def seen(picture: Pixels) -> Segmentation:
    return segmented(find_ink(picture))


def stroke(picture: Pixels, *points: tuple[int, int], width: int = 8) -> None:
    """Draws a line through `points` (x, y)."""
    cv2.polylines(picture, [np.array(points, np.int32)], False, 0.1, width, cv2.LINE_AA)


def ring(picture: Pixels, x: int, y: int, radius: int = 22) -> None:
    cv2.circle(picture, (x, y), radius, 0.1, 8, cv2.LINE_AA)


def boxes(found: Segmentation) -> list[list[tuple[int, ...]]]:
    """Of the pieces that may be digits, row by row."""
    return [[tuple(found.box(row, piece).tolist()) for piece in row.pieces] for row in found.rows]


def paths(pieces: Sequence[Piece], at: int, last: int) -> Iterator[list[int]]:
    """All ways to cover the atoms from `at` on."""
    if at == last:
        yield []
    for index, piece in enumerate(pieces):
        if piece.start == at:
            yield from ([index, *rest] for rest in paths(pieces, piece.stop, last))


@st.composite
def lattices(draw: st.DrawFn) -> tuple[tuple[Piece, ...], NDArray[np.float64]]:
    """Pieces of up to six atoms, each atom by itself and some together, in any order; and what they cost."""
    atoms = draw(st.integers(1, 6))
    spans = [(start, stop) for start in range(atoms) for stop in range(start + 1, atoms + 1)]
    chosen = [span for span in spans if span[1] == span[0] + 1 or draw(st.booleans())]
    shuffled = draw(st.permutations(chosen))
    costs = draw(st.lists(st.floats(0, 60), min_size=len(chosen), max_size=len(chosen)))
    return tuple(Piece(*span) for span in shuffled), np.array(costs)


@given(lattices())
def test_the_best_pieces_are_those_of_the_cheapest_of_all_paths(
    lattice: tuple[tuple[Piece, ...], NDArray[np.float64]],
) -> None:
    pieces, costs = lattice
    every = list(paths(pieces, 0, max(piece.stop for piece in pieces)))
    chosen, shares = best_pieces(pieces, costs)
    assert chosen in every
    totals = np.array([costs[path].sum() for path in every])
    assert costs[chosen].sum() == pytest.approx(totals.min())
    weights = np.exp(totals.min() - totals)
    for index, share in enumerate(shares):
        through = sum(weight for weight, path in zip(weights, every, strict=True) if index in path)
        assert np.exp(share) == pytest.approx(through / weights.sum(), abs=1e-9)


def test_a_piece_that_may_not_be_is_never_chosen() -> None:
    pieces = (Piece(0, 1), Piece(1, 2), Piece(0, 2))
    chosen, shares = best_pieces(pieces, np.array([np.inf, 0.0, 50.0]))
    assert chosen == [2]
    assert np.exp(shares).tolist() == [0, 0, 1]


def test_rows_are_read_from_the_top_and_each_from_the_left_even_where_the_page_is_not_straight() -> None:
    picture = paper(300, 500)
    for row in range(2):
        for column in range(5):  # by its last digit a row has sunk by more than half of the distance of rows
            ring(picture, 50 + 95 * column, 50 + 110 * row + 17 * column, radius=18 + row)
    found = boxes(seen(picture))
    assert [len(row) for row in found] >= [5, 5]
    for line in seen(picture).rows:
        middles = [int(seen(picture).boxes[atom, [1, 3]].sum()) for atom in line.atoms]
        assert middles == sorted(middles)
    first, second = ([box[2] - box[0] for box in row] for row in found)
    assert max(first) < max(second)


def test_two_parts_of_a_broken_stroke_may_be_one_digit_and_two_digits_may_not() -> None:
    picture = paper(120, 260)
    stroke(picture, (40, 30), (70, 30))  # the bar of a 5, which stands off
    stroke(picture, (40, 44), (40, 58), (68, 66), (66, 88), (38, 94))
    ring(picture, 180, 62)
    found = seen(picture)
    (row,) = boxes(found)
    whole = (25, 35, 99, 74)
    assert any(np.abs(np.subtract(box, whole)).max() <= 4 for box in row)
    assert max(right - left for _, left, _, right in row) < 90  # nothing reaches from one to the other


def test_touching_digits_are_cut_between_them() -> None:
    picture = paper(120, 200)
    ring(picture, 70, 60)
    ring(picture, 120, 60)
    (row,) = boxes(seen(picture))
    for left, right in ((44, 95), (95, 146)):
        assert any(abs(box[1] - left) <= 5 and abs(box[3] - right) <= 5 for box in row), (left, right)


def test_an_atom_is_of_one_part_and_all_ink_is_in_one() -> None:
    picture = paper(120, 200)
    ring(picture, 70, 60)
    ring(picture, 120, 60)
    found = seen(picture)
    ink = find_ink(picture)
    assert ((found.atoms > 0) >= (ink.labels > 0)).all()
    assert set(np.unique(found.atoms)) - {0} == {atom for row in found.rows for atom in row.atoms}


@pytest.mark.parametrize("slope", [0, 6])
def test_a_ruled_line_across_the_picture_is_no_ink_and_what_stands_on_it_is_left(slope: int) -> None:
    picture = paper(150, 500)
    for x in (60, 160, 260, 360, 440):
        ring(picture, x, 70)
    cv2.line(picture, (0, 95), (500, 95 + slope), 0.4, 2, cv2.LINE_AA)
    found, scale = seen(picture), find_ink(picture).scale
    (row,) = boxes(found)
    sides = [(scale * left, scale * right) for _, left, _, right in row]
    for x in (60, 160, 260, 360, 440):
        assert any(abs(left - (x - 26)) <= 4 and abs(right - (x + 26)) <= 4 for left, right in sides), x
    assert max(right - left for left, right in sides) < 60
    between = cv2.resize(found.ink, (500, 150), interpolation=cv2.INTER_NEAREST)[93:104, 200:225]
    assert between.max() == 0


def test_a_stroke_as_long_as_the_picture_is_wide_is_no_ruled_line() -> None:
    picture = paper(100, 90)
    stroke(picture, (8, 15), (80, 15), (40, 90))  # a 7 that was cropped tightly
    found = seen(picture)
    (row,) = boxes(found)
    top, left, bottom, right = (max(values) for values in zip(*row, strict=True))
    assert found.ink[10:20, 20:70].min(axis=0).max() >= 0
    assert (found.ink[15, 12:76] > 0.5).all()
    assert bottom - top > 0
    assert right > left


def test_a_decimal_point_is_a_mark_of_its_own() -> None:
    picture = paper(120, 260)
    ring(picture, 60, 60)
    cv2.circle(picture, (108, 84), 5, 0.1, -1)
    ring(picture, 160, 60)
    found = seen(picture)
    (row,) = found.rows
    assert any(found.is_mark(row, piece) and abs(found.box(row, piece)[1] - 103) < 4 for piece in row.pieces)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (40, 40)])
def test_where_there_is_nothing_nothing_is_found(shape: tuple[int, int]) -> None:
    assert seen(np.full(shape, 0.7, np.float32)).rows == ()
