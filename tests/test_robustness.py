"""Corruptions of digits: what each does to an image, and what is measured of them."""

import math

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import adjust_contrast, rotate

from bnn.data.imageset import ImageSet
from bnn.evaluation import robustness
from bnn.evaluation.robustness import CORRUPTIONS, measure
from bnn.prediction import Prediction


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def dot(row: int = 13, column: int = 13, copies: int = 1) -> Tensor:
    """Images with one white 2×2 dot."""
    images = torch.zeros(copies, 1, 28, 28)
    images[:, :, row : row + 2, column : column + 2] = 1
    return images


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return ImageSet.from_name("digits", limit=12)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_keep_images_images_and_follow_the_seed(name: str, digits: ImageSet) -> None:
    corruption, before = CORRUPTIONS[name], digits.images.clone()
    for amount in corruption.amounts:
        corrupted = corruption.apply(digits.images, amount, seeded())
        assert corrupted.shape == before.shape
        assert corrupted.dtype == torch.float32
        assert corrupted.min() >= 0
        assert corrupted.max() <= 1
        assert torch.equal(corrupted, corruption.apply(digits.images, amount, seeded()))
    assert torch.equal(digits.images, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_strength_is_further_from_the_image(name: str, digits: ImageSet) -> None:
    corruption = CORRUPTIONS[name]
    distances = [
        (corruption.apply(digits.images, amount, seeded()) - digits.images).square().mean().item()
        for amount in corruption.amounts
    ]
    assert distances[0] > 0
    assert distances == sorted(distances)


@pytest.mark.parametrize("name", ["noise", "occlusion", "shift", "scale", "rotation"])
def test_every_image_has_its_own_chance(name: str) -> None:
    corruption = CORRUPTIONS[name]
    corrupted = corruption.apply(dot(11, 9, copies=30), corruption.amounts[2], seeded())
    assert len(torch.unique(corrupted, dim=0)) > 1


def test_blur_spreads_a_dot_as_a_gaussian() -> None:
    spread = robustness.blur(dot(), 1.5, seeded())[0, 0]
    assert spread.sum().item() == pytest.approx(4, rel=1e-4)
    place = torch.arange(28) - 13.5
    # A dot two pixels wide has a variance of 1/4 itself; cut off at 3 sigma the Gaussian has a little less.
    assert (spread.sum(1) / 4 * place.square()).sum().item() == pytest.approx(1.5**2 + 0.25, rel=0.05)


def test_noise_has_its_scale_before_it_is_clipped() -> None:
    grey = torch.full((200, 1, 28, 28), 0.5)
    noisy = robustness.noise(grey, 0.1, seeded())
    assert noisy.std().item() == pytest.approx(0.1, rel=0.02)
    assert robustness.noise(grey, 5.0, seeded()).eq(0).float().mean().item() == pytest.approx(0.46, abs=0.02)


def test_contrast_keeps_the_mean_and_shrinks_the_rest(digits: ImageSet) -> None:
    faint = robustness.contrast(digits.images, 0.3, seeded())
    for image, corrupted in zip(digits.images, faint, strict=True):
        assert corrupted.mean().item() == pytest.approx(image.mean().item(), abs=1e-5)
        assert corrupted.std().item() == pytest.approx(0.3 * image.std().item(), abs=1e-5)


def test_occlusion_is_one_black_square_in_the_middle() -> None:
    holes = robustness.occlusion(torch.ones(300, 1, 28, 28), 5, seeded()) == 0
    assert (holes.flatten(1).sum(1) == 25).all()
    corners = set()
    for hole in holes[:, 0]:
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        assert rows.tolist() == list(range(int(rows[0]), int(rows[0]) + 5))
        assert columns.tolist() == list(range(int(columns[0]), int(columns[0]) + 5))
        corners.add((int(rows[0]), int(columns[0])))
    assert {row for row, _ in corners} == {column for _, column in corners} == set(range(4, 20))


def test_shift_moves_by_whole_pixels_and_lets_black_in() -> None:
    moved = robustness.shift(dot(copies=40), 3, seeded())
    expected = {(16, 13), (10, 13), (13, 16), (13, 10)}
    found = set()
    for image in moved:
        row, column = divmod(int(image.argmax()), 28)
        place = next(p for p in expected if abs(p[0] - row) <= 1 and abs(p[1] - column) <= 1)
        assert image == pytest.approx(dot(*place)[0], abs=1e-5)
        found.add(place)
    assert found == expected
    assert robustness.shift(torch.ones(1, 1, 28, 28), 6, seeded()).mean().item() == pytest.approx(22 / 28)


def test_scale_grows_or_shrinks_by_its_factor() -> None:
    square = torch.zeros(40, 1, 28, 28)
    square[:, :, 9:19, 9:19] = 1
    areas = robustness.scale(square, 1.5, seeded()).flatten(1).sum(1)
    grown = areas > 100
    assert 0 < grown.sum() < 40
    assert areas[grown].numpy() == pytest.approx(100 * 1.5**2, rel=0.02)
    assert areas[~grown].numpy() == pytest.approx(100 / 1.5**2, rel=0.1)


def test_rotation_turns_by_its_angle_either_way() -> None:
    turned = robustness.rotation(dot(13, 21, copies=40), 30, seeded())[:, 0]
    place = torch.arange(28) - 13.5
    rows, columns = ((turned.sum(axis) * place).sum(1) / turned.sum((1, 2)) for axis in (2, 1))
    angles = torch.atan2(rows, columns).rad2deg()
    assert angles.abs().numpy() == pytest.approx(30, abs=1)
    assert angles.min() < 0 < angles.max()
    radius = torch.hypot(rows, columns)
    assert radius.numpy() == pytest.approx(8, abs=0.1)


def test_rotation_by_a_right_angle_is_exact(digits: ImageSet) -> None:
    turned = robustness.rotation(digits.images, 90, seeded())
    for image, corrupted in zip(digits.images, turned, strict=True):
        either = [torch.rot90(image, k, (1, 2)) for k in (1, -1)]
        assert any(torch.allclose(corrupted, one, atol=1e-4) for one in either)


def test_images_turn_as_torchvision_turns_them(digits: ImageSet) -> None:
    angles = torch.linspace(-170, 180, len(digits))
    turned = robustness.turned(digits.images, angles.deg2rad())
    for image, angle, ours in zip(digits.images, angles.tolist(), turned, strict=True):
        assert torch.allclose(ours, rotate(image, angle, InterpolationMode.BILINEAR), atol=1e-5)


def test_contrast_is_torchvisions(digits: ImageSet) -> None:
    faint = robustness.contrast(digits.images, 0.3, seeded())
    assert torch.allclose(faint, adjust_contrast(digits.images, 0.3), atol=1e-6)


def brightness_decision(images: Tensor, _: str) -> Prediction:
    """Answers 0 to what is dark and refuses the rest."""
    n = len(images)
    answered = images.flatten(1).mean(1).numpy() < 0.2
    nothing = np.zeros(n, np.float32)
    return Prediction(
        labels=np.where(answered, 0, -1),
        reasons=np.where(answered, "answered", "ambiguous"),
        probs=np.eye(10, dtype=np.float32)[np.zeros(n, int)],
        total=nothing,
        aleatoric=nothing,
        epistemic=nothing,
        ood_score=nothing,
        refusal_score=nothing,
        candidates=[(0,)] * n,
        quality=np.full(n, ""),
        names=tuple("0123456789"),
    )


def test_every_corruption_is_measured_at_every_strength(digits: ImageSet) -> None:
    names = []

    def decide(images: Tensor, name: str) -> Prediction:
        names.append(name)
        return brightness_decision(images, name)

    cells = list(measure(decide, digits, seed=3))
    assert [(cell.corruption, cell.strength) for cell in cells] == [
        (name, strength) for name in CORRUPTIONS for strength in range(1, 6)
    ]
    assert len(CORRUPTIONS) == 7
    assert len(set(names)) == 35
    for cell in cells:
        assert cell.amount == CORRUPTIONS[cell.corruption].amounts[cell.strength - 1]
        assert cell.labels.tolist() == digits.truth().tolist()
        corrupted = CORRUPTIONS[cell.corruption].apply(digits.images, cell.amount, seeded(3))
        assert cell.prediction.labels.tolist() == brightness_decision(corrupted, "").labels.tolist()


def test_strength_alone_differs_between_strengths() -> None:
    """The noise of strength 5 is that of strength 1, larger."""
    grey, amounts = torch.full((2, 1, 28, 28), 0.5), CORRUPTIONS["noise"].amounts
    mild, severe = (robustness.noise(grey, amount, seeded()) - 0.5 for amount in (amounts[0], amounts[1]))
    inside = severe.abs() < 0.5
    assert torch.allclose(mild[inside] * (amounts[1] / amounts[0]), severe[inside], atol=1e-5)
    assert math.isclose(inside.float().mean().item(), 0.988, abs_tol=0.01)
