"""The generative model: a plain network lifted to Pyro, with a prior on every weight."""

import copy
import math
from functools import partial
from typing import cast

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroSample
from pyro.nn.module import to_pyro_module_
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnn.core.posterior import MeanField, Normals
from bnn.training.prior import PRIORS, Prior

# Without this a second model silently takes the first one's parameter values.
pyro.settings.set(module_local_params=True)


def fan_in_scale(shape: torch.Size) -> float:
    """sqrt(2 / fan_in) of a weight (out, in, ...), under which ReLU layers keep their signal's size.

    A bias (out,) has one constant input, so that its scale is sqrt(2). He et al. 2015, eq. 10.
    """
    return math.sqrt(2 / math.prod(shape[1:]))


class BayesianNeuralNetwork(PyroModule):
    """p(weights) · ∏ₙ Categorical(labelₙ | softmax(network(imageₙ; weights))).

    Every parameter of `network` becomes a sample site named after it (`network.out.weight`) with a
    prior, its location and scale held as buffers that move with the module. The module's only parameters
    are the layers' log-factors of these scales, where they are learnt. The labels stand in
    a plate of size `n_train`, which scales the likelihood of a mini-batch to the whole data set and
    so gives the KL term its right weight.

    Args:
        network: a plain module, images (N, 1, 28, 28) to logits (N, C). It is copied, not changed.
        n_train: number of training images.
        prior_scale: standard deviation of every weight's prior, of mean 0; None takes `fan_in_scale`.
        prior: of every weight, such as the posterior given other images; None for the above.
        family: of the priors, in `bnn.training.prior.PRIORS`.
    """

    def __init__(
        self,
        network: nn.Module,
        n_train: int,
        prior_scale: float | None = None,
        *,
        prior: MeanField | None = None,
        family: Prior = PRIORS["normal"],
    ) -> None:
        super().__init__()
        self.n_train = n_train
        normals = _zero_mean(network, prior_scale) if prior is None else prior.floats()
        self.network = _lift(network, normals, family)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N, C) of `images` (N, 1, 28, 28) under one draw of the weights.

        Observes `labels` (N,) where they are given, and samples them otherwise.
        """
        logits: Tensor = self.network(images)  # outside the plate: all data share the weights
        places = torch.arange(len(images))  # stand for those in the data set, which Pyro would draw
        with pyro.plate("data", size=self.n_train, subsample=places):
            pyro.sample("label", dist.Categorical(logits=logits), obs=labels)
        return logits

    def nll_at(self, weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        """−log p(labels | images, weights) per datum, in nats, a scalar; `weights` are by their sites."""
        logits: Tensor = pyro.condition(self, weights)(images, labels)
        return cross_entropy(logits, labels)


def _zero_mean(network: nn.Module, prior_scale: float | None) -> Normals:
    """Each weight's prior by name: zeros, and one standard deviation for all of them or for each its own."""
    return {
        name: (torch.zeros_like(value), torch.full_like(value, prior_scale or fan_in_scale(value.shape)))
        for name, value in ((name, value.detach()) for name, value in network.named_parameters())
    }


def _lift(network: nn.Module, priors: Normals, prior: Prior) -> nn.Module:
    lifted = copy.deepcopy(network)
    to_pyro_module_(lifted)
    for path, module in lifted.named_modules():
        for name, _ in list(module.named_parameters(recurse=False)):
            loc, scale = priors[f"{path}.{name}".lstrip(".")]
            delattr(module, name)
            # Not kept with a run, as those of before the location could be chosen have none.
            module.register_buffer(f"{name}_prior_loc", loc, persistent=False)
            module.register_buffer(f"{name}_prior_scale", scale)
            if prior.learns_scale:
                module.register_parameter(f"{name}_prior_log_factor", nn.Parameter(scale.new_zeros(())))
            setattr(module, name, PyroSample(partial(_prior, name=name, prior=prior)))
    return lifted


def _prior(module: PyroModule, name: str, prior: Prior) -> dist.Independent:
    # Buffers are no business of Pyro's, whose look-up takes several times as long.
    loc, scale = (
        cast(Tensor, nn.Module.__getattr__(module, f"{name}_prior_{of}")) for of in ("loc", "scale")
    )
    if prior.learns_scale:
        scale = scale * getattr(module, f"{name}_prior_log_factor").exp()
    return dist.Independent(prior.family(loc, scale), scale.dim())
