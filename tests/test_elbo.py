"""The objective: its two terms against Pyro's own ELBOs and closed forms."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

from bnn.core.networks import CNN, MLP, ResNet
from bnn.training.elbo import ELBOS, MeanFieldELBO, SampledELBO
from bnn.training.guide import MeanFieldGuide
from bnn.training.model import BayesianNeuralNetwork

N_TRAIN = 500


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.rand(8, 1, 28, 28), torch.randint(0, 10, (8,))


def pair(network):
    torch.manual_seed(1)
    return BayesianNeuralNetwork(network, N_TRAIN), MeanFieldGuide(network)


@pytest.mark.parametrize(
    "network", [MLP(6, classes=10), CNN((2, 3), 4, classes=10), ResNet((2, 3), classes=10)]
)
def test_with_drawn_weights_the_terms_sum_to_pyros_loss(network, batch):
    model, guide = pair(network)
    torch.manual_seed(2)
    nll, kl = MeanFieldELBO(None).terms(model, guide, *batch)
    torch.manual_seed(2)
    assert (nll + kl).item() == pytest.approx(TraceMeanField_ELBO().loss(model, guide, *batch), rel=1e-5)


def test_sampled_terms_sum_to_pyros_loss(batch):
    model, guide = pair(MLP(6, classes=10))
    torch.manual_seed(2)
    nll, kl = SampledELBO().terms(model, guide, *batch)
    torch.manual_seed(2)
    assert (nll + kl).item() == pytest.approx(Trace_ELBO().loss(model, guide, *batch), rel=1e-5)


@pytest.mark.slow
def test_the_sampled_kl_averages_to_the_closed_form(batch):
    model, guide = pair(MLP(6, classes=10))
    sampled = torch.stack([SampledELBO().terms(model, guide, *batch)[1] for _ in range(300)]).detach()
    exact = MeanFieldELBO().terms(model, guide, *batch)[1]
    assert abs((sampled.mean() - exact).item()) < 5 * (sampled.std() / 300**0.5).item()


@pytest.mark.parametrize("network", [CNN((2, 3), 4, classes=10), ResNet((2, 3), classes=10)])
@pytest.mark.parametrize("name", ELBOS)
def test_gradients_reach_every_parameter_of_the_guide(name, network, batch):
    model, guide = pair(network)
    nll, kl = ELBOS[name]().terms(model, guide, *batch)
    (nll + kl).backward()
    for parameter in guide.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local", "flipout"])
def test_the_likelihood_has_the_expectation_of_weight_sampling(name, batch):
    model, guide = pair(MLP(6, classes=10))

    def nlls(elbo):
        return torch.stack([elbo.terms(model, guide, *batch)[0] for _ in range(400)]).detach()

    drawn, estimated = nlls(MeanFieldELBO(None)), nlls(ELBOS[name]())
    error = ((drawn.var() + estimated.var()) / 400).sqrt()
    assert abs((drawn.mean() - estimated.mean()).item()) < 5 * error.item()
