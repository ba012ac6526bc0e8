"""Guides: variational posteriors over the weights of a network.

A new guide is one class here and one name in `GUIDES`.
"""

from collections.abc import MutableMapping, Sequence
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.nn import PyroModule
from torch import Tensor, nn

from bnn.core.posterior import MeanField, Mixture
from bnn.training.model import fan_in_scale


def inverse_softplus(value: Tensor) -> Tensor:
    """x such that log(1 + exp(x)) = `value`, for positive `value`; any shape."""
    return value + torch.log(-torch.expm1(-value))


class MeanFieldGuide(PyroModule):
    """q(weights) = ∏ Normal(loc, scale), one factor a weight; scale = softplus of a free parameter.

    All parameters are made at once, so that optimisers, checkpoints and DDP see them. Against Normal
    priors the KL is in closed form under Pyro's `TraceMeanField_ELBO` (Pyro's `AutoNormal` samples it).

    Locations start at Normal(0, 2 / fan_in), biases at 0, factors of a normalisation where the network has
    them, and scales at `relative_scale` times sqrt(2 / fan_in): small enough that the first steps are those
    of a plain network.

    Args:
        network: the plain network whose parameters get a posterior.
        prefix: where the model holds that network; sites are called `prefix.parameter`.
    """

    relative_scale = 0.05

    def __init__(self, network: nn.Module, prefix: str = "network") -> None:
        super().__init__()
        self._sites: list[tuple[str, str]] = []
        for name, value in network.named_parameters():
            key = name.replace(".", "/")  # a parameter's name may hold no dot
            loc, scale = self._initial(name, value.detach())
            self.register_parameter(f"{key}_loc", nn.Parameter(_laid_out(loc)))
            self.register_parameter(f"{key}_free_scale", nn.Parameter(_laid_out(inverse_softplus(scale))))
            self._sites.append((f"{prefix}.{name}", key))
        self._prefix = prefix

    def _initial(self, name: str, value: Tensor) -> tuple[Tensor, Tensor]:
        if value.dim() < 2:
            start = torch.zeros_like(value) if name.endswith("bias") else value.clone()
            return start, torch.full_like(value, self.relative_scale)
        scale = fan_in_scale(value.shape)
        return scale * torch.randn(value.shape), torch.full_like(value, self.relative_scale * scale)

    def _loc_scale(self, key: str) -> tuple[Tensor, Tensor]:
        return getattr(self, f"{key}_loc"), F.softplus(getattr(self, f"{key}_free_scale"))

    @torch.no_grad()
    def start_at(self, posterior: MeanField) -> None:
        """Takes the locations and scales of `posterior`, over the same network, for its own."""
        length = len(self._prefix) + 1
        fitted = posterior.floats()
        for site, key in self._sites:
            loc, scale = fitted[site[length:]]
            getattr(self, f"{key}_loc").copy_(loc)
            getattr(self, f"{key}_free_scale").copy_(inverse_softplus(scale))

    def forward(self, images: Tensor | None = None, labels: Tensor | None = None) -> None:
        """Samples every weight's site; the arguments are the model's and are not used."""
        for site, key in self._sites:
            loc, scale = self._loc_scale(key)
            pyro.sample(site, dist.Normal(loc, scale).to_event(loc.dim()))

    def posterior(self) -> MeanField:
        """What was fitted, to be drawn from without Pyro."""
        length = len(self._prefix) + 1
        pairs = {site[length:]: self._loc_scale(key) for site, key in self._sites}
        loc = {name: loc.detach().cpu() for name, (loc, _) in pairs.items()}
        return MeanField(loc, {name: scale.detach().cpu() for name, (_, scale) in pairs.items()})


class NotebookGuide(MeanFieldGuide):
    """The 2018 notebook's starting point: loc ~ Normal(0, 1), scale = softplus(Normal(0, 1))."""

    def _initial(self, name: str, value: Tensor) -> tuple[Tensor, Tensor]:
        return torch.randn(value.shape), F.softplus(torch.randn(value.shape))


def _laid_out(value: Tensor) -> Tensor:
    """`value` as convolutions like it in memory, which makes a training step a quarter faster."""
    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value


class MixtureGuide(PyroModule):
    """q(weights) = 1/M · ∑ₘ qₘ(weights): M guides, independently trained, in equal parts.

    Each component describes the posterior around one mode, and different starts find different modes
    (deep ensembles, Lakshminarayanan et al. 2017, "Simple and scalable predictive uncertainty estimation
    using deep ensembles"; with a Normal around each, Wilson & Izmailov 2020, "Bayesian deep learning and
    a probabilistic perspective of generalization", sec. 3). Their number and their equal weights are
    given, not learnt.

    Args:
        components: guides of one network, M of them.
    """

    def __init__(self, components: Sequence[MeanFieldGuide]) -> None:
        super().__init__()
        self.components: Sequence[MeanFieldGuide] = cast(Any, PyroModule[nn.ModuleList])(components)

    def forward(self, images: Tensor | None = None, labels: Tensor | None = None) -> None:
        """Chooses one component for all weights and samples their sites from it; the arguments as there.

        The choice is the site "component". It has no part in the log-density, which is then that of the
        chosen component: an ELBO of this guide counts the mean of the components' KL terms, which is at
        least the mixture's own (the KL is convex), and so stays a lower bound of the evidence.
        """
        equal = dist.Categorical(torch.ones(len(self.components))).mask(False)
        chosen = pyro.sample("component", equal, infer={"is_auxiliary": True})
        self.components[int(chosen)](images, labels)

    def posterior(self) -> Mixture:
        """What was fitted, to be drawn from without Pyro."""
        return Mixture([component.posterior() for component in self.components])


GUIDES: MutableMapping[str, type[MeanFieldGuide]] = {"mean-field": MeanFieldGuide, "notebook": NotebookGuide}
