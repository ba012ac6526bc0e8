"""Guides: variational posteriors over the weights of a network.

A new guide is one class, here or in a file of its own, and one name in `bnn.training.guides.GUIDES`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.nn import PyroModule
from torch import Tensor, nn

from bnn.core.posterior import Dropout, LowRank, MeanField, Mixture, Point, Posterior, Weights, kept_inputs
from bnn.data.imageset import ImageSet
from bnn.training.config import TrainConfig
from bnn.training.joint import JointNormals, flat
from bnn.training.model import BayesianNeuralNetwork, fan_in_scale


class Guide(PyroModule):
    """A variational posterior of independent or dependent weights, each with parameters of its own.

    All parameters are made at once, so that optimisers, checkpoints and DDP see them.

    Args:
        network: the plain network whose parameters get a posterior.
        prefix: where the model holds that network; sites are called `prefix.parameter`.
    """

    # Whether there is a density to weigh against the prior's, and a width that can wait for the locations.
    has_width = True

    def __init__(self, network: nn.Module, prefix: str = "network") -> None:
        super().__init__()
        self._sites: list[tuple[str, str]] = []
        for name, value in network.named_parameters():
            key = name.replace(".", "/")  # a parameter's name may hold no dot
            for part, start in self._initial(name, value.detach()).items():
                self.register_parameter(f"{key}_{part}", nn.Parameter(_laid_out(start)))
            self._sites.append((f"{prefix}.{name}", key))
        self._prefix = prefix

    def _initial(self, name: str, value: Tensor) -> dict[str, Tensor]:
        """Where the parameters of one weight start, by what they are."""
        return {"loc": _start(name, value)}

    @torch.no_grad()
    def start_at(self, posterior: MeanField) -> None:
        """Takes what it can of `posterior`, over the same network, for its own: the locations."""
        for name, key in self._keys().items():
            getattr(self, f"{key}_loc").copy_(posterior.floats()[name][0])

    def locations(self) -> dict[str, Tensor]:
        """Where each weight lies, by its site: parameters of this guide."""
        return {site: getattr(self, f"{key}_loc") for site, key in self._sites}

    def _keys(self) -> dict[str, str]:
        """What the parameters of each weight begin with, by its name in the network."""
        return {site[len(self._prefix) + 1 :]: key for site, key in self._sites}

    def _fitted(self, part: str) -> Weights:
        return {name: getattr(self, f"{key}_{part}").detach().cpu() for name, key in self._keys().items()}

    @classmethod
    def require(cls, config: TrainConfig, network: nn.Module, images: ImageSet) -> None:
        """Checks, before the training, what this guide asks of it: nothing.

        Args:
            config: what is to be trained.
            network: of which it is to be the posterior.
            images: to learn from.

        Raises:
            InputError: it cannot be fitted so.
        """

    def optimizer(
        self, parameters: Iterable[nn.Parameter], config: TrainConfig, n_train: int
    ) -> torch.optim.Optimizer:
        """What takes the steps of the training, of the loss per datum: Adam."""
        return torch.optim.Adam(parameters, lr=config.lr, fused=True)

    def schedule(
        self, optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Its learning rate over so many steps where that is not constant: one cycle."""
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, steps, pct_start=0.1)

    def after_step(self, step: int, steps: int) -> None:
        """What it does after each of the training's `steps`, counted from 1: nothing."""

    def finish(
        self, config: TrainConfig, model: BayesianNeuralNetwork, network: nn.Module, images: ImageSet
    ) -> None:
        """What it does after the training, on one process alone: nothing.

        Args:
            config: what was trained.
            model: fitted to.
            network: plain, whose own weights may be changed.
            images: that were learnt from, not augmented.
        """

    def posterior(self) -> Posterior:
        """What was fitted, to be drawn from without Pyro."""
        raise NotImplementedError


class MeanFieldGuide(Guide):
    """q(weights) = ∏ Normal(loc, scale), one factor a weight; its log-scale is what is learnt.

    Against Normal priors the KL is in closed form under Pyro's `TraceMeanField_ELBO` (Pyro's `AutoNormal`
    samples it).

    Locations start at Normal(0, 2 / fan_in), biases at 0, factors of a normalisation where the network has
    them, and scales at `relative_scale` times sqrt(2 / fan_in): small enough that the first steps are those
    of a plain network.
    """

    relative_scale = 0.05

    def _initial(self, name: str, value: Tensor) -> dict[str, Tensor]:
        scale = torch.full_like(value, self.relative_scale * _size(value))
        return {"loc": _start(name, value), "log_scale": scale.log()}

    def _loc_scale(self, key: str) -> tuple[Tensor, Tensor]:
        return getattr(self, f"{key}_loc"), getattr(self, f"{key}_log_scale").exp()

    @torch.no_grad()
    def start_at(self, posterior: MeanField) -> None:
        """Takes the locations and scales of `posterior`, over the same network, for its own."""
        super().start_at(posterior)
        for name, key in self._keys().items():
            getattr(self, f"{key}_log_scale").copy_(posterior.floats()[name][1].log())

    def forward(self, images: Tensor | None = None, labels: Tensor | None = None) -> None:
        """Samples every weight's site; the arguments are the model's and are not used."""
        locs, log_scales = (
            [getattr(self, f"{key}_{part}") for _, key in self._sites] for part in ("loc", "log_scale")
        )
        normals = JointNormals(locs, flat(locs), flat(log_scales).exp()).each()
        for (site, _), normal in zip(self._sites, normals, strict=True):
            pyro.sample(site, normal.to_event(normal.loc.dim()))

    def posterior(self) -> MeanField:
        """What was fitted, to be drawn from without Pyro."""
        return MeanField(self._fitted("loc"), self._scales())

    def _scales(self) -> Weights:
        return {name: value.exp() for name, value in self._fitted("log_scale").items()}


class NotebookGuide(MeanFieldGuide):
    """The 2018 notebook's starting point: loc ~ Normal(0, 1), scale = softplus(Normal(0, 1))."""

    def _initial(self, name: str, value: Tensor) -> dict[str, Tensor]:
        loc, scale = torch.randn(value.shape), F.softplus(torch.randn(value.shape))
        return {"loc": loc, "log_scale": scale.log()}


class LowRankGuide(MeanFieldGuide):
    """q(weights) = Normal(loc, diag(scale²) + ∑ₖ directionₖ directionₖᵀ), over all weights together.

    Given z ~ Normal(0, 1) of `rank` numbers, the site "along", weights are independent Normals around
    loc + ∑ₖ zₖ directionₖ, so that every gradient estimator and every prior serves. What is then missing
    from log q is the information that the weights have of z, ½ log det(1 + FᵀD⁻¹F) with F the directions
    and D = diag(scale²): the factor "information". With it, KL(q ‖ prior) is E_z KL(q(· | z) ‖ prior) less
    that, exactly.
    """

    rank = 8

    def _initial(self, name: str, value: Tensor) -> dict[str, Tensor]:
        free = torch.randn(self.rank, *value.shape)
        return super()._initial(name, value) | {"free_directions": free}

    def _directions(self, key: str) -> Tensor:
        """Small at first as the scales are: a step of Adam moves all weights of a direction at once."""
        size = _size(getattr(self, f"{key}_loc"))
        directions: Tensor = getattr(self, f"{key}_free_directions")
        return directions * (self.relative_scale * size / self.rank**0.5)

    def forward(self, images: Tensor | None = None, labels: Tensor | None = None) -> None:
        """Samples z and every weight's site; the arguments are the model's and are not used."""
        like = getattr(self, f"{self._sites[0][1]}_loc")
        standard = dist.Normal(like.new_zeros(self.rank), 1.0).to_event(1).mask(False)
        along = pyro.sample("along", standard, infer={"is_auxiliary": True})
        for site, key in self._sites:
            loc, scale = self._loc_scale(key)
            moved = loc + torch.tensordot(along, self._directions(key), 1)
            pyro.sample(site, dist.Normal(moved, scale).to_event(loc.dim()))
        pyro.factor("information", -self.information(), has_rsample=True)

    def information(self) -> Tensor:
        """½ log det(1 + FᵀD⁻¹F), in nats, a scalar."""
        gram = torch.eye(self.rank, device=next(self.parameters()).device)
        for _, key in self._sites:
            ratios = (self._directions(key) / self._loc_scale(key)[1]).flatten(1)
            gram = gram + ratios @ ratios.T
        half: Tensor = torch.linalg.cholesky(gram).diagonal().log().sum()
        return half

    def posterior(self) -> LowRank:  # type: ignore[override]
        """What was fitted, to be drawn from without Pyro."""
        directions = {name: self._directions(key).detach().cpu() for name, key in self._keys().items()}
        return LowRank(self._fitted("loc"), self._scales(), directions)


class PointGuide(Guide):
    """All mass on one network: the most probable one (MAP). Its KL is −log prior(weights)."""

    has_width = False

    def forward(self, images: Tensor | None = None, labels: Tensor | None = None) -> None:
        """Samples every weight's site; the arguments are the model's and are not used."""
        for site, key in self._sites:
            loc = getattr(self, f"{key}_loc")
            pyro.sample(site, dist.Delta(self._varied(loc)).to_event(loc.dim()))

    def _varied(self, loc: Tensor) -> Tensor:
        return loc

    def posterior(self) -> Point:
        """What was fitted, to be drawn from without Pyro."""
        return Point(self._fitted("loc"))


class DropoutGuide(PointGuide):
    """Inputs of layers are left out at random: see `bnn.core.posterior.Dropout`.

    A variational Bernoulli posterior: −log prior(weights · kept) is, on average, the weight decay of Gal &
    Ghahramani 2016, eq. 4.
    """

    def _varied(self, loc: Tensor) -> Tensor:
        return loc * kept_inputs(loc, 1)[0]

    def posterior(self) -> Dropout:
        """What was fitted, to be drawn from without Pyro."""
        return Dropout(self._fitted("loc"))


def _size(value: Tensor) -> float:
    """Of a weight where it starts: by its fan-in, and 1 of a bias or of a factor."""
    return 1.0 if value.dim() < 2 else fan_in_scale(value.shape)


def _start(name: str, value: Tensor) -> Tensor:
    """A location to start at: random by the fan-in, 0 of a bias, and the network's own of a factor."""
    if value.dim() < 2:
        return torch.zeros_like(value) if name.endswith("bias") else value.clone()
    return fan_in_scale(value.shape) * torch.randn(value.shape)


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

    def __init__(self, components: Sequence[Guide]) -> None:
        super().__init__()
        self.components: Sequence[Guide] = cast(Any, PyroModule[nn.ModuleList])(components)

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
