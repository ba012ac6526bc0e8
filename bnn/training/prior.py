"""Priors of the weights: families by location and scale.

A new prior is one function here and one name in `PRIORS`.
"""

import math
from collections.abc import Callable, MutableMapping
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

DEGREES = 5.0  # of freedom of the Student-t: heavier tails than a Normal has
NARROW = math.exp(-2)  # the narrow part's scale by the wide one's, of a scale mixture


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


def scale_mixture(loc: Tensor, scale: Tensor) -> dist.MixtureSameFamily:
    """½ Normal(loc, w²) + ½ Normal(loc, (`NARROW` w)²), of standard deviation `scale` in all.

    Blundell et al. 2015, "Weight uncertainty in neural networks", eq. 7.
    """
    wide = scale * math.sqrt(2 / (1 + NARROW**2))
    scales = torch.stack([wide, NARROW * wide], -1)
    parts = dist.Normal(loc.unsqueeze(-1), scales)
    return dist.MixtureSameFamily(dist.Categorical(torch.ones_like(scales)), parts)


PRIORS: MutableMapping[str, Prior] = {
    "normal": Prior(dist.Normal),
    "learnt": Prior(dist.Normal, learns_scale=True),
    "laplace": Prior(laplace),
    "student-t": Prior(student_t),
    "scale-mixture": Prior(scale_mixture),
}
