"""MNIST-C's corruptions: each against what its authors' code does, in closed form where there is one."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

import bnn
from bnn.data import mnist_c
from bnn.data.digits import load_mnist
from bnn.data.mnist_c import EACH, KINDS, corrupted, line, plasma

Pixels = NDArray[Any]
UNCHANGED = np.zeros((28, 28))


def seeded(seed: int = 0) -> Generator:
    return np.random.default_rng(seed)


def blob(row: float = 13.5, column: float = 13.5, spread: float = 1.0) -> Pixels:
    """A white spot, smooth enough that bilinear interpolation keeps its place."""
    place = np.arange(28)
    distance = (place[:, None] - row) ** 2 + (place[None] - column) ** 2
    return np.exp(-distance / (2 * spread**2))


def middle(image: Pixels) -> tuple[float, float]:
    """Row and column of the ink's mean, from the image's own middle."""
    place = np.arange(28) - 13.5
    return float((image.sum(1) * place).sum() / image.sum()), float(
        (image.sum(0) * place).sum() / image.sum()
    )


@pytest.fixture(scope="module")
def digit() -> NDArray[np.float32]:
    image: NDArray[np.float32] = bnn.ImageSet.from_name("digits", limit=1).images[0, 0].numpy()
    return image


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_corrupted_is_an_image_and_follows_from_kind_index_and_seed(kind: str, digit: Pixels) -> None:
    before = digit.copy()
    made = corrupted(digit, kind, 3, 0)
    assert made.shape == (28, 28)
    assert made.dtype == np.float32
    assert made.min() >= 0
    assert made.max() <= 1
    assert np.array_equal(made, corrupted(digit, kind, 3, 0))
    assert not np.array_equal(made, digit)
    assert np.array_equal(digit, before)
    certain = ("scale", "brightness", "stripe", "canny edges")
    others = [corrupted(digit, kind, index, seed) for index, seed in ((4, 0), (5, 0), (6, 0), (3, 1), (3, 2))]
    assert all(np.array_equal(made, other) for other in others) == (kind in certain)


def test_the_kinds_are_those_of_the_benchmark() -> None:
    named = "shot noise, impulse noise, glass blur, motion blur, shear, scale, rotate, brightness, translate"
    assert list(KINDS) == [
        *named.split(", "),
        "stripe",
        "fog",
        "spatter",
        "dotted line",
        "zigzag",
        "canny edges",
    ]


def test_shot_noise_counts_three_photons_where_it_is_white() -> None:
    counts = mnist_c.shot_noise(np.full((28, 28), 0.5), seeded()) * 3
    assert np.array_equal(counts, counts.round())
    many = mnist_c.shot_noise(np.full((2800, 28), 0.5), seeded()) * 3
    assert many.mean() == pytest.approx(1.5, abs=0.02)
    assert many.var() == pytest.approx(1.5, abs=0.05)  # a Poisson's variance is its mean
    assert mnist_c.shot_noise(UNCHANGED, seeded()).max() == 0


def test_impulse_noise_hits_17_in_100_pixels_half_of_them_white() -> None:
    hit = mnist_c.impulse_noise(np.full((2800, 28), 0.5), seeded())
    assert {0.0, 0.5, 1.0} == set(np.unique(hit))
    assert (hit == 1).mean() == pytest.approx(0.085, abs=0.004)
    assert (hit == 0).mean() == pytest.approx(0.085, abs=0.004)


def test_glass_blur_moves_ink_by_few_pixels_and_blurs_up_and_down_alone() -> None:
    level = np.zeros((28, 28))
    level[13] = 1  # which exchanges of neighbours and a blur across columns would leave in its row
    blurred = mnist_c.glass_blur(level, seeded())
    assert blurred.sum() == pytest.approx(level.sum(), rel=0.03)
    assert max(blurred[:7].max(), blurred[21:].max()) < 1e-3
    upright = mnist_c.glass_blur(level.T, seeded())
    assert np.count_nonzero(upright.sum(0) > 1e-9) <= 5  # by exchanges alone, one column each at a time


def test_motion_blur_smears_by_half_a_gaussian_one_way() -> None:
    weights = np.exp(-(np.arange(21) ** 2) / 18)
    far = (weights * np.arange(21)).sum() / weights.sum()  # the mean way
    dot = np.zeros((28, 28))
    dot[14, 20] = 1
    ways = []
    for seed in range(20):
        row, column = middle(mnist_c.motion_blur(dot, seeded(seed)))
        row, column = row - 0.5, column - 6.5
        assert math.hypot(row, column) == pytest.approx(far, abs=0.3)
        ways.append(math.degrees(math.atan2(-row, -column)))
    assert -46 < min(ways) < -20
    assert 20 < max(ways) < 46
    assert mnist_c.motion_blur(np.ones((28, 28)), seeded()) == pytest.approx(np.ones((28, 28)))


@pytest.mark.parametrize("kind", ["shear", "rotate", "scale", "translate"])
def test_a_spot_moves_as_the_map_says(kind: str) -> None:
    """The inverse maps of scikit-image's AffineTransform, about the middle."""
    row, column = 3.0, 5.0
    cos, sin = math.cos(0.4), math.sin(0.4)
    inverse = {
        "shear": [np.array([[cos, 0], [-sign * sin, 1]]) for sign in (1, -1)],
        "rotate": [np.array([[cos, sign * sin], [-sign * sin, cos]]) for sign in (1, -1)],
        "scale": [np.eye(2) / 0.7],
    }
    if kind == "translate":
        expected = {(row + up, column + left) for up in (3, -3) for left in (3, -3)}
    else:
        expected = {tuple(np.linalg.solve(matrix, [row, column]).tolist()) for matrix in inverse[kind]}
    found = set()
    for seed in range(30):
        place = middle(KINDS[kind](blob(13.5 + row, 13.5 + column), seeded(seed)))
        near = [one for one in expected if math.dist(one, place) < 0.1]
        assert len(near) == 1
        found.add(near[0])
    assert found == expected


def test_brightness_and_stripes_are_what_they_are(digit: Pixels) -> None:
    assert corrupted(digit, "brightness", 0, 0) == pytest.approx((digit + 0.5).clip(0, 1))
    striped = corrupted(digit, "stripe", 0, 0)
    assert striped[:, 7:21] == pytest.approx(digit[:, 7:21])
    outside = [*range(7), *range(21, 28)]
    assert striped[:, outside] == pytest.approx(1 - digit[:, outside])


def test_fog_is_three_parts_of_plasma_and_one_of_the_image(digit: Pixels) -> None:
    foggy = mnist_c.fog(digit.astype(float), seeded())
    fractal = plasma(seeded(), 1.4)[:28, :28]
    highest = digit.max()
    assert foggy == pytest.approx((digit + 3 * fractal) * highest / (highest + 3))


def test_a_plasma_goes_from_0_to_1_and_is_smoother_the_more_it_decays() -> None:
    rough, smooth = plasma(seeded(), 1.2), plasma(seeded(), 3.0)
    for heights in (rough, smooth):
        assert heights.shape == (256, 256)
        assert heights.min() == 0
        assert heights.max() == 1
    assert np.abs(np.diff(rough)).mean() > 2 * np.abs(np.diff(smooth)).mean()


def test_spatter_covers_with_dark_grey() -> None:
    white = np.ones((28, 28))
    covered = mnist_c.spatter(white, seeded())
    mud = (1 - covered) / (1 - 63 / 255)
    assert 0.02 < (mud > 0).mean() < 0.6
    assert mud[mud > 1e-9].min() >= 0.8
    dark = mnist_c.spatter(UNCHANGED, seeded())
    assert dark.max() <= 63 / 255 + 1e-9
    assert (dark > 0).tolist() == (mud > 1e-9).tolist()


def test_a_line_fades_with_the_distance_above_and_below_it() -> None:
    drawn = line((0, 10), (27, 10))
    expected = [1, 1 + math.log(1 - 1 / 2.3), 0]
    assert drawn[10:13, 5] == pytest.approx([max(0, one) for one in expected])
    assert drawn[8:11, 5] == pytest.approx([max(0, one) for one in expected][::-1])
    assert drawn[:, 27].max() == 0
    assert line((3, 10), (3, 20)).max() == 0


def test_a_dotted_line_has_dashes_of_two_pixels() -> None:
    for seed in range(10):
        inked = mnist_c.dotted_line(UNCHANGED, seeded(seed)).max(0) > 0
        dashed = [column % 4 >= 2 and column < 27 for column in range(28)]
        assert not inked[~np.array(dashed)].any()
        assert inked.sum() >= 0.8 * sum(dashed)


def test_a_zigzag_goes_from_left_to_right_and_up_and_down() -> None:
    for seed in range(10):
        drawn = mnist_c.zigzag(UNCHANGED, seeded(seed))
        assert drawn[:, [0, 1, 27]].max() == 0
        rows = drawn[:, 3:24].argmax(0)[drawn[:, 3:24].max(0) > 0.9]
        turns = np.count_nonzero(np.diff(np.sign(np.diff(rows.astype(float)))))
        assert turns >= 3


def test_canny_s_edges_are_where_a_square_ends() -> None:
    square = np.zeros((28, 28))
    square[8:20, 8:20] = 1
    edges = mnist_c.canny_edges(square, seeded())
    assert set(np.unique(edges)) == {0.0, 1.0}
    rows, columns = edges.nonzero()
    assert {int(rows.min()), int(columns.min())} <= {7, 8}
    assert {int(rows.max()), int(columns.max())} <= {19, 20}
    assert edges[10:18, 10:18].max() == 0
    assert 36 <= edges.sum() <= 52  # the square's edge is 44 pixels long


@pytest.mark.slow
def test_the_set_is_500_test_digits_in_each_kind(mnist_root: Any) -> None:
    digits = load_mnist(mnist_root, train=False)
    images = bnn.ImageSet.from_name("mnist-c", mnist_root)
    assert len(images) == EACH * len(KINDS)
    assert {kind: images.kinds.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, EACH)
    indices = [int(source.rpartition("/")[2]) for source in images.sources]
    assert images.truth().tolist() == digits.labels[indices].tolist()
    assert indices[:EACH] == indices[EACH : 2 * EACH]  # the same digits in every kind
    some = bnn.ImageSet.from_spec("MNIST-C", mnist_root, labelled=True, part="all", limit=30)
    places = [list(images.sources).index(source) for source in some.sources]
    assert np.array_equal(some.images, images.images[places])  # however few there are, each is the same


def test_it_is_to_be_measured_on_and_not_learnt() -> None:
    with pytest.raises(bnn.InputError):
        bnn.train("mnist-c", rule="entropy")
