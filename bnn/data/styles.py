"""How images look from another hand, pen or scanner."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from bnn.core.blur import gaussian_blur
from bnn.core.networks import IMAGE_SIZE
from bnn.data.geometry import interpolated, moves, smooth, uniform


def by_any_pen(images: Tensor, rng: Generator) -> Tensor:
    """Each of `images` (N, 28, 28) as another hand, pen or scanner might have given it.

    All are slightly turned, slanted, stretched, moved and bent; some are inked anew, with thinner, broader or
    rougher strokes; some blurred; some paler, harder or softer; some seen through a grid of 10 to 18 cells a
    side, as scikit-learn's digits are. It goes over drawings and digits alike, so that none of it tells
    which is which.
    """
    count = len(images)
    places = moves(count, rng, shift=1, degrees=7, stretch=0.1, slant=0.1)
    bends = 0.45 * smooth(2, count, 6, rng).permute(0, 2, 3, 1)
    return by_another_pen(interpolated(images, places + bends), rng)


def by_another_pen(images: Tensor, rng: Generator) -> Tensor:
    """As `by_any_pen`, but each of `images` (N, 28, 28), N ≥ 1, stays where it is, and as it is bent."""
    count = len(images)
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
    if not count:
        return images
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
