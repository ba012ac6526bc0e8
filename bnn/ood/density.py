"""A density over vectors that belong to classes: a mixture of probabilistic PCAs for each class."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from bnn.core.tensors import require
from bnn.errors import InputError

LARGE = ("mean", "basis")  # what a checkpoint stores in half precision
_WHAT = "the checkpoint's densities of training images"


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

    def typical(self, x: Tensor, labels: Tensor, reach: float = 2.5) -> Tensor:
        """What each of the vectors (N, D) would be as an ordinary one of its class: (N, D).

        The posterior mean of x without its noise, given the likeliest component (Tipping & Bishop 1999),
        held within `reach` standard deviations along each direction.

        Args:
            x: vectors (N, D).
            labels: a class for each, (N,).
            reach: how far an ordinary one varies.
        """
        component = self.log_joint(x)[torch.arange(len(x)), labels].argmax(-1)
        chosen = labels, component
        mean, basis, variance, noise = (
            part[chosen] for part in (self.mean, self.basis, self.variance, self.noise)
        )
        along = torch.einsum("nqd,nd->nq", basis, x - mean) * (1 - noise[:, None] / variance).clamp_min(0)
        most = reach * variance.sqrt()
        return mean + torch.einsum("nqd,nq->nd", basis, along.clamp(-most, most))

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

    def rounded(self) -> "ClassDensity":
        """The density as it comes back from a checkpoint."""
        return replace(self, **{name: getattr(self, name).half().float() for name in LARGE})

    def tensors(self) -> dict[str, Tensor]:
        """The attributes by name as a checkpoint stores them, the large ones in half precision."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: part.half() if name in LARGE else part for name, part in parts.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], classes: int, size: int) -> Self:
        """The density of so many `classes` over vectors of `size` whose `tensors` these are.

        Raises:
            InputError: they are missing, damaged, or do not fit together.
        """
        basis = tensors.get("basis", torch.empty(0))
        components, rank = basis.shape[1:3] if basis.ndim == 4 else (0, 0)
        shapes = {
            "log_weight": (classes, components),
            "mean": (classes, components, size),
            "basis": (classes, components, rank, size),
            "variance": (classes, components, rank),
            "noise": (classes, components),
        }
        small, large = (
            {name: tensor for name, tensor in tensors.items() if (name in LARGE) == is_large}
            for is_large in (False, True)
        )
        require(large, {name: shapes[name] for name in LARGE}, torch.float16, _WHAT)
        require(small, {name: shapes[name] for name in shapes if name not in LARGE}, torch.float32, _WHAT)
        if not (min(components, rank) > 0 and (small["variance"] > 0).all() and (small["noise"] > 0).all()):
            raise InputError(f"{_WHAT} have no component, or a variance that is not above 0.")
        return cls(**{name: tensor.float() for name, tensor in tensors.items()})
