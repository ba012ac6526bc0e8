"""Training images for Lightning: the calibration split, augmentation, batches."""

import copy
from collections.abc import Iterator
from typing import Any, Self

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bnn.core.task import Task
from bnn.data.imageset import CALIBRATION_SHARE, ImageSet
from bnn.errors import choose
from bnn.training.augmentation import AUGMENTATIONS, by_other_pens


class TrainingData(pl.LightningDataModule):
    """Training and calibration images for Lightning; test images are not touched.

    Args:
        images: labelled.
        task: whose classes the labels are, and how training images are varied.
        seed: chooses the calibration split, and the order and noise of every step; see `with_noise`.
        batch_size: images a training step.
        augment: whether training images are varied.
        pens: share of the training images that are also varied as by another pen.
        held_out: share of the images that are held out for calibration.
        by_class: whether that share is held out of each class.

    Raises:
        InputError: the images have no labels, a label is none of the task's, or a class has no image.
    """

    def __init__(
        self,
        images: ImageSet,
        task: Task,
        *,
        seed: int = 0,
        batch_size: int = 128,
        augment: bool = True,
        pens: float = 0.0,
        held_out: float = CALIBRATION_SHARE,
        by_class: bool = False,
    ) -> None:
        super().__init__()
        task.require_labels(images.truth().unique().tolist())
        self.task, self.seed = task, seed
        self.fingerprint = images.fingerprint()
        split = images.split_by_class if by_class else images.split_calibration
        self.train_images, self.calibration_images = split(seed, held_out)
        task.require_every_class(self.train_images.truth(), "learnt")
        self._augmentation = choose(AUGMENTATIONS, task.augmentation if augment else "none", "augmentation")
        self._pens = pens
        self.noise_seed = seed
        self.batch_size = batch_size

    def with_noise(self, seed: int) -> Self:
        """The same images, split the same, in an order and with noise of their own; nothing is copied."""
        other = copy.copy(self)
        other.noise_seed = seed
        return other

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        images = self.train_images
        return DataLoader(
            _Batches(images),
            self.batch_size,
            sampler=_EpochOrder(self),
            drop_last=len(images) >= self.batch_size,  # all steps equally large, where there are several
            collate_fn=_as_is,
        )

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(_Batches(self.calibration_images), 1000, collate_fn=_as_is)

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, Tensor], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        """Augments training images, and starts the step's random stream."""
        images, labels = batch
        if self.trainer is None or not self.trainer.training:
            return images, labels
        # A step's noise depends on nothing before it, so that a resumed run goes on as the uninterrupted
        # one; and each rank has its own, or all would draw the same weights.
        seed = hash((self.noise_seed, self.trainer.global_step, self.trainer.global_rank)) % 2**32
        _seed(images.device, seed)
        return by_other_pens(self._augmentation(images), self._pens), labels


def _seed(device: torch.device, seed: int) -> None:
    """Starts torch's random stream on `device` from `seed`: to do so on all devices takes a millisecond."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


class _EpochOrder(Sampler[int]):
    """All training images in a random order that depends on the seed and the epoch alone."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data.train_images)

    def __iter__(self) -> Iterator[int]:
        epoch = 0 if self.data.trainer is None else self.data.trainer.current_epoch
        generator = torch.Generator().manual_seed(hash((self.data.noise_seed, epoch)) % 2**32)
        return iter(torch.randperm(len(self), generator=generator).tolist())


class _Batches(Dataset[tuple[Tensor, Tensor]]):
    """Images fetched a batch at a time: one indexing operation instead of a loop over images."""

    def __init__(self, images: ImageSet) -> None:
        self.images, self.labels = images.images, images.truth()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]


def _as_is(batch: Any) -> Any:
    return batch
