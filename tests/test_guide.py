"""The guides: eager parameters, the posterior they hold, and the closed-form KL."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from typing import Any

import numpy as np
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from torch.nn.functional import softplus

from bnn.learn.guide import GUIDES, MeanFieldGuide, NotebookGuide, inverse_softplus
from bnn.learn.model import BayesianClassifier, fan_in_scale
from bnn.networks import CNN, MLP


@pytest.mark.parametrize("guide", GUIDES.values())
def test_all_parameters_exist_at_once_two_for_each_weight(guide):
    network = CNN()
    made = guide(network)
    assert sum(p.numel() for p in made.parameters()) == 2 * sum(p.numel() for p in network.parameters())


def test_the_sites_are_the_models_in_its_order():
    network = CNN()
    images = torch.rand(2, 1, 28, 28)
    guide_trace = poutine.trace(MeanFieldGuide(network)).get_trace(images)
    model_trace = poutine.trace(BayesianClassifier(network, 100)).get_trace(images)
    weights = [name for name in model_trace.stochastic_nodes if name.startswith("network.")]
    assert guide_trace.stochastic_nodes == weights


def test_draws_have_the_posteriors_mean_and_scale():
    torch.manual_seed(0)
    guide = MeanFieldGuide(MLP(5))
    loc, scale = guide.posterior()["out.weight"]

    def draw() -> Any:
        return poutine.trace(guide).get_trace().nodes["network.out.weight"]["value"]

    with torch.no_grad():
        draws = torch.stack([draw() for _ in range(3000)])
    assert torch.allclose(draws.mean(0), loc, atol=5 * scale.max().item() / 3000**0.5)
    assert torch.allclose(draws.std(0), scale, rtol=0.08)


def test_it_starts_at_the_fan_in_with_small_scales():
    torch.manual_seed(0)
    loc, scale = MeanFieldGuide(MLP(400)).posterior()["hidden.weight"]
    expected = fan_in_scale(loc.shape)
    assert loc.std().item() == pytest.approx(expected, rel=0.01)
    assert torch.allclose(scale, torch.tensor(0.05 * expected))


def test_the_notebooks_start_is_random_and_wide():
    torch.manual_seed(0)
    loc, scale = NotebookGuide(MLP(400)).posterior()["hidden.weight"]
    assert loc.std().item() == pytest.approx(1, rel=0.01)
    assert scale.mean().item() == pytest.approx(softplus(torch.randn(100_000)).mean().item(), rel=0.02)


def test_two_guides_share_nothing():
    first, second = MeanFieldGuide(MLP(3)), MeanFieldGuide(MLP(3))
    before = second.posterior()["out.bias"][0].clone()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1)
    assert torch.equal(second.posterior()["out.bias"][0], before)


def analytic_kl(guide, prior_scale):
    """KL(Normal(m, s²) ‖ Normal(0, p²)) = log(p/s) + (s² + m²) / 2p² − 1/2, summed, in NumPy."""
    total = 0.0
    for loc, scale in guide.posterior().values():
        m, s = (value.double().numpy() for value in (loc, scale))
        p = prior_scale or fan_in_scale(loc.shape)
        total += np.sum(np.log(p / s) + (s**2 + m**2) / (2 * p**2) - 0.5)
    return total


@pytest.mark.parametrize("prior_scale", [None, 1.0, 0.1])
@pytest.mark.parametrize("guide_type", GUIDES.values())
def test_pyros_own_elbo_has_the_kl_in_closed_form(guide_type, prior_scale):
    network = MLP(6)
    guide, model = guide_type(network), BayesianClassifier(network, 100, prior_scale)
    prior = poutine.block(model, hide=["label", "data"])
    kls = {TraceMeanField_ELBO().loss(prior, guide, torch.rand(3, 1, 28, 28)) for _ in range(3)}
    assert len(kls) == 1  # no noise: it is not sampled
    assert kls.pop() == pytest.approx(analytic_kl(guide, prior_scale), rel=1e-4)


def test_inverse_softplus_is_the_inverse():
    value = torch.logspace(-6, 1, 50, dtype=torch.float64)
    assert torch.allclose(softplus(inverse_softplus(value)), value, rtol=1e-8)
