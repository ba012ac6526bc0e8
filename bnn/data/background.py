"""Background: generated drawings that are no digits, for a contrast to learn digits against.

No letter and no thing is among its recipes: random pen strokes, and chimeras of given images.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from bnn.core.networks import IMAGE_SIZE
from bnn.data.geometry import CENTRE, interpolated, laid_out, moves, places, smooth, uniform
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


def dented(first: Tensor, second: Tensor, rng: Generator) -> Tensor:
    """With the ink around one of its places, or two, moved aside: a notch, a bulge."""
    moved = places() + _dent(first, 1.0, rng)
    return interpolated(first, moved + _dent(first, 0.4, rng))


def _dent(images: Tensor, share: float, rng: Generator) -> Tensor:
    """By how much a dent moves what is at each place, (N, 28, 28, 2) pixels, in a `share` of `images`."""
    count = len(images)
    chances = torch.from_numpy(rng.random(images.shape)).float() * images
    at = chances.flatten(1).argmax(1)
    middle = torch.stack((at % IMAGE_SIZE, at // IMAGE_SIZE), -1).float()
    angle = uniform(count, rng, 0, 2 * math.pi)
    size = uniform(count, rng, 5, 10) * torch.from_numpy(rng.random(count) < share)
    move, width = size * torch.stack((angle.cos(), angle.sin())), uniform(count, rng, 2.5, 5)
    near = _bell(middle[:, 1], width)[:, :, None] * _bell(middle[:, 0], width)[:, None, :]
    return near[..., None] * move.mT[:, None, None]


def _bell(middle: Tensor, width: Tensor) -> Tensor:
    """exp(−(x − middle)² / 2 width²) at each pixel x of a row, (N, 28)."""
    away = (torch.arange(IMAGE_SIZE) - middle[:, None]) / width[:, None]
    return (-away.square() / 2).exp()


Maker = Callable[[Tensor, Tensor, Generator], Tensor]
CHIMERAS: Mapping[str, Maker] = {
    make.__name__: make for make in (halves, quarters, overlaid, warped, added, erased, dented)
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
