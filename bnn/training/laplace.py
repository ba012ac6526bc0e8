"""Laplace's approximation: a Normal around the most probable network, as wide as the loss is flat there."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from bnn.core.posterior import Kronecker, Weights, matrix_shape
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.progress import progress_bar
from bnn.training.config import TrainConfig
from bnn.training.guide import PointGuide
from bnn.training.model import BayesianClassifier

BATCH = 500  # images whose curvature is computed at once
WIDEST, HALVINGS = 30.0, 50  # of the logarithms among which a prior's precision is looked for

# From outputs (N, C) to roots (K, N, C), so that for each image ∑ₖ rootₖ rootₖᵀ is the Hessian of its loss.
Roots = Callable[[Tensor], Tensor]
# From the eigenvalues of the curvature and the sum of the weights' squares to the precision of their prior.
Precision = Callable[[Tensor, float], float]


class Factors(NamedTuple):
    """A layer's curvature as a Kronecker product: outputs ⊗ inputs, summed over the images.

    Attributes:
        outputs: (O, O), the mean over images (and places) of what the pre-activations' gradients say.
        inputs: (I, I), the sum over images (and places) of the inputs' products, 1 being the bias's input.
    """

    outputs: Tensor
    inputs: Tensor


class LaplaceGuide(PointGuide):
    """The last layer Normal around the most probable weights, with the inverse curvature for its covariance.

    After the training as of a point, the last linear layer's weights w get Normal(w, (H + δI)⁻¹). H is the
    generalised Gauss-Newton matrix of the cross entropy over the training images (not augmented), in its
    Kronecker factors: exact where all images' predictions have one covariance, else an approximation. δ, the
    precision of a Normal prior around 0, is what maximises the evidence. The posterior is not tempered, and
    `beta` weighs the prior in the training alone. MacKay 1992, "A practical Bayesian framework for
    backpropagation networks"; Daxberger et al. 2021, "Laplace redux: effortless Bayesian deep learning".
    """

    _fitted_posterior: Kronecker | None = None

    @classmethod
    def layers(cls, network: nn.Module) -> list[str]:
        """The names of the layers that are Normal: the last linear one."""
        return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1:]

    @classmethod
    def require(cls, config: TrainConfig, network: nn.Module, images: ImageSet) -> None:
        """Checks that the last linear layer gives the logits."""
        name = LaplaceGuide.layers(network)[0]
        given: list[Tensor] = []
        with network.get_submodule(name).register_forward_hook(lambda *called: given.append(called[2])):
            logits = network(images.images[:1])
        if len(given) != 1 or not torch.equal(given[0], logits):
            raise InputError(
                f"{config.guide} needs a network whose last linear layer gives its logits, and {name!r} of "
                f"{type(network).__name__} does not: take another guide."
            )

    def finish(
        self, config: TrainConfig, model: BayesianClassifier, network: nn.Module, images: ImageSet
    ) -> None:
        """Finds the curvature at the fitted weights."""
        weights = self._fitted("loc")
        found = curvature(network, weights, images.images, self.layers(network))
        self._fitted_posterior = posterior_of(weights, found)

    def posterior(self) -> Kronecker:  # type: ignore[override]
        """What was fitted, to be drawn from without Pyro."""
        assert self._fitted_posterior is not None  # noqa: S101
        return self._fitted_posterior


class KroneckerLaplaceGuide(LaplaceGuide):
    """As `LaplaceGuide`, but of every linear layer and convolution, each independent of the others.

    Martens & Grosse 2015, "Optimizing neural networks with Kronecker-factored approximate curvature"; of
    convolutions Grosse & Martens 2016; as a posterior Ritter et al. 2018, "A scalable Laplace approximation
    for neural networks". Each layer has a prior's precision of its own. What other layers have, such as a
    normalisation's factors, stays a point.
    """

    @classmethod
    def layers(cls, network: nn.Module) -> list[str]:
        """The names of the layers that are Normal."""
        return [name for name, module in network.named_modules() if _is_known(module)]


def softmax_roots(logits: Tensor) -> Tensor:
    """Roots (C, N, C) of the cross entropy's Hessian diag(p) − ppᵀ: √pₖ (eₖ − p) is the k-th."""
    probs = logits.softmax(-1)
    return probs.sqrt().T[..., None] * (torch.eye(probs.shape[-1])[:, None] - probs)


def curvature(
    network: nn.Module, weights: Weights, images: Tensor, layers: Sequence[str], roots: Roots = softmax_roots
) -> dict[str, Factors]:
    """Kronecker factors of the loss's generalised Gauss-Newton matrix by layer.

    Args:
        network: gives the computation.
        weights: of the network, by parameter name, at which the curvature is asked for.
        images: (N, 1, 28, 28), over which it is summed.
        layers: linear ones and convolutions, in their order.
        roots: of the loss's Hessian in the network's outputs.
    """
    network = network.requires_grad_(False).eval()
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    sizes = {layer: matrix_shape(layer, shapes) for layer in layers}
    found = {
        layer: Factors(torch.zeros(rows, rows), torch.zeros(columns, columns))
        for layer, (rows, columns) in sizes.items()
    }
    places = dict.fromkeys(layers, 0)
    for batch in progress_bar("measuring the curvature")(images.split(BATCH)):
        seen: dict[str, tuple[Tensor, Tensor]] = {}
        with ExitStack() as hooks:
            for layer in layers:
                hooks.enter_context(network.get_submodule(layer).register_forward_hook(_keeping(seen, layer)))
            outputs = functional_call(network, dict(weights), (batch,))
        rows = {layer: _rows(network.get_submodule(layer), inputs) for layer, (inputs, _) in seen.items()}
        for layer, inputs in rows.items():
            found[layer].inputs.addmm_(inputs.T, inputs)
            places[layer] += len(inputs)
        for root in roots(outputs.detach()):
            gradients = torch.autograd.grad(
                outputs, [given for _, given in seen.values()], root, retain_graph=True
            )
            for layer, gradient in zip(seen, gradients, strict=True):
                channels = (
                    gradient
                    if isinstance(network.get_submodule(layer), nn.Linear)
                    else gradient.movedim(1, -1)
                )
                flat = channels.flatten(0, -2)
                found[layer].outputs.addmm_(flat.T, flat)
    return {layer: Factors(one.outputs / places[layer], one.inputs) for layer, one in found.items()}


def _keeping(seen: dict[str, tuple[Tensor, Tensor]], layer: str) -> Any:
    """A hook that keeps what `layer` gets and gives, from where gradients are asked for."""

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        given = output if output.requires_grad else output.requires_grad_()
        seen[layer] = inputs[0].detach(), given
        return given

    return keep


def _rows(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What each of a layer's outputs is computed from, and 1 for its bias: (N·places, I)."""
    if isinstance(layer, nn.Conv2d):
        padding, dilation, stride = (
            cast(Any, value) for value in (layer.padding, layer.dilation, layer.stride)
        )
        inputs = F.unfold(inputs, cast(Any, layer.kernel_size), dilation, padding, stride).mT
    flat = inputs.flatten(0, -2)
    return flat if layer.bias is None else F.pad(flat, (0, 1), value=1.0)


def _is_known(module: nn.Module) -> bool:
    match module:
        case nn.Conv2d(groups=1, padding=(_, _), padding_mode="zeros"):
            return True
    return isinstance(module, nn.Linear)


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


def posterior_of(
    weights: Weights, found: dict[str, Factors], precision_of: Precision = prior_precision
) -> Kronecker:
    """The Normal around `weights` whose precision in each layer is the curvature and its prior's."""
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    left, right, scale = {}, {}, {}
    for layer, factors in found.items():
        (of_outputs, outputs), (of_inputs, inputs) = (torch.linalg.eigh(one.double()) for one in factors)
        eigenvalues = of_outputs.clamp_min(0).outer(of_inputs.clamp_min(0))
        named = [f"{layer}.weight", f"{layer}.bias"]
        size = sum(float(weights[name].double().square().sum()) for name in named if name in shapes)
        precision = eigenvalues + precision_of(eigenvalues, size)
        left[layer], right[layer], scale[layer] = outputs.float(), inputs.float(), precision.rsqrt().float()
    return Kronecker(weights, left, right, scale)
