"""Background: generated drawings that are no digits, for a contrast to learn digits against.

No letter and no thing is among its recipes: random pen strokes, and chimeras of given images.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from bnn.core.blur import gaussian_blur
from bnn.core.networks import IMAGE_SIZE
from bnn.data.geometry import CENTRE, interpolated, laid_out, moves, smooth, uniform
from bnn.data.strokes import POINTS, WIDTHS, curves, drawn_by_pen, pen_strokes

STROKES = 0.6  # share of pen strokes in a background
CHANGED = 0.2  # of the ink: a chimera that differs less may be what it was made of
_LEAST_INK = 15.0  # pixels' worth
_TRIES = 50  # before a chimera is left as it is: of a few images that are alike, no others may come


def background(images: Tensor, count: int, rng: Generator) -> Tensor:
    """`count` drawings (count, 28, 28): `pen_strokes`, and `chimeras` of `images` (N, 28, 28)."""
    drawn = torch.from_numpy(pen_strokes(round(STROKES * count), rng))
    return torch.cat([drawn, chimeras(images, count - len(drawn), rng)])


def chimeras(images: Tensor, count: int, rng: Generator) -> Tensor:
    """`count` images (count, 28, 28) in MNIST's layout, put together from `images` (N, 28, 28) or spoilt.

    In equal parts of each of `CHIMERAS`; those that hardly differ from what they were made of are made anew.
    """
    kinds = rng.integers(0, len(CHIMERAS), count)
    made = torch.empty(count, IMAGE_SIZE, IMAGE_SIZE)
    for kind, make in enumerate(CHIMERAS.values()):
        rows = np.flatnonzero(kinds == kind)
        for _ in range(_TRIES):
            if not len(rows):
                break
            chosen = torch.from_numpy(rng.integers(0, len(images), (2, len(rows))))
            first, second = images[chosen[0]], images[chosen[1]]
            result = make(first, second, rng)
            made[torch.from_numpy(rows)] = result
            rows = rows[(~_differs(result, first, second)).numpy()]
    return laid_out(made)


def _differs(made: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Whether `made` differs from both images by a good part of their ink, and shows something, (N,) bool."""
    ink = made.sum((1, 2))
    changes = [(made - image).abs().sum((1, 2)) / image.sum((1, 2)).clamp_min(1) for image in (first, second)]
    return (torch.stack(changes).amin(0) > CHANGED) & (ink > _LEAST_INK)


def halves(first: Tensor, second: Tensor, rng: Generator) -> Tensor:
    """The upper or left part of one, and the rest of the other."""
    cut = rng.uniform(CENTRE - 4, CENTRE + 4, len(first))
    before = torch.from_numpy(np.arange(IMAGE_SIZE) < cut[:, None])
    upright = torch.from_numpy(rng.random(len(first)) < 0.5)[:, None, None]
    return torch.where(torch.where(upright, before[:, None, :], before[:, :, None]), first, second)


def quarters(first: Tensor, second: Tensor, rng: Generator) -> Tensor:
    """One's quarters in another order."""
    tiles = first.unfold(1, CENTRE, CENTRE).unfold(2, CENTRE, CENTRE).flatten(1, 2)  # (N, 4, 14, 14)
    order = torch.from_numpy(rng.random((len(first), 4)).argsort(1))
    mixed = tiles[torch.arange(len(first))[:, None], order]
    return mixed.unflatten(1, (2, 2)).transpose(2, 3).reshape(first.shape)


def overlaid(first: Tensor, second: Tensor, rng: Generator) -> Tensor:
    """Both, the other one moved."""
    moved = interpolated(second, moves(len(first), rng, shift=6, degrees=20, stretch=0.3))
    return torch.maximum(first, moved)


def warped(first: Tensor, second: Tensor, rng: Generator) -> Tensor:
    """Strongly bent; every second one turned as well, or mirrored."""
    bends = 3.5 * smooth(2, len(first), 4, rng).permute(0, 2, 3, 1)
    turn = moves(len(first), rng, degrees=180, stretch=0.2, mirror=0.3)
    turned = torch.from_numpy(rng.random(len(first)) < 0.5)[:, None, None, None]
    still = moves(len(first), rng, degrees=10, stretch=0.2)
    slight = torch.where(torch.from_numpy(rng.random(len(first)) < 0.4)[:, None, None, None], 0.3, 1.0)
    return interpolated(first, torch.where(turned, turn + slight * bends, still + bends))


def added(first: Tensor, second: Tensor, rng: Generator) -> Tensor:
    """With one or two random strokes more."""
    strokes = curves(2 * len(first), rng).reshape(len(first), 2, POINTS, 2) * rng.uniform(
        8, 24, (len(first), 1, 1, 1)
    )
    strokes += rng.uniform(-8, 8, (len(first), 2, 1, 2))
    numbers, widths = rng.choice((1, 1, 2), len(first)), rng.uniform(*WIDTHS, len(first))
    return torch.maximum(first, torch.from_numpy(drawn_by_pen(strokes, numbers, widths)))


def erased(first: Tensor, second: Tensor, rng: Generator) -> Tensor:
    """Without what lies under one or two random bars or beyond a random line."""
    angle = torch.from_numpy(rng.uniform(0, 2 * np.pi, (2, len(first), 1, 1))).float()
    place = torch.from_numpy(rng.uniform(-7, 7, (2, len(first), 1, 1))).float()
    reach = torch.from_numpy(rng.uniform(2, 9, (2, len(first), 1, 1)) * [[[[1]]], [[[0.5]]]]).float()
    reach[1] *= torch.from_numpy(rng.random((len(first), 1, 1)) < 0.4)
    across = torch.arange(IMAGE_SIZE).float() - CENTRE
    distance = (across[:, None] * angle.sin() + across * angle.cos() - place).abs()
    return first * (distance > reach).all(0)


Maker = Callable[[Tensor, Tensor, Generator], Tensor]
CHIMERAS: Mapping[str, Maker] = {
    make.__name__: make for make in (halves, quarters, overlaid, warped, added, erased)
}


def turned(images: Tensor, count: int, rng: Generator) -> Tensor:
    """`count` of `images` (N, 28, 28) as seen from another side or in a mirror.

    In equal parts of the seven ways to turn by quarters, to mirror, or both. MNIST's layout stays what it is
    but for a pixel.
    """
    chosen = images[torch.from_numpy(rng.integers(0, len(images), count))]
    ways = torch.from_numpy(rng.integers(1, 8, count))
    sides = torch.stack([side.rot90(k, (-2, -1)) for side in (chosen, chosen.flip(-1)) for k in range(4)])
    return sides[ways, torch.arange(count)]


def by_any_pen(images: Tensor, rng: Generator) -> Tensor:
    """Each of `images` (N, 28, 28) as another hand, pen or scanner might have given it.

    All are slightly turned, slanted, stretched, moved and bent; some are inked anew, with thinner, broader or
    rougher strokes; some blurred; some paler, harder or softer; some seen through a grid of 10 to 18 cells a
    side, as scikit-learn's digits are. It goes over drawings and digits alike, so that none of it tells
    which is which.
    """
    count = len(images)
    places = moves(count, rng, shift=1, degrees=7, stretch=0.1, slant=0.1)
    images = interpolated(images, places + 0.45 * smooth(2, count, 6, rng).permute(0, 2, 3, 1))
    images = _inked(images, rng)
    images = _blurred(images, _some(count, rng, 0.25, 0.3, 1.0, otherwise=0.05))
    images = _coarse(images, rng)
    power = _some(count, rng, 0.4, -0.6, 0.6, otherwise=0.0).exp()
    pale = _some(count, rng, 0.3, 0.6, 1.0, otherwise=1.0)
    return images.clamp(0, 1) ** power[:, None, None] * pale[:, None, None]


def _inked(images: Tensor, rng: Generator) -> Tensor:
    """Two in five of `images`, on average, drawn anew by a pen that is broader, thinner or rougher."""
    rows = torch.from_numpy(np.flatnonzero(rng.random(len(images)) < 0.4))
    count = len(rows)
    soft = _blurred(images[rows], uniform(count, rng, 0.5, 0.9))
    rough = uniform(count, rng, 0.0, 0.12)[:, None, None] * smooth(1, count, 14, rng)[:, 0]
    level, hardness = (uniform(count, rng, *of)[:, None, None] for of in ((0.25, 0.5), (2.0, 5.0)))
    drawn = ((soft + rough * (soft > 0.1) - level) * hardness + 0.5).clamp(0, 1)
    shown = drawn.amax((1, 2)) > 0.5  # a pen that left nothing did not draw it
    result = images.clone()
    result[rows[shown]] = drawn[shown]
    return result


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    return gaussian_blur(images[None], sigma, 3)[0]


def _coarse(images: Tensor, rng: Generator) -> Tensor:
    """A quarter of `images` through coarse grids."""
    cells = np.where(rng.random(len(images)) < 0.25, rng.integers(10, 19, len(images)), 0)
    result = images.clone()
    for side in np.unique(cells[cells > 0]).tolist():
        rows = torch.from_numpy(np.flatnonzero(cells == side))
        reduced = F.interpolate(images[rows, None], size=side, mode="bilinear", antialias=True)
        enlarged = F.interpolate(reduced, size=IMAGE_SIZE, mode="bicubic").clamp(0, 1)
        result[rows] = enlarged[:, 0]
    return result


def _some(count: int, rng: Generator, share: float, low: float, high: float, *, otherwise: float) -> Tensor:
    """Uniform between `low` and `high` in a `share` of `count` cases, and `otherwise` in the others."""
    chosen = torch.from_numpy(rng.random(count) < share)
    return torch.where(chosen, uniform(count, rng, low, high), otherwise)
