"""Fits `bnn.ood.contrast.Contrast`: a small Bayesian network learns classes against generated drawings."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.random import Generator
from torch import Tensor

from bnn.core.posterior import Posterior
from bnn.data.background import background, turned
from bnn.data.imageset import ImageSet
from bnn.data.styles import by_any_pen
from bnn.errors import InputError
from bnn.ood.contrast import Contrast, Turned, contrast_network
from bnn.training.config import TrainConfig
from bnn.training.module import SVIModule
from bnn.training.unlogged import fit_unlogged

BATCH = TrainConfig().batch_size
BLOCK = 2048  # images between two draws of background
TURNED: Mapping[str, Any] = {"channels": (8, 16, 32), "hidden": 64}  # four ways to turn are easily told
TURNED_SHARE, TURNED_LEAST = 3, 2  # one pass for so many of the contrast, and at least so many

Background = Callable[[Tensor, int, Generator], Tensor]  # from images (N, 28, 28), and how many, to drawings


def fit_contrast(config: TrainConfig, images: ImageSet, classes: int) -> Contrast:
    """The contrast of labelled training `images` to a background that is drawn anew in every pass.

    Args:
        config: gives the seed, the passes and the network's options; all else is as the defaults are.
        images: to be learnt, labelled with some of so many `classes`.
        classes: of the task.

    Raises:
        InputError: it was interrupted, or the network's options do not fit it.
    """
    options, passes = config.contrast_options, config.contrast_epochs
    fitted = _fitted(_Batches(images, classes, config.seed, background), options, passes, "the contrast")
    return Contrast(fitted, classes)


def fit_turned(config: TrainConfig, images: ImageSet, classes: int) -> Turned:
    """The contrast of labelled training `images` to themselves turned and mirrored; see `fit_contrast`."""
    what = "what tells turned images"
    passes = max(TURNED_LEAST, config.contrast_epochs // TURNED_SHARE)
    fitted = _fitted(_Batches(images, classes, config.seed, turned), TURNED, passes, what)
    return Turned(fitted, classes)


def _fitted(batches: "_Batches", options: Mapping[str, Any], passes: int, what: str) -> Posterior:
    """The posterior over the network of such `options` after so many `passes`; `what` is it, on a bar."""
    config = TrainConfig(epochs=passes, seed=batches.seed)
    network = contrast_network(batches.classes, options)
    pl.seed_everything(batches.seed, verbose=False)
    module = SVIModule(config, network, 2 * batches.count)
    if not fit_unlogged(module, batches, passes, what):
        raise InputError(f"the training of {what} was interrupted: resume the run to go on.")
    return module.guide.posterior()


class _Batches:
    """As many images as of a background, in random order, a pass each time it is iterated."""

    def __init__(self, images: ImageSet, classes: int, seed: int, draw: Background) -> None:
        self.seed, self.classes, self.count = seed, classes, len(images)
        self._images, self._labels, self._draw = images.images[:, 0], images.truth(), draw
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        sizes = [len(rows) for rows in torch.arange(self.count).split(BLOCK)]
        return sum(math.ceil(2 * size / BATCH) for size in sizes)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.from_numpy(self._rng.permutation(self.count))
        for rows in order.split(BLOCK):
            drawings = self._draw(self._images, len(rows), self._rng)
            images = by_any_pen(torch.cat([self._images[rows], drawings]), self._rng)
            labels = torch.cat([self._labels[rows], torch.full((len(rows),), self.classes)])
            mixed = torch.from_numpy(self._rng.permutation(len(images)))
            yield from zip(images[mixed, None].split(BATCH), labels[mixed].split(BATCH), strict=True)
