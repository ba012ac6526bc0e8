"""Training digits for Lightning: loading, augmentation, batches."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pyro
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bnn.core.networks import IMAGE_SIZE
from bnn.data.digits import Digits, load_digits, split_calibration

_PIXEL = 2 / IMAGE_SIZE  # in the units of torch's sampling grids, where an image goes from -1 to 1
_REACH = 4  # pixels to either side that a blur mixes in
_KNOTS = 6  # a side of the grid on which images are bent


def random_distortion(
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
    field = F.interpolate(coarse, images.shape[-2:], mode="bicubic", align_corners=True)
    return field.permute(0, 2, 3, 1)


def _blurred(images: Tensor, most: float) -> Tensor:
    """A third of `images` under Gaussians of a standard deviation up to `most` pixels, each its own."""
    chosen = torch.randperm(len(images), device=images.device)[: -(-len(images) // 3)]
    sigma = most * torch.rand(len(chosen), 1, device=images.device) + 0.01  # 0.01: next to none
    offsets = torch.arange(-_REACH, _REACH + 1, device=images.device)
    kernels = (-0.5 * (offsets / sigma).square()).softmax(-1).view(-1, 1, 1, len(offsets))
    rows = images[chosen].transpose(0, 1)  # an image a channel, so that each has its own kernel
    across = F.conv2d(rows, kernels, padding=(0, _REACH), groups=len(chosen))
    both = F.conv2d(across, kernels.transpose(2, 3), padding=(_REACH, 0), groups=len(chosen))
    return images.index_copy(0, chosen, both.transpose(0, 1))


class MNISTData(pl.LightningDataModule):
    """Training and calibration digits for Lightning; the test digits are not touched.

    Args:
        name: a name in `DIGITS`.
        root: data directory; see `data_dir`.
        seed: chooses the calibration split, and the order and noise of every step; see `with_noise`.
        batch_size: images a training step.
        augment: whether training images pass through `random_distortion`.
        download: whether a missing data set may be fetched from the network.
    """

    def __init__(
        self,
        name: str = "mnist",
        root: str | Path | None = None,
        *,
        seed: int = 0,
        batch_size: int = 128,
        augment: bool = True,
        download: bool = False,
    ) -> None:
        super().__init__()
        digits = load_digits(name, root, train=True, download=download)
        self.fingerprint = digits.fingerprint()
        self.train_digits, self.calibration_digits = split_calibration(digits, seed)
        self.noise_seed = seed
        self.batch_size = batch_size
        self.augment = augment

    def with_noise(self, seed: int) -> Self:
        """The same digits, split the same, in an order and with noise of their own; nothing is copied."""
        other = copy.copy(self)
        other.noise_seed = seed
        return other

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        digits = self.train_digits
        return DataLoader(
            _Batches(digits),
            self.batch_size,
            sampler=_EpochOrder(self),
            drop_last=len(digits) >= self.batch_size,  # all steps equally large, where there are several
            collate_fn=_as_is,
        )

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(_Batches(self.calibration_digits), 1000, collate_fn=_as_is)

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, Tensor], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        """Augments training images, and starts the step's random stream."""
        images, labels = batch
        if self.trainer is None or not self.trainer.training:
            return images, labels
        # A step's noise depends on nothing before it, so that a resumed run goes on as the uninterrupted
        # one; and each rank has its own, or all would draw the same weights.
        pyro.set_rng_seed(hash((self.noise_seed, self.trainer.global_step, self.trainer.global_rank)) % 2**32)
        return (random_distortion(images) if self.augment else images), labels


class _EpochOrder(Sampler[int]):
    """All training digits in a random order that depends on the seed and the epoch alone."""

    def __init__(self, data: MNISTData) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data.train_digits)

    def __iter__(self) -> Iterator[int]:
        epoch = 0 if self.data.trainer is None else self.data.trainer.current_epoch
        generator = torch.Generator().manual_seed(hash((self.data.noise_seed, epoch)) % 2**32)
        return iter(torch.randperm(len(self), generator=generator).tolist())


class _Batches(Dataset[tuple[Tensor, Tensor]]):
    """Digits fetched a batch at a time: one indexing operation instead of a loop over images."""

    def __init__(self, digits: Digits) -> None:
        self.digits = digits

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.digits.images[index], self.digits.labels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.digits.images[indices], self.digits.labels[indices]


def _as_is(batch: Any) -> Any:
    return batch
