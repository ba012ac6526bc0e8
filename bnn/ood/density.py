"""A density over vectors that belong to classes: a mixture of probabilistic PCAs for each class."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassDensity:
    """p(x | c) = Σ_k weight_ck Normal(x; mean_ck, noise_ck I + B_ckᵀ diag(variance_ck − noise_ck) B_ck).

    B is `basis`. Each of the K components of a class varies with `variance` along q orthonormal
    directions and with `noise` along all others (Tipping & Bishop 1999, "Mixtures of probabilistic
    principal component analysers"). C classes, D dimensions.

    Attributes:
        log_weight: (C, K), of the components of a class; their exponentials sum to 1.
        mean: (C, K, D).
        basis: (C, K, q, D), its rows orthonormal.
        variance: (C, K, q), at least the noise.
        noise: (C, K), above 0.
    """

    log_weight: Tensor
    mean: Tensor
    basis: Tensor
    variance: Tensor
    noise: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x | c) in nats of vectors (N, D), for every class: (N, C)."""
        return torch.logsumexp(self.log_joint(x), dim=-1)

    def log_joint(self, x: Tensor) -> Tensor:
        """log weight_ck + log p(x | c, k) in nats of vectors (N, D): (N, C, K)."""
        classes, components, rank, size = self.basis.shape
        # Projections of x and of the means apart: no (N, C, K, D) tensor is ever made.
        along = (x @ self.basis.reshape(-1, size).T).view(-1, classes, components, rank) - self._mean_along
        inner = (x @ self.mean.reshape(-1, size).T).view(-1, classes, components)
        distance = x.square().sum(-1)[:, None, None] - 2 * inner + self._mean_square
        across = (distance - along.square().sum(-1)).clamp_min(0)
        mahalanobis = (along.square() / self.variance).sum(-1) + across / self.noise
        return self._log_scale - 0.5 * mahalanobis

    @cached_property
    def _mean_along(self) -> Tensor:
        return torch.einsum("ckqd,ckd->ckq", self.basis, self.mean)

    @cached_property
    def _mean_square(self) -> Tensor:
        return self.mean.square().sum(-1)

    @cached_property
    def _log_scale(self) -> Tensor:
        """All of `log_joint` that does not depend on x, (C, K)."""
        rank, size = self.basis.shape[-2:]
        log_determinant = self.variance.log().sum(-1) + (size - rank) * self.noise.log()
        return self.log_weight - 0.5 * (size * math.log(2 * math.pi) + log_determinant)

    def tensors(self) -> Mapping[str, Tensor]:
        """The attributes by name, as a checkpoint stores them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}
