"""Laplace's approximation: against exact posteriors, exact curvature and exact evidence."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.functional import hessian, jacobian
from torch.distributions import MultivariateNormal
from torch.func import functional_call

from bnn.core.networks import MLP, ResNet
from bnn.core.posterior import Kronecker
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.training.config import TrainConfig
from bnn.training.laplace import LaplaceGuide, curvature, normal_around, prior_precision, softmax_hessian

NOISE = 0.3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense(one: Kronecker, layer: str) -> Tensor:
    """The covariance of a layer's weights and bias, (O·I, O·I), outputs first."""
    axes = torch.kron(one.left[layer], one.right[layer])
    return axes @ torch.diag(one.scale[layer].square().flatten()) @ axes.T


def parameters(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in network.named_parameters()}


class Linear(nn.Sequential):
    """From images of 1×1×3 to two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("flatten", nn.Flatten())
        self.add_module("out", nn.Linear(3, 2))


def gaussian_hessian(outputs: Tensor) -> Tensor:
    """Of the squared error over NOISE², the same of all images."""
    return (torch.eye(2) / NOISE**2).expand(len(outputs), 2, 2)


def test_of_a_linear_model_with_normal_noise_it_is_the_exact_posterior() -> None:
    x = torch.randn(40, 1, 1, 3, generator=generator())
    design = torch.cat([x.flatten(1), torch.ones(40, 1)], 1)
    truth = torch.tensor([[1.0, -0.5, 0.2, 0.3], [0.1, 0.8, -1.0, -0.2]])
    targets = design @ truth.T + NOISE * torch.randn(40, 2, generator=generator(1))
    prior = 0.7
    precision = design.T @ design / NOISE**2 + prior * torch.eye(4)
    mode = torch.linalg.solve(precision, design.T @ targets / NOISE**2).T
    weights = {"out.weight": mode[:, :3], "out.bias": mode[:, 3]}
    found = curvature(Linear(), weights, x, "out", gaussian_hessian)
    fitted = normal_around(weights, "out", found, lambda *_: prior)
    exact = torch.block_diag(precision.inverse(), precision.inverse())
    torch.testing.assert_close(dense(fitted, "out"), exact, rtol=1e-3, atol=1e-7)
    draws = fitted.sample(20_000, seed=0)
    flat = torch.cat([draws["out.weight"], draws["out.bias"][..., None]], -1).flatten(1)
    spread = exact.diagonal().sqrt()
    assert ((flat.mean(0) - mode.flatten()) / spread).abs().max() < 5 / 20_000**0.5
    assert ((torch.cov(flat.T) - exact) / spread.outer(spread)).abs().max() < 8 / 20_000**0.5


@settings(max_examples=20, deadline=None)
@given(log_eigenvalues=st.lists(st.floats(-5, 10), min_size=1, max_size=5), log_size=st.floats(-5, 5))
def test_the_priors_precision_maximises_the_evidence_of_the_mode(
    log_eigenvalues: list[float], log_size: float
) -> None:
    eigenvalues, size = torch.tensor(log_eigenvalues).double().exp(), math.exp(log_size)

    def evidence(precision: float) -> float:
        determinant = float((eigenvalues + precision).log().sum())
        return (len(eigenvalues) * math.log(precision) - precision * size - determinant) / 2

    best = prior_precision(eigenvalues, size)
    assert evidence(best) >= max(evidence(0.99 * best), evidence(1.01 * best))


def test_of_a_linear_model_it_maximises_the_evidence_of_the_targets() -> None:
    """These are Normal(0, NOISE² I + XXᵀ / δ); the mode, which goes by δ, is found anew until both stay."""
    x = torch.randn(12, 4, generator=generator()).double()
    targets = x.sum(1) + NOISE * torch.randn(12, generator=generator(1)).double()

    def evidence(precision: float) -> float:
        covariance = NOISE**2 * torch.eye(12).double() + x @ x.T / precision
        return float(MultivariateNormal(torch.zeros(12).double(), covariance).log_prob(targets))

    of_data = x.T @ x / NOISE**2
    precision = 1.0
    for _ in range(50):
        mode = torch.linalg.solve(of_data + precision * torch.eye(4), x.T @ targets / NOISE**2)
        precision = prior_precision(torch.linalg.eigvalsh(of_data), float(mode.square().sum()))
    assert evidence(precision) > max(evidence(0.95 * precision), evidence(1.05 * precision))


def exact_curvature(network: nn.Module, weights: dict[str, Tensor], image: Tensor, layer: str) -> Tensor:
    """JᵀHJ of one image, the weight and bias of `layer` being one matrix (O, I)."""
    named = [f"{layer}.weight", f"{layer}.bias"]

    def outputs(weight: Tensor, bias: Tensor) -> Tensor:
        given: Tensor = functional_call(network, weights | {named[0]: weight, named[1]: bias}, (image,))[0]
        return given

    given = weights[named[0]], weights[named[1]]
    of_weight, of_bias = jacobian(outputs, given)
    flat = torch.cat([of_weight, of_bias[..., None]], -1).flatten(1)
    exact: Tensor = flat.T @ hessian(lambda logits: -logits.log_softmax(-1)[0], outputs(*given)) @ flat
    return exact


def test_of_one_image_the_factors_are_the_exact_curvature() -> None:
    torch.manual_seed(0)
    network = MLP(5, classes=3)
    weights, image = parameters(network), torch.rand(1, 1, 28, 28)
    found = curvature(network, weights, image, "out")
    torch.testing.assert_close(torch.kron(*found), exact_curvature(network, weights, image, "out"))


def test_the_hessian_is_the_cross_entropys() -> None:
    logits = torch.randn(1, 4, generator=generator())
    exact = hessian(lambda one: -one.log_softmax(-1)[2], logits[0])
    torch.testing.assert_close(softmax_hessian(logits)[0], exact)


def test_other_layers_stay_points() -> None:
    torch.manual_seed(0)
    network = ResNet((2, 3), classes=3)
    weights, images = parameters(network), torch.rand(20, 1, 28, 28)
    fitted = normal_around(weights, "out", curvature(network, weights, images, "out"))
    draws = fitted.sample(2, seed=0)
    moved = {name for name, value in draws.items() if not value[0].equal(value[1])}
    assert moved == {"out.weight", "out.bias"}


class Twofold(nn.Sequential):
    """Ends in a ReLU."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 10), nn.ReLU())


def test_a_network_whose_last_linear_layer_gives_no_logits_is_refused() -> None:
    images = ImageSet.from_name("digits", limit=2)
    LaplaceGuide.require(TrainConfig(guide="laplace"), MLP(4, classes=10), images)
    with pytest.raises(InputError, match="'1' of Twofold does not"):
        LaplaceGuide.require(TrainConfig(guide="laplace"), Twofold(), images)
