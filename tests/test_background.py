"""Generated drawings: in MNIST's layout, of their seed alone, and under the same pens as digits."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bnn.data.background import CHANGED, CHIMERAS, background, chimeras, turned
from bnn.data.geometry import interpolated, laid_out, moves, smooth
from bnn.data.imageset import ImageSet
from bnn.data.preprocess import to_mnist
from bnn.data.strokes import WIDTHS, drawn_by_pen, pen_strokes
from bnn.data.styles import by_another_pen, by_any_pen

DIGITS = ImageSet.from_name("digits", part="train").images[:200, 0]
seeds = st.integers(0, 2**32)


def centres(images: Tensor) -> Tensor:
    """The centre of mass of each of `images` (N, 28, 28), (N, 2) as x and y."""
    places, mass = torch.arange(28.0), images.sum((1, 2))
    return torch.stack((images.sum(1) @ places / mass, images.sum(2) @ places / mass), 1)


def extents(images: Tensor) -> Tensor:
    """The larger of width and height of each one's ink, (N,) pixels."""
    ink = images > 0.15
    longest = []
    for one in ink:
        rows, columns = one.any(1).nonzero(), one.any(0).nonzero()
        longest.append(int(max(rows.max() - rows.min(), columns.max() - columns.min())) + 1)
    return torch.tensor(longest)


@given(seeds)
def test_drawings_are_images_and_of_their_seed(seed: int) -> None:
    drawn, again, other = (background(DIGITS, 24, np.random.default_rng(s)) for s in (seed, seed, seed + 1))
    assert drawn.shape == (24, 28, 28)
    assert drawn.dtype == torch.float32
    assert drawn.min() >= 0
    assert drawn.max() <= 1 + 1e-6
    assert drawn.equal(again)
    assert not drawn.equal(other)


@pytest.mark.parametrize("seed", range(10))  # one seed in some hundreds has a speck that is enlarged further
def test_strokes_and_chimeras_are_in_mnists_layout(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = torch.cat([torch.from_numpy(pen_strokes(12, rng)), chimeras(DIGITS, 12, rng)])
    sizes = extents(drawn)
    assert sizes.max() <= 22
    assert (sizes >= 18).float().mean() > 0.7  # but where specks were all that lay so far out
    off = (centres(drawn) - 14).abs() > 0.6  # only where else it would not fit into the frame
    edges = torch.stack((drawn[:, :, [0, 1, -2, -1]].amax((1, 2)), drawn[:, [0, 1, -2, -1]].amax((1, 2))), 1)
    assert (edges[off] > 0.01).all()


def test_strokes_have_what_a_pen_of_the_allowed_widths_leaves_and_are_not_alike() -> None:
    drawn = torch.from_numpy(pen_strokes(400, np.random.default_rng(0)))
    ink = drawn.sum((1, 2))
    assert ink.min() > WIDTHS[0] * 15
    assert ink.max() < 28 * 28 / 2
    distances = torch.cdist(drawn.flatten(1), drawn.flatten(1))
    assert distances.fill_diagonal_(99).amin(1).median() > 3


@given(st.floats(*WIDTHS), st.floats(-6, 6), st.floats(4, 12))
def test_a_straight_stroke_leaves_ink_by_its_length_and_width(width: float, x: float, half: float) -> None:
    line = np.stack((np.full(24, x), np.linspace(-half, half, 24)), -1)[None, None]
    drawn = drawn_by_pen(line, np.array([1]), np.array([width]))[0]
    assert drawn.sum() == pytest.approx(2 * half * width + np.pi * width**2 / 4, rel=0.2)
    ink = np.argwhere(drawn > 0.3)
    assert ink[:, 1].mean() == pytest.approx(13.5 + x, abs=0.6)


@pytest.mark.parametrize("name", CHIMERAS)
def test_each_kind_of_chimera_makes_images_of_its_seed(name: str) -> None:
    first, second = DIGITS[:60], DIGITS[60:120]
    made, again = (CHIMERAS[name](first, second, np.random.default_rng(5)) for _ in range(2))
    assert made.shape == first.shape
    assert made.dtype == torch.float32
    assert made.equal(again)
    assert made.min() >= 0
    assert made.max() <= 1
    assert ((made - first).abs().sum((1, 2)) > CHANGED * first.sum((1, 2))).float().mean() > 0.3


def test_halves_are_of_both_and_nothing_else() -> None:
    ones, zeros = torch.ones(50, 28, 28), torch.zeros(50, 28, 28)
    made = CHIMERAS["halves"](ones, zeros, np.random.default_rng(0))
    shares = made.mean((1, 2))
    assert ((shares > 0.3) & (shares < 0.7)).all()
    flat = made.flatten(1)
    assert ((flat == 0) | (flat == 1)).all()
    upright = (made[:, :, :1] == made).all((1, 2))
    lying = (made[:, :1] == made).all((1, 2))
    assert (upright ^ lying).all()
    assert 5 < int(upright.sum()) < 45


@given(seeds)
def test_quarters_are_the_same_in_another_order(seed: int) -> None:
    made = CHIMERAS["quarters"](DIGITS[:9], DIGITS[:9], np.random.default_rng(seed))
    for one, other in zip(DIGITS[:9], made, strict=True):
        tiles = [image.unfold(0, 14, 14).unfold(1, 14, 14).flatten(0, 1) for image in (one, other)]
        sums = [tile.flatten(1).double().sum(1).sort().values for tile in tiles]
        torch.testing.assert_close(*sums)


@given(seeds)
def test_what_is_turned_is_never_upright_and_each_way_comes(seed: int) -> None:
    image = laid_out(DIGITS[:1])
    made = turned(image, 200, np.random.default_rng(seed))
    ways = [side.rot90(k, (-2, -1)) for side in (image, image.flip(-1)) for k in range(4)]
    counts = [int((made == way).all((1, 2)).sum()) for way in ways]
    assert counts[0] == 0
    assert min(counts[1:]) > 5
    assert sum(counts) == 200


@given(seeds)
def test_what_is_erased_or_added_or_laid_over_only_takes_or_only_gives(seed: int) -> None:
    first, second = DIGITS[:20], DIGITS[20:40]
    for name, sign in (("erased", -1), ("added", 1), ("overlaid", 1)):
        made = CHIMERAS[name](first, second, np.random.default_rng(seed))
        assert (sign * (made - first) >= 0).all(), name


@given(seeds)
def test_a_dent_moves_ink_near_a_place_of_it_and_leaves_what_is_far(seed: int) -> None:
    thin = torch.zeros(30, 28, 28)
    thin[:, :, 3] = thin[:, :, 24] = 1.0
    made = CHIMERAS["dented"](thin, thin, np.random.default_rng(seed))
    moved = (made - thin).abs().amax(1) > 0.05  # which columns
    touched = torch.stack((moved[:, :14].any(1), moved[:, 14:].any(1)), 1)
    assert touched.any(1).float().mean() > 0.6  # but where it was moved along its line
    assert not touched.all()  # three in five have one dent, by one of the lines


def test_chimeras_come_even_of_images_that_are_alike_or_blank() -> None:
    for images in (DIGITS[:1].expand(3, -1, -1), torch.zeros(2, 28, 28)):
        made = chimeras(images, 12, np.random.default_rng(0))
        assert made.shape == (12, 28, 28)
        assert made.isfinite().all()


@given(seeds)
def test_a_pen_changes_drawings_and_digits_by_the_same_numbers(seed: int) -> None:
    drawings = background(DIGITS, 10, np.random.default_rng(1))
    both = torch.cat([drawings, DIGITS[:10]])
    swapped = torch.cat([DIGITS[:10], drawings])
    for images in (both, swapped):
        varied = by_any_pen(images, np.random.default_rng(seed))
        assert varied.shape == images.shape
        assert varied.min() >= 0
        assert varied.max() <= 1
        # An image's own change depends on its place among them and not on what it shows.
        alone = by_any_pen(images[:1].expand(20, -1, -1), np.random.default_rng(seed))
        torch.testing.assert_close(varied[0], alone[0], atol=1e-5, rtol=1e-4)


@given(seeds)
def test_a_single_image_can_be_drawn_by_another_pen(seed: int) -> None:
    drawn = by_another_pen(DIGITS[:1], np.random.default_rng(seed))
    assert drawn.shape == (1, 28, 28)
    assert 0 < drawn.max() <= 1
    assert drawn.min() >= 0


def test_layout_is_that_of_single_pictures() -> None:
    drawn = torch.from_numpy(pen_strokes(60, np.random.default_rng(2)))
    moved = interpolated(drawn, moves(60, np.random.default_rng(0), shift=3, stretch=0.3))
    ours, theirs = laid_out(moved), torch.from_numpy(np.stack([to_mnist(one) for one in moved.numpy()]))
    assert (extents(ours) - extents(theirs)).abs().float().mean() < 1.5
    assert (ours - theirs).abs().sum() < 0.45 * theirs.sum()  # to a fraction of a pixel


@given(seeds, st.integers(1, 3), st.integers(2, 28))
def test_smooth_numbers_stay_within_those_of_their_knots(seed: int, channels: int, knots: int) -> None:
    made = smooth(channels, 2, knots, np.random.default_rng(seed))
    own = np.random.default_rng(seed).standard_normal((2, channels, knots, knots), np.float32)
    assert made.shape == (2, channels, 28, 28)
    assert made.max() <= own.max() + 1e-5
    assert made.min() >= own.min() - 1e-5


def test_moves_by_nothing_leave_images_as_they_are() -> None:
    still = interpolated(DIGITS[:5], moves(5, np.random.default_rng(0)))
    torch.testing.assert_close(still, DIGITS[:5], atol=1e-5, rtol=0)
    flipped = interpolated(DIGITS[:5], moves(5, np.random.default_rng(0), mirror=1))
    torch.testing.assert_close(flipped, DIGITS[:5].flip(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["strokes", "chimeras"])
def test_they_are_sets_of_images_by_name(name: str) -> None:
    some, again = (ImageSet.from_name(name, seed=3, limit=20) for _ in range(2))
    assert some.images.shape == (20, 1, 28, 28)
    assert some.images.equal(again.images)
    assert some.labels is None
