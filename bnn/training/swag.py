"""SWAG: a Normal around the mean of the weights that the end of a training passes through."""

import math

import torch
from torch import Tensor, nn

from bnn.core.posterior import LowRank
from bnn.core.tensors import cut, joined
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.training.config import TrainConfig
from bnn.training.guide import PointGuide

RISE, BEGIN = 0.1, 0.75  # of the steps: until the rate is highest, and from when on snapshots are taken
RATE = 0.5  # of the highest learning rate, while snapshots are taken
SNAPSHOTS = 40
COLUMNS = 20  # the last of the snapshots, along which weights vary together


def rate(progress: float) -> float:
    """The share of the highest learning rate after a share of the steps."""
    if progress < RISE:
        return progress / RISE
    fallen = min(1.0, (progress - RISE) / (BEGIN - RISE))
    return RATE + (1 - RATE) * (1 + math.cos(math.pi * fallen)) / 2


class SWAGGuide(PointGuide):
    """Normal(mean, ½ diag(variance) + ½ D Dᵀ / (K − 1)), of snapshots of the weights.

    Mean and variance are those of `SNAPSHOTS`, taken at equal distances over the last quarter of the steps; D
    holds the last K = `COLUMNS` of them, each less the mean of those up to it. The learning rate rises and
    falls as in the one-cycle schedule, but no lower than `RATE` times its highest, at which it stays for that
    quarter. Maddox et al. 2019, "A simple baseline for Bayesian uncertainty in deep learning", alg. 1; the
    steps here are Adam's, theirs were those of stochastic gradient descent.
    """

    taken: Tensor
    snapshot_mean: Tensor
    squares: Tensor
    columns: Tensor

    def __init__(self, network: nn.Module, prefix: str = "network") -> None:
        super().__init__(network, prefix)
        size = len(joined(self._fitted("loc")))
        self.register_buffer("taken", torch.zeros((), dtype=torch.long))
        self.register_buffer("snapshot_mean", torch.zeros(size))
        self.register_buffer("squares", torch.zeros(size))  # of the deviations from the mean, summed
        self.register_buffer("columns", torch.zeros(COLUMNS, size))

    def schedule(
        self, optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """One cycle that falls to `RATE` times its highest, and stays there."""
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate((step + 1) / steps))

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        """Takes a snapshot where it is time to."""
        every = max(1, int((1 - BEGIN) * steps) // SNAPSHOTS)
        if step > BEGIN * steps and (steps - step) % every == 0:
            self.take()

    def take(self) -> None:
        """Takes the weights as they are for another snapshot. Welford 1962 keeps their moments exact."""
        weights = joined(self._fitted("loc")).to(self.columns.device)
        before = weights - self.snapshot_mean
        self.snapshot_mean += before / (self.taken + 1)
        after = weights - self.snapshot_mean
        self.squares += before * after
        self.columns[self.taken % COLUMNS] = after
        self.taken += 1

    def posterior(self) -> LowRank:  # type: ignore[override]
        """What was fitted, to be drawn from without Pyro.

        Raises:
            InputError: there are fewer than two snapshots, the training having ended early.
        """
        taken = int(self.taken)
        if taken < 2:
            raise InputError(
                "swag keeps nothing of a training that ends before its last quarter, in which snapshots are "
                "taken: resume it."
            )
        like, columns = self._fitted("loc"), self.columns[:taken]
        deviation = (self.squares / taken / 2).sqrt()
        return LowRank(
            cut(self.snapshot_mean.cpu(), like),
            cut(deviation.cpu(), like),
            cut(columns.cpu() / math.sqrt(2 * (len(columns) - 1)), like),
        )

    @classmethod
    def require(cls, config: TrainConfig, network: nn.Module, images: ImageSet) -> None:
        """Checks that there are steps enough to take snapshots of."""
        steps = config.epochs * max(1, len(images) // config.batch_size)
        if steps * (1 - BEGIN) < COLUMNS:
            raise InputError(
                f"swag takes {COLUMNS} snapshots or more in the last quarter of a training, and this one has "
                f"{steps} steps in all: train for more epochs, or in smaller batches."
            )
