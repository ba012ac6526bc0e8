"""Priors of the weights: families by location and scale.

A new prior is one function here and one name in `PRIORS`.
"""

import math
from collections.abc import Callable, MutableMapping
from typing import Any, ClassVar, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

DEGREES = 5.0  # of freedom of the Student-t: heavier tails than a Normal has
NARROW = math.exp(-2)  # the narrow part's scale by the wide one's, of a scale mixture
SLAB = 10.0  # the horseshoe's slab by its global scale: beyond it, its tails are a Normal's
LOCAL_SCALES = 16  # of the horseshoe, each equally likely


class Prior(NamedTuple):
    """A prior of every weight.

    Attributes:
        family: from location and standard deviation, of a weight's shape, to its distribution.
        learns_scale: whether each layer's standard deviation is fitted with the guide (empirical Bayes).
    """

    family: Callable[[Tensor, Tensor], Any]
    learns_scale: bool = False


def laplace(loc: Tensor, scale: Tensor) -> dist.Laplace:
    """Laplace of mean `loc` and standard deviation `scale`: its KL from a Normal is in closed form."""
    return dist.Laplace(loc, scale / math.sqrt(2))


def student_t(loc: Tensor, scale: Tensor) -> dist.StudentT:
    """Student-t with `DEGREES` degrees of freedom, mean `loc` and standard deviation `scale`."""
    return dist.StudentT(DEGREES, loc, scale * math.sqrt((DEGREES - 2) / DEGREES))


class ScaleMixture(dist.TorchDistribution):
    """1/K · ∑ₖ Normal(loc, (c · partₖ)²), with c such that its standard deviation is `scale`.

    PyTorch's own mixture keeps parts of every weight's own, and so takes three times as long.

    Args:
        loc, scale: of the weights' shape.
        parts: standard deviations to each other, (K,).
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real

    def __init__(self, loc: Tensor, scale: Tensor, parts: Tensor) -> None:
        self.loc, self.scale = loc, scale
        self.parts = (parts / parts.square().mean().sqrt()).to(scale)
        super().__init__(loc.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        squares = ((value - self.loc) / self.scale).square().unsqueeze(-1)
        each = -squares / (2 * self.parts.square()) - self.parts.log()
        return each.logsumexp(-1) - self.scale.log() - math.log(len(self.parts) * math.sqrt(2 * math.pi))

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008  # as in torch
        shape = self.shape(sample_shape)
        part = self.parts[torch.randint(len(self.parts), shape, device=self.scale.device)]
        return self.loc + self.scale * part * torch.randn_like(part)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ScaleMixture":
        return ScaleMixture(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.parts)


def scale_mixture(loc: Tensor, scale: Tensor) -> ScaleMixture:
    """½ Normal(loc, w²) + ½ Normal(loc, (`NARROW` w)²), of standard deviation `scale` in all.

    Blundell et al. 2015, "Weight uncertainty in neural networks", eq. 7.
    """
    return ScaleMixture(loc, scale, torch.tensor([1.0, NARROW]))


def horseshoe(loc: Tensor, scale: Tensor) -> ScaleMixture:
    """The regularised horseshoe, its local scale summed out, of standard deviation `scale` in all.

    Normal(loc, v) of the variance 1/v = 1/(τλ)² + 1/(`SLAB` τ)², with λ half-Cauchy: sharply peaked at `loc`,
    and wide where a weight is needed. λ takes the middles of `LOCAL_SCALES` equally likely parts, so that
    the density is finite at `loc`, where the horseshoe's own rises like −log. Piironen & Vehtari 2017,
    "Sparsity information and regularization in the horseshoe and other shrinkage priors", eq. 2.8, with a
    slab of fixed width; Carvalho, Polson & Scott 2010, "The horseshoe estimator for sparse signals".
    """
    local = ((torch.arange(LOCAL_SCALES) + 0.5) / LOCAL_SCALES * math.pi / 2).tan()
    return ScaleMixture(loc, scale, local / (1 + (local / SLAB).square()).sqrt())


PRIORS: MutableMapping[str, Prior] = {
    "normal": Prior(dist.Normal),
    "learnt": Prior(dist.Normal, learns_scale=True),
    "laplace": Prior(laplace),
    "student-t": Prior(student_t),
    "scale-mixture": Prior(scale_mixture),
    "horseshoe": Prior(horseshoe),
}
