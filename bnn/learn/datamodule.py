"""Training digits for Lightning: loading, augmentation, batches."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyro
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bnn.data import Digits, load_digits, split_calibration
from bnn.networks import IMAGE_SIZE


def random_affine(
    images: Tensor, degrees: float = 10.0, shift: float = 1.0, scale: float = 0.1, shear: float = 0.1
) -> Tensor:
    """Each of `images` (N, 1, 28, 28) rotated, shifted, scaled and sheared by its own random amounts.

    `degrees` and `shift` (pixels) bound rotation and translation on either side of none; `scale` and
    `shear` bound the relative change of size and the slant. Drawn uniformly from torch's generator.
    """

    def uniform(bound: float) -> Tensor:
        return (torch.rand(len(images), device=images.device) * 2 - 1) * bound

    angle, size = torch.deg2rad(uniform(degrees)), 1 / (1 + uniform(scale))
    cos, sin, slant = angle.cos() * size, angle.sin() * size, uniform(shear)
    pixel = 2 / IMAGE_SIZE
    rows = (
        torch.stack((cos, slant * cos - sin, uniform(shift) * pixel), dim=1),
        torch.stack((sin, slant * sin + cos, uniform(shift) * pixel), dim=1),
    )
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


class MNISTData(pl.LightningDataModule):
    """Training and calibration digits for Lightning; the test digits are not touched.

    Args:
        name: a name in `DIGITS`.
        root: data directory; see `data_dir`.
        seed: chooses the calibration split, and the order and noise of every step.
        batch_size: images a training step.
        augment: whether training images pass through `random_affine`.
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
        self.seed = seed
        self.batch_size = batch_size
        self.augment = augment

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
        pyro.set_rng_seed(hash((self.seed, self.trainer.global_step, self.trainer.global_rank)) % 2**32)
        return (random_affine(images) if self.augment else images), labels


class _EpochOrder(Sampler[int]):
    """All training digits in a random order that depends on the seed and the epoch alone."""

    def __init__(self, data: MNISTData) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data.train_digits)

    def __iter__(self) -> Iterator[int]:
        epoch = 0 if self.data.trainer is None else self.data.trainer.current_epoch
        generator = torch.Generator().manual_seed(hash((self.data.seed, epoch)) % 2**32)
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
