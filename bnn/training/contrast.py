"""Fits `bnn.ood.contrast.Contrast`: a small Bayesian network learns classes against generated drawings."""

import math
from collections.abc import Iterator

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from bnn.data.background import background, by_any_pen
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.ood.contrast import Contrast, contrast_network
from bnn.training.config import TrainConfig
from bnn.training.module import SVIModule
from bnn.training.unlogged import fit_unlogged

BLOCK = 2048  # images between two draws of background


def fit_contrast(config: TrainConfig, images: ImageSet, classes: int) -> Contrast:
    """The contrast of labelled training `images` to a background that is drawn anew in every pass.

    Args:
        config: gives the seed, the passes and the network's options; all else is as the defaults are.
        images: to be learnt, labelled with some of so many `classes`.
        classes: of the task.

    Raises:
        InputError: it was interrupted, or the network's options do not fit it.
    """
    network = contrast_network(classes, config.contrast_options)
    config = TrainConfig(epochs=config.contrast_epochs, seed=config.seed)
    batches = _Batches(images, classes, config)
    pl.seed_everything(config.seed, verbose=False)
    module = SVIModule(config, network, 2 * len(images))
    if not fit_unlogged(module, batches, config.epochs, "the contrast"):
        raise InputError("the training of the contrast was interrupted: resume the run to go on.")
    return Contrast(module.guide.posterior(), classes)


class _Batches:
    """As many images as drawings in random order, a pass each time it is iterated."""

    def __init__(self, images: ImageSet, classes: int, config: TrainConfig) -> None:
        self._images, self._labels = images.images[:, 0], images.truth()
        self._classes, self._size = classes, config.batch_size
        self._rng = np.random.default_rng(config.seed)

    def __len__(self) -> int:
        sizes = [len(rows) for rows in torch.arange(len(self._images)).split(BLOCK)]
        return sum(math.ceil(2 * size / self._size) for size in sizes)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.from_numpy(self._rng.permutation(len(self._images)))
        for rows in order.split(BLOCK):
            drawings = background(self._images, len(rows), self._rng)
            images = by_any_pen(torch.cat([self._images[rows], drawings]), self._rng)
            labels = torch.cat([self._labels[rows], torch.full((len(rows),), self._classes)])
            mixed = torch.from_numpy(self._rng.permutation(len(images)))
            yield from zip(
                images[mixed, None].split(self._size), labels[mixed].split(self._size), strict=True
            )
