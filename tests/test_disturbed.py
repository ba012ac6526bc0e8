"""Pictures disturbed as photos, scans, forms and pads are: decided as without it, or refused for it."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from bnn.app.examples import DIGITS
from bnn.classifier import Classifier
from bnn.data.digits import Labelled
from bnn.data.geometry import laid_out
from bnn.data.pen import Strokes, render
from bnn.data.preprocess import read_images, to_mnist
from bnn.prediction import Prediction

Picture = NDArray[np.float32]  # (H, W) in [0, 1]
Disturbance = Callable[[Picture, Generator], Any]

COUNT, SIDE, SEED = 60, 280, 0
ENOUGH = 0.95  # of the images are answered as without the disturbance, or refused for it


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load()


@pytest.fixture(scope="module")
def chosen(mnist_test: Labelled) -> tuple[list[Picture], NDArray[np.int64]]:
    """Test digits as scans, dark ink on white paper, and their labels."""
    order = np.random.default_rng(SEED).permutation(len(mnist_test.images))[:COUNT]
    scans = [scan(digit) for digit in mnist_test.images[order, 0].numpy()]
    return scans, mnist_test.labels[order].numpy()


@pytest.fixture(scope="module")
def plain(classifier: Classifier, chosen: tuple[list[Picture], NDArray[np.int64]]) -> Prediction:
    return classifier.predict(chosen[0])


def scan(digit: Picture) -> Picture:
    margin = SIDE // 10
    large = cv2.resize(digit, (SIDE - 2 * margin,) * 2, interpolation=cv2.INTER_CUBIC).clip(0, 1)
    return np.asarray(1 - np.pad(large, margin), np.float32)


def turned(picture: Picture, rng: Generator, change: Callable[[Picture], None]) -> Picture:
    """`picture` changed at any of its sides."""
    quarter = int(rng.integers(4))
    other = np.rot90(picture, quarter).copy()
    change(other)
    return np.ascontiguousarray(np.rot90(other, -quarter))


def dark_strip(picture: Picture, rng: Generator) -> Picture:
    grey = rng.uniform(0, 0.4)

    def change(one: Picture) -> None:
        one[:, : round(0.05 * SIDE)] = grey

    return turned(picture, rng, change)


def shade_in_a_corner(picture: Picture, rng: Generator) -> Picture:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    beyond = np.hypot(rows, columns) - rng.uniform(0.4, 0.8) * SIDE
    shade = 0.6 + 0.4 / (1 + np.exp(-np.clip(beyond / rng.uniform(0.5, 15), -30, 30)))

    def change(one: Picture) -> None:
        one *= shade.astype(np.float32)

    return turned(picture, rng, change)


def half_in_shade(picture: Picture, rng: Generator) -> Picture:
    where = round(rng.uniform(0.35, 0.65) * SIDE)

    def change(one: Picture) -> None:
        one[:, :where] *= 0.6

    return turned(picture, rng, change)


def linear_shade(picture: Picture, rng: Generator) -> Picture:
    def change(one: Picture) -> None:
        one *= np.linspace(1, 0.6, SIDE, dtype=np.float32)

    return turned(picture, rng, change)


def a_line_around(picture: Picture, rng: Generator) -> Picture:
    framed = np.full_like(picture, rng.uniform(0, 0.5))
    framed[1:-1, 1:-1] = picture[1:-1, 1:-1]
    return framed


def ruled_cell(picture: Picture, rng: Generator) -> Picture:
    for _ in range(int(rng.integers(1, 3))):
        top, thick = rng.integers(0, 4), rng.integers(2, 6)
        left, right = rng.uniform(0, 0.4), rng.uniform(0.6, 1)
        grey = rng.uniform(0, 0.4)

        def change(
            one: Picture,
            rows: slice = slice(top, top + thick),
            of: tuple[float, float, float] = (left, right, grey),
        ) -> None:
            one[rows, round(of[0] * SIDE) : round(of[1] * SIDE)] = of[2]

        picture = turned(picture, rng, change)
    return picture


def chalk(picture: Picture, rng: Generator) -> Picture:
    board = rng.uniform(140, 200) / 255
    return np.asarray(board + (1 - picture) * (1 - board), np.float32)


def black_on_dark(picture: Picture, rng: Generator) -> Picture:
    return np.asarray(picture * rng.uniform(60, 120) / 255, np.float32)


def coloured(picture: Picture, rng: Generator) -> Image.Image:
    """Ink as bright as its paper: the same brightness (0.299, 0.587, 0.114) of red, green and blue."""
    paper = np.array([110.0, 140.0, 120.0])
    more_red = rng.uniform(60, 110)
    ink = paper + np.array([more_red, -more_red * 0.299 / 0.587, 0])
    colours = picture[..., None] * paper + (1 - picture[..., None]) * ink
    return Image.fromarray(colours.round().astype(np.uint8))


def three_specks(picture: Picture, rng: Generator) -> Picture:
    grey = np.round(picture * 255).astype(np.uint8)
    count = 0
    while count < 3:
        x, y = rng.integers(10, SIDE - 10, 2)
        if picture[y - 9 : y + 9, x - 9 : x + 9].min() > 0.95:
            cv2.circle(grey, (int(x), int(y)), 6, 30, -1, cv2.LINE_AA)
            count += 1
    return np.asarray(grey / 255, np.float32)


def a_stray_pixel(picture: Picture, rng: Generator) -> Picture:
    stray = picture.copy()
    stray[tuple(rng.integers(0, SIDE, 2))] = 0
    return stray


def noisy(picture: Picture, rng: Generator) -> Picture:
    return np.asarray((0.9 * picture + rng.normal(0, 0.02, picture.shape)).clip(0, 1), np.float32)


def twelve_bits(picture: Picture, rng: Generator) -> Image.Image:
    return Image.fromarray((picture * 4095).round().astype(np.uint16))


def heic(picture: Picture, rng: Generator) -> bytes:
    return encoded(picture, "HEIF")


def encoded(picture: Picture, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((picture * 255).round().astype(np.uint8)).convert("RGB").save(stream, kind)
    return stream.getvalue()


DISTURBANCES: Sequence[Disturbance] = (
    *(dark_strip, shade_in_a_corner, half_in_shade, linear_shade, a_line_around, ruled_cell),
    *(chalk, black_on_dark, coloured, three_specks, a_stray_pixel, noisy, twelve_bits, heic),
)


@pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda disturb: disturb.__name__)
def test_disturbed_pictures_are_decided_as_without_it(
    disturb: Disturbance,
    classifier: Classifier,
    chosen: tuple[list[Picture], NDArray[np.int64]],
    plain: Prediction,
) -> None:
    scans, labels = chosen
    rng = np.random.default_rng(SEED)
    decided = classifier.predict([disturb(one, rng) for one in scans])
    answered = plain.labels >= 0
    assert (decided.labels == plain.labels)[answered].mean() >= ENOUGH
    assert wrong(decided, labels) <= wrong(plain, labels)


def wrong(decided: Prediction, labels: NDArray[np.int64]) -> int:
    return int(((decided.labels >= 0) & (decided.labels != labels)).sum())


def test_nearly_all_plain_scans_are_answered(plain: Prediction) -> None:
    assert (plain.labels >= 0).mean() >= ENOUGH
    assert (plain.quality == "").all()


def assert_refused(decided: Prediction, quality: str) -> None:
    """At least `ENOUGH` for that reason, and none answered."""
    assert (decided.labels == -1).all()
    assert (decided.quality == quality).mean() >= ENOUGH


# What is no single whole digit


def test_half_a_digit_is_cut_off(
    classifier: Classifier, chosen: tuple[list[Picture], NDArray[np.int64]], plain: Prediction
) -> None:
    rng = np.random.default_rng(SEED)
    halves = []
    for one in chosen[0]:
        rows, columns = (np.flatnonzero((one < 0.5).any(axis)) for axis in (1, 0))
        middle = [(ink[0] + ink[-1]) // 2 for ink in (rows, columns)]
        of_it = rng.integers(4)
        part = (one[: middle[0]], one[middle[0] :], one[:, : middle[1]], one[:, middle[1] :])[of_it]
        halves.append(np.ascontiguousarray(part))
    decided = classifier.predict(halves)
    assert np.isin(decided.quality, ("cut off", "too small")).mean() >= ENOUGH
    assert wrong(decided, chosen[1]) <= wrong(plain, chosen[1])


@pytest.mark.parametrize("number", ["10", "42"])
def test_two_digits_are_several_marks(classifier: Classifier, mnist_test: Labelled, number: str) -> None:
    rng = np.random.default_rng(SEED)
    pictures = []
    for _ in range(40):
        parts = []
        for name in number:
            of_it = np.flatnonzero(mnist_test.labels.numpy() == int(name))
            digit = mnist_test.images[rng.choice(of_it), 0].numpy()
            columns = np.flatnonzero((digit > 0.1).any(0))
            parts.append(np.pad(digit[:, columns[0] : columns[-1] + 1], ((6, 6), (2, 2))))
        line = np.pad(np.concatenate(parts, 1), ((0, 0), (6, 6)))
        pictures.append(np.asarray(1 - cv2.resize(line, None, fx=5, fy=5).clip(0, 1), np.float32))
    assert_refused(classifier.predict(pictures), "several marks")


def drawn(strokes: Strokes) -> Image.Image:
    return render(strokes)


def test_a_click_and_a_comma_on_the_pad_are_too_small(classifier: Classifier) -> None:
    rng = np.random.default_rng(SEED)
    places = rng.uniform(0.1, 0.9, (40, 2)).tolist()
    clicks = [drawn([[(x, y), (x, y)]]) for x, y in places]
    commas = [
        drawn([[(x, y), (x - by / 2, y + by)]])
        for (x, y), by in zip(places, rng.uniform(0.02, 0.1, 40), strict=True)
    ]
    assert_refused(classifier.predict(clicks), "too small")
    assert_refused(classifier.predict(commas), "too small")


def test_an_exclamation_mark_is_two_marks(classifier: Classifier) -> None:
    rng = np.random.default_rng(SEED)
    marks = []
    for _ in range(40):
        x, top, bottom, gap = rng.uniform((0.3, 0.1, 0.55, 0.14), (0.7, 0.25, 0.65, 0.25))
        marks.append(drawn([[(x, top), (x, bottom)], [(x, bottom + gap), (x, bottom + gap)]]))
    assert_refused(classifier.predict(marks), "several marks")


def test_discs_of_any_size_are_refused(classifier: Classifier) -> None:
    discs = []
    for side in (60, 300):
        for radius in np.linspace(1, 0.6 * side, 20):
            disc = Image.new("L", (side, side), 255)
            ImageDraw.Draw(disc).circle((side / 2, side / 2), radius, 0)
            discs.append(disc)
    assert (classifier.predict(discs).labels == -1).all()


def test_pens_of_one_pixel_are_read_as_the_pads_pen(classifier: Classifier) -> None:
    rng = np.random.default_rng(SEED)
    thick, thin = [], []
    for side in (300, 500, 800, 1500):
        for strokes in DIGITS.values():
            moved = [
                [(x * s + dx, y * s + dy) for x, y in stroke]
                for s, dx, dy in [rng.uniform((0.8, 0, 0), (1.0, 0.1, 0.1))]
                for stroke in strokes
            ]
            thick.append(render(moved))
            picture = Image.new("L", (side, side), 255)
            for stroke in moved:
                ImageDraw.Draw(picture).line([(x * side, y * side) for x, y in stroke], 0, 1)
            thin.append(picture)
    by_pad, decided = classifier.predict(thick), classifier.predict(thin)
    assert (decided.labels == by_pad.labels)[by_pad.labels >= 0].mean() >= ENOUGH
    truth = np.tile(np.arange(10), 4)
    assert wrong(decided, truth) <= wrong(by_pad, truth)


# Large pictures


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_of_48_megapixels_is_read_as_a_small_one(kind: str) -> None:
    small = np.asarray(render(DIGITS["5"]), np.float32) / 255
    large = np.asarray(cv2.resize(small, (6900, 6900), interpolation=cv2.INTER_LINEAR), np.float32)
    read = read_images(encoded(large, kind))
    assert read.quality.tolist() == [""]
    assert np.abs(read.images.numpy()[0, 0] - to_mnist(small)).mean() < 0.02


# Bad input is refused with a reason


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2, 3), (40, 30)])
@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_one_colour_is_blank_in_any_shape(shape: tuple[int, int], grey: float) -> None:
    assert read_images(np.full(shape, grey)).quality.tolist() == ["blank"]


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (3, 900), (100, 100), (300, 200)])
def test_pure_noise_is_refused(classifier: Classifier, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(SEED)
    noise = [rng.random(shape), rng.normal(0.5, 0.1, shape).clip(0, 1), (rng.random(shape) < 0.02) * 1.0]
    assert (classifier.predict(noise).labels == -1).all()


def test_what_is_mirrored_or_turned_is_told_and_more_wrong_answers_than_right_ones_go(
    classifier: Classifier, mnist_test: Labelled
) -> None:
    digits = mnist_test.images[:100]
    sides = [side.rot90(k, (-2, -1)) for side in (digits[:, 0], digits[:, 0].flip(-1)) for k in range(4)]
    truth = np.tile(mnist_test.labels[:100].numpy(), 7)
    turned_ones = torch.cat([laid_out(side)[:, None] for side in sides[1:]])
    upright, seen = (decided_with_and_without(classifier, images) for images in (digits, turned_ones))
    says = seen[0].quality == "mirrored or turned?"
    assert (seen[0].labels[says] == -1).all()
    assert says.mean() > 0.3
    assert (upright[0].quality == "mirrored or turned?").mean() <= 0.02
    only_for_it = says & (seen[1].labels >= 0)
    spared = seen[1].labels[only_for_it] != truth[only_for_it]
    assert spared.sum() >= 10
    assert spared.mean() > 0.5


def decided_with_and_without(classifier: Classifier, images: Tensor) -> tuple[Prediction, Prediction]:
    """Decisions on `images` (N, 1, 28, 28) with the score of turned images, and where that says nothing."""
    evidence = classifier.evidence(images)
    surprises = {**evidence.surprises, "turned": torch.zeros(len(images))}
    without = replace(evidence, surprises=surprises, ood=classifier.detector.combination.joined(surprises))
    quality = np.full(len(images), "")
    return classifier.decide(evidence, quality), classifier.decide(without, quality)
