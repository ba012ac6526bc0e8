"""Ways to train a network that says how sure it is: ours, those that need nothing else, others' libraries.

A new way is one class here and one name in `PEERS`. All start from the network `vgg`, which a library
converts by its own means where it has some, with the priors, starts and weight of the KL that its guides
show.
"""

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pyro
import torch
import torch.nn.functional as F
from pyro.infer import Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal, init_to_sample
from torch import Tensor, nn

from bnn.core.ensemble import PredictiveEnsemble
from bnn.core.networks import build_network
from bnn.core.posterior import DROPPED, Mixture
from bnn.core.task import DIGITS
from bnn.training.config import PRESETS
from bnn.training.elbo import ELBOS
from bnn.training.guide import MeanFieldGuide
from bnn.training.model import BayesianNeuralNetwork

CONFIG = PRESETS["fast"]
OURS, PLAIN = "ours", "a plain network"
MEMBERS = 3  # of a mixture and of a deep ensemble
BATCH = 1000  # images at once where nothing is trained


@dataclass(frozen=True)
class Step:
    """Where in its schedule a training is: the step's number from 0, and the share of all steps before it."""

    number: int
    share: float


class Way(nn.Module):
    """A way to train, for `n_train` images, and to predict; its parameters are what is trained."""

    def __init__(self, n_train: int) -> None:
        super().__init__()
        self.n_train, self.network = n_train, _network()

    def loss(self, images: Tensor, labels: Tensor, step: Step) -> Tensor:
        """Of a batch, in nats a datum: here that of a plain network."""
        return F.cross_entropy(self.network(images), labels)

    def finish(self, images: Tensor, labels: Tensor, draws: int) -> None:
        """What it does after the last step, with the training images as they are: nothing."""

    def probs(self, images: Tensor, draws: int) -> Tensor:
        """Class probabilities (S, N, C): here those of one network."""
        return self.network(images).softmax(-1)[None]


class Ours(Way):
    """The preset's mean-field guide, or a mixture of several that take their steps in turn."""

    def __init__(self, n_train: int, components: int = 1) -> None:
        super().__init__(n_train)
        self.model = BayesianNeuralNetwork(self.network, n_train)
        guides = nn.ModuleList(MeanFieldGuide(self.network) for _ in range(components))
        self.guides: Sequence[MeanFieldGuide] = cast(Any, guides)
        self.network.requires_grad_(False)  # it gives the shapes alone
        self.elbo = ELBOS[CONFIG.estimator]()

    def loss(self, images: Tensor, labels: Tensor, step: Step) -> Tensor:
        guide = self.guides[step.number % len(self.guides)]
        with pyro.validation_enabled(False):
            if step.share < CONFIG.warm_start:
                return self.model.nll_at(guide.locations(), images, labels)
            nll, kl = self.elbo.terms(self.model, guide, images, labels)
        beta = CONFIG.beta * min(1.0, step.share / CONFIG.kl_warmup)
        return (nll + beta * kl) / self.n_train

    def finish(self, images: Tensor, labels: Tensor, draws: int) -> None:
        posterior = Mixture([guide.posterior() for guide in self.guides])
        self.ensemble = PredictiveEnsemble(self.network, posterior.sample(draws, 0))

    def probs(self, images: Tensor, draws: int) -> Tensor:
        return self.ensemble.probs(images)


class DeepEnsemble(Way):
    """Plain networks from starts of their own, which take their steps in turn."""

    def __init__(self, n_train: int) -> None:
        super().__init__(n_train)
        self.members = nn.ModuleList([self.network, *(_network() for _ in range(MEMBERS - 1))])

    def loss(self, images: Tensor, labels: Tensor, step: Step) -> Tensor:
        return F.cross_entropy(self.members[step.number % MEMBERS](images), labels)

    def probs(self, images: Tensor, draws: int) -> Tensor:
        return torch.stack([member(images) for member in self.members]).softmax(-1)


class Sampled(Way):
    """A network that is another at every call: here by dropout before every layer but the first."""

    def __init__(self, n_train: int) -> None:
        super().__init__(n_train)
        layers = [
            (nn.Dropout(DROPPED), layer) if isinstance(layer, nn.Conv2d | nn.Linear) and place else (layer,)
            for place, layer in enumerate(self.network.children())
        ]
        self.network = nn.Sequential(*(part for parts in layers for part in parts))

    def probs(self, images: Tensor, draws: int) -> Tensor:
        return torch.stack([self.network(images) for _ in range(draws)]).softmax(-1)


class Laplace(Way):
    """A plain network, around whose last layer laplace-torch lays a Normal: Kronecker-factored, probit."""

    def finish(self, images: Tensor, labels: Tensor, draws: int) -> None:
        self.network.to(memory_format=torch.contiguous_format)  # or it fails to flatten the weights
        pairs = torch.utils.data.TensorDataset(images, labels)
        batches = torch.utils.data.DataLoader(pairs, min(BATCH, len(images)), collate_fn=_channels_last)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of its own default
            from laplace import Laplace as Around
            from laplace.curvature.asdl import AsdlGGN  # its quickest

            self.around = Around(self.network, "classification", backend=AsdlGGN)
            self.around.fit(batches)
            self.around.optimize_prior_precision(method="marglik")

    def probs(self, images: Tensor, draws: int) -> Tensor:
        return self.around(images)[None]


class Blitz(Sampled):
    """BLiTZ's layers, with its own priors and starts, and the KL weighed as its README has it: by 1 / N."""

    def __init__(self, n_train: int) -> None:
        from blitz.modules import BayesianConv2d, BayesianLinear

        super(Sampled, self).__init__(n_train)
        _convert(self.network, BayesianConv2d, BayesianLinear)

    def loss(self, images: Tensor, labels: Tensor, step: Step) -> Tensor:
        from blitz.losses import kl_divergence_from_nn

        nll = F.cross_entropy(self.network(images), labels)
        return nll + kl_divergence_from_nn(self.network) / self.n_train


class BayesianTorch(Sampled):
    """bayesian-torch's own conversion, options and weight of the KL as its README has them."""

    def __init__(self, n_train: int) -> None:
        from bayesian_torch.models.dnn_to_bnn import dnn_to_bnn

        super(Sampled, self).__init__(n_train)
        options = {"prior_mu": 0.0, "prior_sigma": 1.0, "posterior_mu_init": 0.0, "posterior_rho_init": -3.0}
        kind = {"type": "Reparameterization", "moped_enable": False, "moped_delta": 0.5}
        dnn_to_bnn(self.network, options | kind)

    def loss(self, images: Tensor, labels: Tensor, step: Step) -> Tensor:
        from bayesian_torch.models.dnn_to_bnn import get_kl_loss

        return F.cross_entropy(self.network(images), labels) + get_kl_loss(self.network) / len(images)


class TorchUncertainty(Sampled):
    """torch-uncertainty's Bayesian layers and its ELBO, the KL weighed as its tutorial has it: by 1 / N."""

    def __init__(self, n_train: int) -> None:
        from torch_uncertainty.layers.bayesian import BayesConv2d, BayesLinear
        from torch_uncertainty.losses import ELBOLoss

        super(Sampled, self).__init__(n_train)
        _convert(self.network, BayesConv2d, BayesLinear)
        self.elbo = ELBOLoss(self.network, nn.CrossEntropyLoss(), kl_weight=1 / n_train, num_samples=1)

    def loss(self, images: Tensor, labels: Tensor, step: Step) -> Tensor:
        return self.elbo(images, labels).squeeze()


class Packed(Way):
    """torch-uncertainty's packed ensemble: `members` networks in one, each narrower than the plain one."""

    members, width = 4, 2

    def __init__(self, n_train: int) -> None:
        from torch_uncertainty.layers import PackedConv2d, PackedLinear

        super().__init__(n_train)
        options = {"alpha": self.width, "num_estimators": self.members}
        first, last = (name for name, _ in (list(self.network.named_children())[at] for at in (0, -1)))

        def made(layer: Callable[..., nn.Module], name: str, *sizes: Any, **more: Any) -> nn.Module:
            return layer(*sizes, first=name == first, last=name == last, **options, **more)

        _convert(self.network, partial(made, PackedConv2d), partial(made, PackedLinear), named=True)

    def loss(self, images: Tensor, labels: Tensor, step: Step) -> Tensor:
        return F.cross_entropy(self.network(images), labels.repeat(self.members))

    def probs(self, images: Tensor, draws: int) -> Tensor:
        return self.network(images).softmax(-1).unflatten(0, (self.members, -1))


class PlainPyro(Way):
    """Pyro's own `AutoNormal` and `Trace_ELBO`; less than 1, `beta` counts every image 1 / beta times.

    It starts at draws from the prior, and a tenth as wide as by default, when it learns nothing in time.
    """

    def __init__(self, n_train: int, beta: float = 1.0) -> None:
        super().__init__(n_train)
        self.counted = round(n_train / beta)
        self.model = BayesianNeuralNetwork(self.network, self.counted)
        self.network.requires_grad_(False)  # it gives the shapes alone
        self.guide = AutoNormal(self.model, init_loc_fn=init_to_sample, init_scale=0.01)
        self.guide(torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.long))  # which makes its parameters

    def loss(self, images: Tensor, labels: Tensor, step: Step) -> Tensor:
        loss: Tensor = Trace_ELBO().differentiable_loss(self.model, self.guide, images, labels)
        return loss / self.counted

    def probs(self, images: Tensor, draws: int) -> Tensor:
        drawn = Predictive(self.model, guide=self.guide, num_samples=draws, return_sites=("_RETURN",))
        return drawn(images)["_RETURN"].softmax(-1)


@dataclass(frozen=True)
class Peer:
    """A way, and the package that it needs, as it is imported and as it is installed; "" where none.

    `sees_all`: whether it goes over all training images once more after its last step.
    """

    way: Callable[[int], Way]
    module: str = ""
    package: str = ""
    sees_all: bool = False

    def is_there(self) -> bool:
        """Whether what it needs is installed."""
        return not self.module or importlib.util.find_spec(self.module) is not None


PEERS: Mapping[str, Peer] = {
    OURS: Peer(Ours),
    f"{OURS}, {MEMBERS} components": Peer(partial(Ours, components=MEMBERS)),
    PLAIN: Peer(Way),
    f"a deep ensemble of {MEMBERS}": Peer(DeepEnsemble),
    "MC dropout": Peer(Sampled),
    "laplace-torch, last layer": Peer(Laplace, "laplace", "laplace-torch", sees_all=True),
    "BLiTZ": Peer(Blitz, "blitz", "blitz-bayesian-pytorch"),
    "bayesian-torch": Peer(BayesianTorch, "bayesian_torch", "bayesian-torch"),
    "torch-uncertainty, Bayesian layers": Peer(TorchUncertainty, "torch_uncertainty", "torch-uncertainty"),
    "torch-uncertainty, packed ensemble": Peer(Packed, "torch_uncertainty", "torch-uncertainty"),
    "Pyro's AutoNormal, beta 1": Peer(PlainPyro),
    f"Pyro's AutoNormal, beta {CONFIG.beta}": Peer(partial(PlainPyro, beta=CONFIG.beta)),
}


def _network() -> nn.Module:
    """`vgg` as ours starts, by the fan-in and with biases of 0, where a library has no start of its own."""
    network = build_network(CONFIG.network, CONFIG.network_options, DIGITS)
    for value in network.parameters():
        if value.dim() > 1:
            nn.init.kaiming_normal_(value)
        else:
            nn.init.zeros_(value)
    return network


def _channels_last(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, labels = torch.utils.data.default_collate(pairs)
    return images.to(memory_format=torch.channels_last), labels


def _convert(
    network: nn.Module,
    conv: Callable[..., nn.Module],
    linear: Callable[..., nn.Module],
    *,
    named: bool = False,
) -> None:
    """Puts `conv` and `linear` in the place of the layers of `network`; `named`, they get its name first."""
    for name, layer in list(network.named_children()):
        before = (name,) * named
        if isinstance(layer, nn.Conv2d):
            sizes = (layer.in_channels, layer.out_channels, layer.kernel_size)
            setattr(network, name, conv(*before, *sizes, padding=layer.padding))
        elif isinstance(layer, nn.Linear):
            setattr(network, name, linear(*before, layer.in_features, layer.out_features))
