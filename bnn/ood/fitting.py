"""Fits `bnn.ood.density.ClassDensity` to vectors of known classes by expectation maximisation."""

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from bnn.ood.density import ClassDensity

EM_STEPS = 6
MIN_NOISE = 1e-3  # of the mean variance of a dimension: keeps what never varies from being impossible
PER_DIRECTION = 4  # vectors a component needs for each of its directions, so that they are no accident
NEGLIGIBLE = 1e-6  # a share of a vector that no component's parameters would show
OVERSAMPLED = 8  # more directions than needed make the randomised SVD exact to a few digits


def fit_density(x: Tensor, labels: Tensor, components: int, rank: int, seed: int) -> ClassDensity:
    """The density of vectors `x` (N, D) within their classes `labels` (N,), every class being there.

    Args:
        x, labels: to be fitted.
        components, rank: K and q where the smallest class has vectors enough, else fewer.
        seed: of where the components start.
    """
    smallest = int(labels.bincount().min())
    rank = max(1, min(rank, smallest // PER_DIRECTION, x.shape[1] - 1))
    components = max(1, min(components, smallest // (PER_DIRECTION * rank)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fitted = [_fit_class(x[labels == label], components, rank) for label in labels.unique()]
    return ClassDensity(
        **{f.name: torch.cat([getattr(one, f.name) for one in fitted]) for f in fields(ClassDensity)}
    )


def _fit_class(x: Tensor, components: int, rank: int) -> ClassDensity:
    """One class's components, each tensor with a leading dimension of 1."""
    starts = x[torch.randperm(len(x))[:components]]
    share = torch.nn.functional.one_hot(torch.cdist(x, starts).argmin(1), components).to(x.dtype)
    density = _maximised(x, share, rank)
    for _ in range(EM_STEPS if components > 1 else 0):
        share = density.log_joint(x)[:, 0].softmax(-1)
        density = _maximised(x, share, rank)
    return density


def _maximised(x: Tensor, share: Tensor, rank: int) -> ClassDensity:
    """The M step: the likeliest components when vector n belongs to component k by `share` (N, K)."""
    weight = (share.sum(0) + 1) / (len(x) + share.shape[1])  # none dies out
    parts: Sequence[tuple[Tensor, ...]] = [_ppca(x, one, rank) for one in share.T]
    mean, basis, variance, noise = (torch.stack(part)[None] for part in zip(*parts, strict=True))
    return ClassDensity(weight.log()[None], mean, basis, variance, noise)


def _ppca(x: Tensor, share: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(mean, basis, variance, noise) in closed form (Tipping & Bishop 1999, eq. 3.9–3.12)."""
    # Nearly every vector belongs to one component, so that most are negligible to any other.
    kept = max(int((share > NEGLIGIBLE).sum()), min(rank + OVERSAMPLED, len(x)))
    share, belonging = share.topk(kept)
    x = x[belonging]
    total = share.sum() + 1e-6
    mean = share @ x / total
    centred = (x - mean) * (share / total).sqrt()[:, None]
    _, singular, directions = torch.svd_lowrank(centred, min(rank + OVERSAMPLED, *centred.shape))
    variance, basis = singular[:rank].square(), directions[:, :rank].T
    all_variance = centred.square().sum()
    floor = MIN_NOISE * all_variance / x.shape[1] + 1e-12
    noise = ((all_variance - variance.sum()) / (x.shape[1] - rank)).clamp_min(floor)
    return mean, basis, torch.maximum(variance, noise), noise
