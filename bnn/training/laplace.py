"""Laplace's approximation: a Normal around the most probable network, as wide as the loss is flat there."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from bnn.core.networks import last_layer
from bnn.core.posterior import Kronecker, Weights
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.progress import progress_bar
from bnn.training.config import TrainConfig
from bnn.training.guide import PointGuide
from bnn.training.model import BayesianNeuralNetwork

BATCH = 500  # images whose curvature is computed at once
WIDEST, HALVINGS = 30.0, 50  # of the logarithms among which a prior's precision is looked for

# From outputs (N, C) to the Hessian of each image's loss in them, (N, C, C).
Hessian = Callable[[Tensor], Tensor]
# From the eigenvalues of the curvature and the sum of the weights' squares to the precision of their prior.
Precision = Callable[[Tensor, float], float]


class Factors(NamedTuple):
    """A linear layer's curvature as a Kronecker product, outputs ⊗ inputs, summed over the images.

    Attributes:
        outputs: (O, O), the mean over images of the loss's Hessian in the layer's outputs.
        inputs: (I, I), the sum over images of the inputs' products; a bias's input is 1, and the last.
    """

    outputs: Tensor
    inputs: Tensor


class LaplaceGuide(PointGuide):
    """The last layer Normal around the most probable weights, with the inverse curvature for its covariance.

    After the training as of a point, the last linear layer's weights w get Normal(w, (H + δI)⁻¹). H is the
    generalised Gauss-Newton matrix of the cross entropy over the training images (not augmented), divided by
    `beta` (so that 1 is Bayes, and less colder), as a Kronecker product: exact where all images' predictions
    have one covariance, else an approximation. δ, the precision of a Normal prior around 0, maximises the
    evidence. MacKay 1992, "A practical Bayesian framework for backpropagation networks"; Ritter et al. 2018,
    "A scalable Laplace approximation for neural networks"; Daxberger et al. 2021, "Laplace redux".
    """

    _around: Kronecker | None = None

    @classmethod
    def require(cls, config: TrainConfig, network: nn.Module, images: ImageSet) -> None:
        """Checks that the last linear layer gives the logits, and that the posterior has a width."""
        if config.beta == 0:
            raise InputError("laplace is a point if beta is 0: take more, or the guide map.")
        layer = last_layer(network)
        given: list[Tensor] = []
        with network.get_submodule(layer).register_forward_hook(lambda *called: given.append(called[2])):
            logits = network(images.images[:1])
        if len(given) != 1 or not torch.equal(given[0], logits):
            raise InputError(
                f"laplace needs a network whose last linear layer gives its logits, and {layer!r} of "
                f"{type(network).__name__} does not: take another guide."
            )

    def finish(
        self, config: TrainConfig, model: BayesianNeuralNetwork, network: nn.Module, images: ImageSet
    ) -> None:
        """Finds the curvature at the fitted weights."""
        weights, layer = self._fitted("loc"), last_layer(network)
        outputs, inputs = curvature(network, weights, images.images, layer)
        self._around = normal_around(weights, layer, Factors(outputs / config.beta, inputs))

    def posterior(self) -> Kronecker:  # type: ignore[override]
        """What was fitted, to be drawn from without Pyro."""
        assert self._around is not None  # noqa: S101
        return self._around


def softmax_hessian(logits: Tensor) -> Tensor:
    """diag(p) − ppᵀ of each image: the Hessian of the cross entropy, whatever the label."""
    probs = logits.softmax(-1)
    return probs.diag_embed() - probs[:, :, None] * probs[:, None, :]


@torch.no_grad()
def curvature(
    network: nn.Module, weights: Weights, images: Tensor, layer: str, hessian: Hessian = softmax_hessian
) -> Factors:
    """The generalised Gauss-Newton matrix of the loss in the layer that gives the outputs.

    Args:
        network: gives the computation.
        weights: of the network, by parameter name, at which the curvature is asked for.
        images: (N, 1, 28, 28), over which it is summed.
        layer: linear, whose outputs are the network's.
        hessian: of the loss.
    """
    of_outputs, of_inputs = [], []
    seen: list[Tensor] = []
    bias = network.get_submodule(layer).bias is not None
    with network.get_submodule(layer).register_forward_hook(lambda *called: seen.append(called[1][0])):
        for batch in progress_bar("measuring the curvature")(images.split(BATCH)):
            of_outputs.append(hessian(functional_call(network, dict(weights), (batch,))).sum(0))
            inputs = F.pad(seen.pop(), (0, int(bias)), value=1.0)
            of_inputs.append(inputs.T @ inputs)
    return Factors(torch.stack(of_outputs).sum(0) / len(images), torch.stack(of_inputs).sum(0))


def prior_precision(eigenvalues: Tensor, size: float) -> float:
    """The δ that maximises the evidence of weights whose squares sum to `size`.

    log evidence = −½ δ·size + ½ P log δ − ½ ∑ log(λ + δ), with λ the P `eigenvalues` of the curvature, but
    for what has no δ in it. At its maximum δ·size = ∑ λ / (λ + δ), the number of well-determined weights
    (MacKay 1992, eq. 4.9), at most P. The left side grows with δ, and the right one falls.
    """
    high = math.log(eigenvalues.numel() / size)
    low = high - WIDEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        precision = math.exp(middle)
        is_above = precision * size > (eigenvalues / (eigenvalues + precision)).sum()
        low, high = (low, middle) if is_above else (middle, high)
    return math.exp(high)


def normal_around(
    weights: Weights, layer: str, factors: Factors, precision_of: Precision = prior_precision
) -> Kronecker:
    """`weights`, those of `layer` Normal, their precision being the curvature and their prior's."""
    (of_outputs, outputs), (of_inputs, inputs) = (torch.linalg.eigh(one.double()) for one in factors)
    eigenvalues = of_outputs.clamp_min(0).outer(of_inputs.clamp_min(0))
    named = (f"{layer}.weight", f"{layer}.bias")
    size = sum(float(weights[name].double().square().sum()) for name in named if name in weights)
    scale = (eigenvalues + precision_of(eigenvalues, size)).rsqrt()
    return Kronecker(weights, {layer: outputs.float()}, {layer: inputs.float()}, {layer: scale.float()})
