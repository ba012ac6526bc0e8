"""Augmentation: how training images are varied, so that the networks do not mind.

A new one is one function here and one name in `AUGMENTATIONS`.
"""

import math
from collections.abc import Callable, MutableMapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bnn.core.blur import gaussian_blur
from bnn.core.networks import IMAGE_SIZE
from bnn.data.styles import by_another_pen

_PIXEL = 2 / IMAGE_SIZE  # in the units of torch's sampling grids, where an image goes from -1 to 1
_REACH = 4  # pixels to either side that a blur mixes in
_KNOTS = 6  # a side of the grid on which images are bent


def handwriting(
    images: Tensor,
    degrees: float = 10.0,
    shift: float = 1.0,
    scale: float = 0.1,
    shear: float = 0.1,
    elastic: float = 0.5,
    blur: float = 1.0,
) -> Tensor:
    """Each of `images` (N, 1, 28, 28) moved, bent and blurred by its own amounts, from torch's generator.

    `degrees` and `shift` (pixels) bound rotation and translation on either side of none; `scale` and
    `shear` bound the relative change of size and the slant. `elastic` (pixels) is the standard deviation
    of the displacements that bend the image; see Simard et al. 2003, "Best practices for convolutional
    neural networks applied to visual document analysis", sec. 2. One image in three is blurred; `blur`
    (pixels) bounds the standard deviation of the Gaussian, for pens and scanners are not equally sharp.
    """
    grid = _affine_grid(images, degrees, shift, scale, shear) + elastic * _PIXEL * _smooth_field(images)
    return _blurred(F.grid_sample(images, grid, align_corners=False), blur)


def moved(images: Tensor) -> Tensor:
    """Each of `images` (N, 1, 28, 28) a little moved, turned, slanted and grown or shrunk.

    At most by 1.5 pixels, 5 degrees, and a twentieth and a tenth; what comes in is as the edge is, so that
    it goes for images on any ground.
    """
    grid = _affine_grid(images, degrees=5.0, shift=1.5, scale=0.1, shear=0.05)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _affine_grid(images: Tensor, degrees: float, shift: float, scale: float, shear: float) -> Tensor:
    """Where each pixel comes from under each image's affine map, (N, 28, 28, 2), in [-1, 1] and beyond."""

    def uniform(bound: float) -> Tensor:
        return (torch.rand(len(images), device=images.device) * 2 - 1) * bound

    angle, size = torch.deg2rad(uniform(degrees)), 1 / (1 + uniform(scale))
    cos, sin, slant = angle.cos() * size, angle.sin() * size, uniform(shear)
    rows = (
        torch.stack((cos, slant * cos - sin, uniform(shift) * _PIXEL), dim=1),
        torch.stack((sin, slant * sin + cos, uniform(shift) * _PIXEL), dim=1),
    )
    return F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)


def _smooth_field(images: Tensor) -> Tensor:
    """Standard normal vectors on a coarse grid, interpolated to each image's pixels, (N, 28, 28, 2)."""
    coarse = torch.randn(len(images), 2, _KNOTS, _KNOTS, device=images.device)
    # Along one side, as a matrix (28, knots): multiplied twice, it is quicker than `interpolate` of all.
    knots = torch.eye(_KNOTS, device=images.device)[None, None]
    along = F.interpolate(knots, (IMAGE_SIZE, _KNOTS), mode="bicubic", align_corners=True)[0, 0]
    return (along @ coarse @ along.T).permute(0, 2, 3, 1)


def _blurred(images: Tensor, most: float) -> Tensor:
    """A third of `images` under Gaussians of a standard deviation up to `most` pixels, each its own."""
    chosen = torch.randperm(len(images), device=images.device)[: -(-len(images) // 3)]
    sigma = most * torch.rand(len(chosen), device=images.device) + 0.01  # 0.01: next to none
    channels = images[chosen].transpose(0, 1)  # an image a channel, so that each has its own Gaussian
    return images.index_copy(0, chosen, gaussian_blur(channels, sigma, _REACH).transpose(0, 1))


def by_other_pens(images: Tensor, share: float) -> Tensor:
    """A `share` of `images` (N, 1, 28, 28), white on black, as another pen or scanner would have given them.

    See `by_another_pen`. Which they are follows from torch's generator.
    """
    chosen = torch.randperm(len(images), device=images.device)[: math.ceil(share * len(images))]
    if not len(chosen):
        return images
    rng = np.random.default_rng(int(torch.randint(2**62, ())))
    drawn = by_another_pen(images[chosen, 0].cpu(), rng)
    return images.index_copy(0, chosen, drawn[:, None].to(images.device))


def unchanged(images: Tensor) -> Tensor:
    """`images` as they are."""
    return images


AUGMENTATIONS: MutableMapping[str, Callable[[Tensor], Tensor]] = {
    "handwriting": handwriting,
    "moved": moved,
    "none": unchanged,
}
