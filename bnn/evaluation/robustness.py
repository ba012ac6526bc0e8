"""Robustness: what becomes of answers as digits are corrupted, in seven ways at five strengths each.

A new corruption is one function here and one entry in `CORRUPTIONS`. Each function takes images
(N, 1, 28, 28) in [0, 1], the amount, and a generator for what is random; every image has its own.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

from bnn.core.blur import gaussian_blur
from bnn.core.networks import IMAGE_SIZE
from bnn.data.imageset import ImageSet
from bnn.data.layout import BOX
from bnn.prediction import Prediction


@dataclass(frozen=True)
class Corruption:
    """A way to corrupt images: `apply`, and its `amounts` from mild (strength 1) to severe (5)."""

    apply: Callable[[Tensor, float, Generator], Tensor]
    amounts: tuple[float, float, float, float, float]


@dataclass(frozen=True)
class Cell:
    """Decisions on digits that were corrupted in one way at one strength."""

    corruption: str
    strength: int
    amount: float
    labels: NDArray[np.int64]
    prediction: Prediction


def measure(decide: Callable[[Tensor, str], Prediction], images: ImageSet, seed: int) -> Iterator[Cell]:
    """Each corruption in `CORRUPTIONS` at each strength, on labelled `images`.

    The seed is the same for every cell, so that strengths differ in nothing but strength.

    Args:
        decide: gives the decisions on images (N, 1, 28, 28), and has a name for what it is doing.
        images: labelled.
        seed: of places, directions, signs and noise.
    """
    labels = images.truth().numpy()
    for name, corruption in CORRUPTIONS.items():
        for strength, amount in enumerate(corruption.amounts, start=1):
            corrupted = corruption.apply(images.images, amount, torch.Generator().manual_seed(seed))
            prediction = decide(corrupted, f"{name}, strength {strength} of {len(corruption.amounts)}")
            yield Cell(name, strength, amount, labels, prediction)


def blur(images: Tensor, sigma: float, _: Generator) -> Tensor:
    """A Gaussian blur of `sigma` pixels, cut off at 3 sigma; the edges are mirrored."""
    reach = math.ceil(3 * sigma)
    mirrored = F.pad(images, [reach] * 4, mode="reflect")
    return gaussian_blur(mirrored, torch.tensor([sigma]), reach)[..., reach:-reach, reach:-reach]


def noise(images: Tensor, scale: float, generator: Generator) -> Tensor:
    """Normal(0, `scale`) added to every pixel, clipped to [0, 1]."""
    return (images + scale * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def contrast(images: Tensor, left: float, _: Generator) -> Tensor:
    """Every pixel's distance from its image's mean times `left` (Hendrycks & Dietterich 2019)."""
    return (left * images + (1 - left) * images.mean((1, 2, 3), keepdim=True)).clamp(0, 1)


def occlusion(images: Tensor, side: float, generator: Generator) -> Tensor:
    """A black square of `side` pixels at any place within the middle 20×20, where the ink is."""
    border = (IMAGE_SIZE - BOX) // 2
    highest = BOX - int(side) + 1
    corner = border + torch.randint(highest, (2, len(images), 1), generator=generator)
    pixel = torch.arange(IMAGE_SIZE)
    rows, columns = (pixel >= corner) & (pixel < corner + int(side))
    return images.masked_fill((rows[:, :, None] & columns[:, None, :]).unsqueeze(1), 0)


def shift(images: Tensor, pixels: float, generator: Generator) -> Tensor:
    """Moved by whole `pixels` up, down, left or right; black comes in."""
    step = torch.tensor([(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)])
    chosen = step[torch.randint(4, (len(images),), generator=generator)]
    identity = torch.eye(2).expand(len(images), 2, 2)
    return _warped(images, identity, chosen * pixels * 2 / IMAGE_SIZE)  # the frame is 2 wide


def scale(images: Tensor, factor: float, generator: Generator) -> Tensor:
    """Grown or shrunk by `factor` about the middle, bilinear; black comes in."""
    grown = torch.rand(len(images), generator=generator) < 0.5
    back = torch.where(grown, 1 / factor, factor)  # from the place in the result to that in the image
    return _warped(images, torch.eye(2) * back[:, None, None], torch.zeros(len(images), 2))


def rotation(images: Tensor, degrees: float, generator: Generator) -> Tensor:
    """Turned by `degrees` one way or the other about the middle, bilinear; black comes in."""
    sign = 1 - 2 * torch.randint(2, (len(images),), generator=generator)
    return turned(images, sign * math.radians(degrees))


def turned(images: Tensor, angles: Tensor) -> Tensor:
    """Each image turned by its own of `angles` (N,), radians anticlockwise; see `rotation`."""
    rows = torch.stack((angles.cos(), -angles.sin())), torch.stack((angles.sin(), angles.cos()))
    return _warped(images, torch.stack(rows).permute(2, 0, 1), torch.zeros(len(images), 2))


CORRUPTIONS: Mapping[str, Corruption] = {
    "blur": Corruption(blur, (0.5, 1.0, 1.5, 2.0, 3.0)),
    "noise": Corruption(noise, (0.1, 0.2, 0.3, 0.45, 0.6)),
    "contrast": Corruption(contrast, (0.8, 0.6, 0.4, 0.3, 0.2)),
    "occlusion": Corruption(occlusion, (3, 5, 7, 9, 11)),
    "shift": Corruption(shift, (1, 2, 3, 4, 6)),
    "scale": Corruption(scale, (1.1, 1.2, 1.35, 1.5, 1.75)),
    "rotation": Corruption(rotation, (10, 20, 30, 45, 60)),
}

CELLS = sum(len(corruption.amounts) for corruption in CORRUPTIONS.values())


def _warped(images: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Image n at place z is what `images` has at `matrix`_n z + `offset`_n: (N, 2, 2) and (N, 2)."""
    theta = torch.cat((matrix, offset.unsqueeze(2)), dim=2)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False).clamp(0, 1)
