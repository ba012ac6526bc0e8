"""Geometry of many images at once: laid out, moved, bent."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from bnn.core.networks import IMAGE_SIZE
from bnn.data.layout import BOX, INK

CENTRE = IMAGE_SIZE // 2  # the pixel on which its centre of mass lies
_MIDDLE = (IMAGE_SIZE - 1) / 2


def laid_out(images: Tensor) -> Tensor:
    """`images` (N, 28, 28) in MNIST's layout: the ink's box fitted into 20×20, its mass around (14, 14).

    As `bnn.data.preprocess` lays out one picture, but of many at once, and by bilinear interpolation.
    """
    ink = images > INK
    low, high = _span(torch.stack((ink.any(1), ink.any(2)), 1))  # x before y
    scale = (high - low).amax(1, keepdim=True).clamp_min(1) / BOX
    # As far as it then fits into the frame.
    centre = _centre_of_mass(images).clamp(high - (IMAGE_SIZE - CENTRE) * scale, low + CENTRE * scale)
    return _sampled(images, scale, centre)


def _span(inked: Tensor) -> tuple[Tensor, Tensor]:
    """Where what is inked (..., D) begins and ends, (...) pixels from the first one's edge."""
    positions = torch.arange(1, IMAGE_SIZE + 1)
    last = (positions * inked).amax(-1)
    first = IMAGE_SIZE - (positions.flip(0) * inked).amax(-1)
    return first.float(), last.float()


def _centre_of_mass(images: Tensor) -> Tensor:
    """(N, 2), x before y, of pixels' indices."""
    mass = images.sum((1, 2)).clamp_min(1e-6)
    positions = torch.arange(images.shape[1]).float()
    x, y = (images.sum(1) @ positions) / mass, (images.sum(2) @ positions) / mass
    return torch.stack((x, y), 1)


def _sampled(images: Tensor, scale: Tensor, centre: Tensor) -> Tensor:
    """`images` (N, 28, 28) made 1 / `scale` (N, 1) as large, their `centre` (N, 2) brought to (14, 14)."""
    positions = torch.arange(IMAGE_SIZE).float() - CENTRE
    x, y = (centre[:, axis : axis + 1] + scale * positions for axis in (0, 1))
    return interpolated(images, torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1))


def interpolated(images: Tensor, places: Tensor) -> Tensor:
    """`images` (N, 28, 28) at `places` (N, 28, 28, 2), x before y, in pixels; black beyond the edges."""
    grid = (2 * places + 1) / IMAGE_SIZE - 1
    return F.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


def moves(
    count: int,
    rng: Generator,
    *,
    shift: float = 0,
    degrees: float = 0,
    stretch: float = 0,
    slant: float = 0,
    mirror: float = 0,
) -> Tensor:
    """Where each pixel comes from under random affine maps about the middle, (count, 28, 28, 2) pixels."""
    angle = torch.deg2rad(uniform(count, rng, -degrees, degrees))
    width, height = (uniform(count, rng, -stretch, stretch).exp() for _ in range(2))
    width = torch.where(torch.from_numpy(rng.random(count) < mirror), -width, width)
    shear, cos, sin = uniform(count, rng, -slant, slant), angle.cos(), angle.sin()
    turn = torch.stack(
        (torch.stack((cos, shear * cos - sin), 1), torch.stack((sin, shear * sin + cos), 1)), 1
    )
    matrices = torch.stack((width, height), 1)[:, :, None] * turn
    moved = torch.stack([uniform(count, rng, -shift, shift) for _ in range(2)], 1)
    from_middle = places().flatten(0, 1) - _MIDDLE
    return (from_middle @ matrices.mT + moved[:, None] + _MIDDLE).view(count, IMAGE_SIZE, IMAGE_SIZE, 2)


def places() -> Tensor:
    """Where each pixel of an image is, (28, 28, 2) pixels, x before y."""
    across = torch.arange(IMAGE_SIZE).float()
    return torch.cartesian_prod(across, across).flip(1).view(IMAGE_SIZE, IMAGE_SIZE, 2)


def uniform(count: int, rng: Generator, low: float, high: float) -> Tensor:
    """(count,) numbers between `low` and `high`."""
    return torch.from_numpy(rng.uniform(low, high, count)).float()


def smooth(channels: int, count: int, knots: int, rng: Generator) -> Tensor:
    """Standard normal numbers on a grid of `knots` a side, interpolated: (count, channels, 28, 28)."""
    coarse = torch.from_numpy(rng.standard_normal((count, channels, knots, knots), np.float32))
    return F.interpolate(coarse, (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", align_corners=True)
