"""What is drawn with the pad's pen: shapes, drawings that vary by a seed, and the sets made of them."""

import re
import string
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnn.data.digits import LABELLED
from bnn.data.drawn import DRAWN, DRAWN_DIGITS, Drawing, by_hand, drawings
from bnn.data.imageset import ImageSet
from bnn.data.pen import BRUSH, SIZE, render
from bnn.data.preprocess import is_blank, prepare
from bnn.data.shapes import CAPITALS, DIGITS, SMALL_LETTERS, curve, line, ring
from bnn.errors import InputError
from bnn.training.train import train

SETS = DRAWN | DRAWN_DIGITS
HOLES = {
    **{"0 round": 1, "0 slashed": 2, "1 large flag": 0, "2 plain": 0, "3 round": 0, "4 open": 0},
    **{"4 closed": 1, "5 with a hat": 0, "6 straight": 1, "7 barred": 0, "8 two circles": 2},
    **{"8 one stroke": 2, "9 curled": 1},
}
FEW = 3
EVERY = [(kind, way) for kinds in SETS.values() for kind, ways in kinds.items() for way in ways]


def loops(drawing: Drawing) -> int:
    """How many separate areas of paper its ink encloses."""
    paper = np.pad(np.asarray(drawing.picture().resize((100, 100))) > 128, 1, constant_values=True)
    areas, left = 0, {(int(y), int(x)) for y, x in np.argwhere(paper)}
    while left:
        areas += 1
        edge = [left.pop()]
        while edge:
            y, x = edge.pop()
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= near
            edge += near
    return areas - 1  # the paper around it


def test_all_letters_are_there_and_every_digit_in_several_ways() -> None:
    assert "".join(CAPITALS) == string.ascii_uppercase
    assert "".join(SMALL_LETTERS) == string.ascii_lowercase
    assert {kind[0] for kind in DIGITS} == set(string.digits)
    assert all(sum(kind[0] == digit for kind in DIGITS) >= 3 for digit in string.digits)


def test_no_two_ways_to_draw_are_the_same() -> None:
    others = [ways for name in ("doodles", "drawn") for kind in SETS[name].values() for ways in kind]
    assert len({str(way) for way in others}) == len(others)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of fewer drawings, which take less long: what is tested here does not depend on how many."""
    for module in ("drawn", "imageset"):
        monkeypatch.setattr(f"bnn.data.{module}.OF_A_KIND", FEW)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", SETS)
def test_a_set_is_so_many_of_each_kind_in_their_order_and_follows_from_the_seed(name: str) -> None:
    whole, part, other = (ImageSet.from_name(name, seed=s, limit=n) for s, n in ((3, None), (3, 30), (4, 30)))
    assert whole.kinds == [kind for kind in SETS[name] for _ in range(FEW)]
    assert whole.sources[:2] == [f"{whole.kinds[0]}/0", f"{whole.kinds[0]}/1"]
    assert len(set(whole.sources)) == len(whole) == len(torch.unique(whole.images, dim=0))
    assert whole[[whole.sources.index(source) for source in part.sources]].images.equal(part.images)
    assert not whole[[whole.sources.index(source) for source in other.sources]].images.equal(other.images)
    assert not is_blank(whole.images).any()


def test_a_set_is_its_pictures_brought_to_what_the_network_sees() -> None:
    drawn = [drawing.picture() for drawing in drawings(DRAWN["capitals"], 0)[:30]]
    assert ImageSet.from_name("capitals", seed=0).images[:30].equal(prepare(drawn))


def test_digits_alone_have_labels_which_their_names_begin_with() -> None:
    drawn = ImageSet.from_spec("Drawn", labelled=True, limit=100)
    assert drawn.truth().tolist() == [int(kind[0]) for kind in drawn.kinds]
    assert set(drawn.truth().tolist()) == set(range(10))
    assert all(ImageSet.from_name(name, limit=1).labels is None for name in DRAWN)


def test_they_are_to_be_measured_on_and_not_to_be_learnt() -> None:
    assert not SETS.keys() & LABELLED.keys()
    with pytest.raises(InputError, match="no labelled data set, folder or file 'drawn'"):
        train("drawn")


@pytest.mark.usefixtures("few")
def test_letters_that_look_like_digits_can_be_left_out(run_script: Callable[..., str]) -> None:
    told = run_script(Path(__file__).parents[1] / "benchmarks" / "drawn.py", "--draws", "2")
    capitals, small, doodles, digits = told.splitlines()
    assert re.fullmatch(r"capitals: \S+% of 78 refused; \S+% of 57 that look like no digit", capitals)
    assert re.fullmatch(r"small-letters: \S+% of 78 refused; \S+% of 51 that look like no digit", small)
    assert re.fullmatch(r"doodles: \S+% of 84 refused", doodles)
    assert re.match(r"drawn: \S+% of 114 answered, \d+ of \d+ rightly", digits)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match="at least 0"):
        ImageSet.from_name("doodles", seed=-1)


def test_drawings_of_a_kind_follow_from_its_name_and_not_from_the_other_kinds() -> None:
    alone = drawings({"K": CAPITALS["K"]}, 5)
    assert alone == [drawing for drawing in drawings(CAPITALS, 5) if drawing.kind == "K"]


@given(seed=st.integers(0, 2**32), which=st.integers(0, len(EVERY) - 1))
def test_all_that_is_drawn_is_on_the_pad_and_large_enough_to_see(seed: int, which: int) -> None:
    kind, way = EVERY[which]
    drawing = by_hand(kind, way, np.random.default_rng(seed))
    places = np.concatenate([np.array(stroke) for stroke in drawing.strokes])
    assert len(drawing.strokes) == len(way)
    assert places.min() - drawing.brush / SIZE / 2 > 0
    assert places.max() + drawing.brush / SIZE / 2 < 1
    assert 0.3 < np.ptp(places, axis=0).max() < 0.9
    assert 0.75 * BRUSH < drawing.brush < 1.25 * BRUSH


@pytest.mark.parametrize(("kind", "holes"), HOLES.items())
def test_a_digit_has_as_many_loops_as_it_should(kind: str, holes: int) -> None:
    of_kind = [drawing for drawing in drawings(DIGITS, 0) if drawing.kind == kind]
    assert np.median([loops(drawing) for drawing in of_kind]) == holes


def test_strokes_start_and_end_where_they_should_but_for_an_unsteady_hand() -> None:
    straight = line(20, 50, 80, 50)
    for seed in range(20):
        ((start, *_, end),) = by_hand("-", [straight], np.random.default_rng(seed)).strokes
        assert 0.35 < end[0] - start[0] < 0.75
        assert abs(end[1] - start[1]) < 0.2


def test_a_line_goes_through_its_places_and_a_single_place_is_a_dot() -> None:
    assert line(10, 20, 30, 40) == [(0.1, 0.2), (0.3, 0.4)]
    assert (np.asarray(render([line(50, 50)])) < 128).sum() == pytest.approx(np.pi * BRUSH**2 / 4, rel=0.05)


def test_a_curve_goes_smoothly_through_its_places() -> None:
    places = (20, 80, 30, 20, 60, 30, 80, 80)
    found = np.array(curve(*places))
    for place in line(*places):
        assert np.hypot(*(found - place).T).min() < 1e-9
    steps = [later - former for former, later in pairwise(found)]
    turns = [np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairwise(steps)]
    assert min(turns) > 0.5  # no corner of 60 degrees, though the places have some
    assert np.allclose(curve(10, 10, 20, 20, 30, 30), np.array(curve(30, 30, 20, 20, 10, 10))[::-1])


def test_a_ring_is_closed() -> None:
    places = np.array(ring(50, 40, 20, 30))
    assert places[0] == pytest.approx(places[-1])
    assert places[0] == pytest.approx([0.5, 0.1])
    assert (((places - [0.5, 0.4]) / [0.2, 0.3]) ** 2).sum(1) == pytest.approx(np.ones(len(places)))
