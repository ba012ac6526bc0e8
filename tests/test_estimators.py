"""The gradient estimators: the moments of weight sampling, with less noise."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO

from bnn.core.networks import MLP
from bnn.training.estimators import Estimator, Flipped, LocallyReparameterized
from bnn.training.guide import MeanFieldGuide
from bnn.training.model import BayesianNeuralNetwork

pytestmark = pytest.mark.slow

ESTIMATORS = [LocallyReparameterized, Flipped]
SAMPLES = 3000

LAYERS: dict[str, Any] = {
    "linear": (F.linear, (3, 6), (4, 6), {}),
    "conv2d": (F.conv2d, (3, 2, 6, 6), (4, 2, 3, 3), {}),
    "conv2d with options": (F.conv2d, (2, 4, 7, 7), (4, 2, 3, 3), {"stride": 2, "padding": 1, "groups": 2}),
}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def posterior(shape):
    return torch.randn(shape) * 0.5, torch.rand(shape) * 0.4 + 0.1


def repeated(sample):
    return torch.stack([sample() for _ in range(SAMPLES)])


@pytest.mark.parametrize("bias", ["undrawn", "fixed", "none"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("undrawn", ESTIMATORS)
def test_pre_activations_have_the_mean_and_variance_of_weight_sampling(undrawn, layer, bias):
    function, x_shape, w_shape, options = LAYERS[layer]
    x = torch.randn(x_shape)
    loc, scale = posterior(w_shape)
    bias_loc, bias_scale = posterior(w_shape[:1])
    given = {"undrawn": undrawn.of(bias_loc, bias_scale), "fixed": bias_loc, "none": None}[bias]

    sampled = repeated(lambda: function(x, undrawn.of(loc, scale), given, **options))

    mean = function(x, loc, None if bias == "none" else bias_loc, **options)
    variance = function(x**2, scale**2, bias_scale**2 if bias == "undrawn" else None, **options)
    error = 5 * (variance / SAMPLES).sqrt()
    assert ((sampled.mean(0) - mean).abs() < error + 1e-5).all()
    assert torch.allclose(sampled.var(0), variance, rtol=5 * (2 / SAMPLES) ** 0.5, atol=1e-6)


def covariance(a, b):
    return ((a - a.mean(0)) * (b - b.mean(0))).mean(0)


def test_flipout_keeps_the_covariance_between_positions_of_a_datum():
    x = torch.rand(2, 1, 4, 4)
    loc, scale = posterior((1, 1, 3, 3))
    drawn = repeated(lambda: F.conv2d(x, loc + scale * torch.randn_like(scale)))
    flipped = repeated(lambda: F.conv2d(x, Flipped.of(loc, scale)))
    expected = covariance(drawn[:, 0, 0, 0, 0], drawn[:, 0, 0, 1, 1])
    assert covariance(flipped[:, 0, 0, 0, 0], flipped[:, 0, 0, 1, 1]).item() == pytest.approx(
        expected.item(), rel=0.2
    )


@pytest.mark.parametrize("undrawn", ESTIMATORS)
def test_different_data_have_uncorrelated_noise(undrawn):
    x = torch.rand(1, 8).repeat(2, 1)  # the same image twice: drawn weights would correlate fully
    loc, scale = posterior((1, 8))
    out = repeated(lambda: F.linear(x, undrawn.of(loc, scale)))[..., 0]
    assert abs(torch.corrcoef(out.T)[0, 1].item()) < 5 / SAMPLES**0.5


@pytest.mark.parametrize("undrawn", ESTIMATORS)
def test_gradients_are_those_of_the_expectation(undrawn):
    """E[(x·w − y)²] = (x·m − y)² + Σ x² s² has gradients 2 x (x·m − y) and 2 x² s."""
    x, y = torch.tensor([[0.5, -1.0, 2.0]]), 0.3
    loc, scale = (value.requires_grad_() for value in posterior((1, 3)))

    def gradients():
        loss = (F.linear(x, undrawn.of(loc, scale)) - y).square().mean()
        return torch.cat(torch.autograd.grad(loss, (loc, scale)))

    sampled = repeated(gradients)
    expected = torch.cat([2 * x * ((x @ loc.T).item() - y), (2 * x**2 * scale).detach()])
    assert ((sampled.mean(0) - expected).abs() < 5 * sampled.std(0) / SAMPLES**0.5).all()


@pytest.mark.parametrize("undrawn", ESTIMATORS)
def test_any_other_operation_draws_the_weight_once(undrawn):
    loc, scale = posterior((2, 3))
    weight = undrawn.of(loc, scale)
    first, second = weight * 1.0, torch.stack([weight, weight])
    assert type(first) is torch.Tensor
    assert not torch.equal(first, loc)
    assert torch.equal(first, second[0])
    assert torch.equal(first, second[1])
    assert weight.shape == (2, 3)


@pytest.mark.parametrize("undrawn", ESTIMATORS)
def test_pyros_own_elbo_runs_under_the_handler_and_agrees_on_average(undrawn):
    network = MLP(6, classes=10)
    model, guide = BayesianNeuralNetwork(network, 100), MeanFieldGuide(network)
    images, labels = torch.rand(16, 1, 28, 28), torch.randint(0, 10, (16,))

    def losses(n):
        return torch.tensor([TraceMeanField_ELBO().loss(model, guide, images, labels) for _ in range(n)])

    drawn = losses(400)
    with Estimator(undrawn):
        estimated = losses(400)
    error = (drawn.var() / 400 + estimated.var() / 400).sqrt()
    assert abs((drawn.mean() - estimated.mean()).item()) < 5 * error.item()


def test_the_handler_acts_on_unobserved_normals_only_and_leaves_nothing_behind():
    network = MLP(4, classes=10)
    guide, model = MeanFieldGuide(network), BayesianNeuralNetwork(network, 10)
    linear = F.linear
    with Estimator(Flipped):
        guide_trace = poutine.trace(guide).get_trace()
        recorded = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(
            torch.rand(2, 1, 28, 28), torch.tensor([1, 2])
        )
    assert isinstance(recorded.nodes["network.out.weight"]["value"], Flipped)
    label: Any = recorded.nodes["label"]["value"]
    assert torch.equal(label, torch.tensor([1, 2]))
    assert type(poutine.trace(guide).get_trace().nodes["network.out.weight"]["value"]) is torch.Tensor
    assert F.linear is linear
