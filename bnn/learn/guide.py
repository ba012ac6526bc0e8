"""Guides: variational posteriors over the weights of a network.

A new guide is one class here and one name in `GUIDES`.
"""

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.nn import PyroModule
from torch import Tensor, nn

from bnn.learn.model import fan_in_scale


def inverse_softplus(value: Tensor) -> Tensor:
    """x such that log(1 + exp(x)) = `value`, for positive `value`; any shape."""
    return value + torch.log(-torch.expm1(-value))


class MeanFieldGuide(PyroModule):
    """q(weights) = ∏ Normal(loc, scale), one factor a weight; scale = softplus of a free parameter.

    All parameters are made at once, so that optimisers, checkpoints and DDP see them. Against Normal
    priors the KL is in closed form under Pyro's `TraceMeanField_ELBO` (Pyro's `AutoNormal` samples it).

    Locations start at Normal(0, 2 / fan_in), biases at 0, and scales at `relative_scale` times
    sqrt(2 / fan_in): small enough that the first steps are those of a plain network.

    Args:
        network: the plain network whose parameters get a posterior.
        prefix: where the model holds that network; sites are called `prefix.parameter`.
    """

    relative_scale = 0.05

    def __init__(self, network: nn.Module, prefix: str = "network") -> None:
        super().__init__()
        self._sites: list[tuple[str, str]] = []
        for name, value in network.named_parameters():
            key = name.replace(".", "_")  # a parameter's name may hold no dot
            loc, scale = self._initial(value.shape)
            self.register_parameter(f"{key}_loc", nn.Parameter(loc))
            self.register_parameter(f"{key}_free_scale", nn.Parameter(inverse_softplus(scale)))
            self._sites.append((f"{prefix}.{name}", key))
        self._prefix = prefix

    def _initial(self, shape: torch.Size) -> tuple[Tensor, Tensor]:
        if len(shape) == 1:
            return torch.zeros(shape), torch.full(shape, self.relative_scale)
        scale = fan_in_scale(shape)
        return scale * torch.randn(shape), torch.full(shape, self.relative_scale * scale)

    def _loc_scale(self, key: str) -> tuple[Tensor, Tensor]:
        return getattr(self, f"{key}_loc"), F.softplus(getattr(self, f"{key}_free_scale"))

    def forward(self, images: Tensor | None = None, labels: Tensor | None = None) -> None:
        """Samples every weight's site; the arguments are the model's and are not used."""
        for site, key in self._sites:
            loc, scale = self._loc_scale(key)
            pyro.sample(site, dist.Normal(loc, scale).to_event(loc.dim()))

    def posterior(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """(loc, scale) of each of the network's parameters by name, detached, shaped like it."""
        length = len(self._prefix) + 1
        pairs = {site[length:]: self._loc_scale(key) for site, key in self._sites}
        return {name: (loc.detach(), scale.detach()) for name, (loc, scale) in pairs.items()}


class NotebookGuide(MeanFieldGuide):
    """The 2018 notebook's starting point: loc ~ Normal(0, 1), scale = softplus(Normal(0, 1))."""

    def _initial(self, shape: torch.Size) -> tuple[Tensor, Tensor]:
        return torch.randn(shape), F.softplus(torch.randn(shape))


GUIDES: Mapping[str, type[MeanFieldGuide]] = {"mean-field": MeanFieldGuide, "notebook": NotebookGuide}
