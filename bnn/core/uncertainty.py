"""Uncertainty of an ensemble's predictions, in nats: pure functions, then `Predictive`, which holds them.

Throughout, `probs` is (S, N, C): S draws, N images, C classes. Higher means less certain.
Total = aleatoric + epistemic (Depeweg et al. 2018, "Decomposition of uncertainty in Bayesian deep
learning", eq. 5–6).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor


def entropy(probs: Tensor) -> Tensor:
    """H[p] = −Σ p log p over the last dimension: (..., C) to (...), between 0 and log C."""
    return torch.special.entr(probs).sum(-1)


def total_uncertainty(probs: Tensor) -> Tensor:
    """H[E p], the entropy of the predictive mean: (S, N, C) to (N,). Higher: less certain."""
    return entropy(probs.mean(0))


def aleatoric_uncertainty(probs: Tensor) -> Tensor:
    """E H[p], the mean entropy of the draws: (S, N, C) to (N,). Higher: each draw itself is unsure."""
    return entropy(probs).mean(0)


def epistemic_uncertainty(probs: Tensor) -> Tensor:
    """I[label; weights] = E KL(p ‖ E p): (S, N, C) to (N,). Higher: the draws disagree more.

    The mutual information of BALD (Houlsby et al. 2011, eq. 2), in the form that cannot turn negative
    by cancellation.
    """
    mean = probs.mean(0).clamp_min(torch.finfo(probs.dtype).tiny)  # tiny values' mean may be rounded to 0
    divergence = (torch.xlogy(probs, probs) - torch.xlogy(probs, mean)).sum(-1)
    return divergence.mean(0).clamp_min(0)


@dataclass(frozen=True)
class Predictive:
    """What an ensemble says of N images.

    Attributes:
        mean: predictive mean over the draws, (N, C).
        median: median over the draws of each class's probability, (N, C); its rows need not sum to 1.
        total, aleatoric, epistemic: (N,) nats.
    """

    mean: Tensor
    median: Tensor
    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor

    @classmethod
    def of(cls, probs: Tensor) -> Self:
        """The summary of an ensemble's `probs` (S, N, C)."""
        return cls(
            mean=probs.mean(0),
            median=probs.quantile(0.5, dim=0) if probs.shape[1] else probs[0],  # of nothing there is none
            total=total_uncertainty(probs),
            aleatoric=aleatoric_uncertainty(probs),
            epistemic=epistemic_uncertainty(probs),
        )

    @classmethod
    def of_no_draws(cls, images: int, classes: int) -> Self:
        """Before any network is asked: every class is as likely, and all doubt is epistemic."""
        probs = torch.full((images, classes), 1 / classes)
        total = torch.full((images,), math.log(classes))
        return cls(probs, probs, total, torch.zeros(images), total)

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Several summaries one after another."""
        return cls(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, index: slice | Tensor) -> Self:
        return type(self)(**{name: tensor[index] for name, tensor in self.tensors().items()})

    def tensors(self) -> Mapping[str, Tensor]:
        """The attributes by name, as a checkpoint stores them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def every_extreme(images: int, classes: int) -> Predictive:
    """The extremes of what may be said of N images: certain of each class in turn, then of none."""
    certain, sure = torch.eye(classes).repeat_interleave(images, dim=0), torch.zeros(classes * images)
    return Predictive.joined(
        [Predictive(certain, certain, sure, sure, sure), Predictive.of_no_draws(images, classes)]
    )
