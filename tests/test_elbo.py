"""The objective: its two terms against Pyro's own ELBOs and closed forms."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

from bnn.core.networks import CNN, MLP, ResNet
from bnn.training.elbo import ELBOS, AntitheticELBO, MeanFieldELBO, SampledELBO
from bnn.training.guide import DropoutGuide, LowRankGuide, MeanFieldGuide
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


def small_guides(network):
    """Of a mean-field guide, and of one whose weights vary together."""
    torch.manual_seed(1)
    return [MeanFieldGuide(network), LowRankGuide(network)]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_without_noise_an_antithetic_pair_sees_each_image_once(batch, count):
    network = MLP(6, classes=10)
    images, labels = (part[:count] for part in batch)
    model, guide = pair(network)
    with torch.no_grad():
        for name, value in guide.named_parameters():
            if name.endswith("log_scale"):
                value.fill_(-30.0)
    nll, kl = AntitheticELBO().terms(model, guide, images, labels)
    one_draw, its_kl = MeanFieldELBO(None).terms(model, guide, images, labels)
    assert nll.item() == pytest.approx(one_draw.item(), rel=1e-5)
    assert kl.item() == pytest.approx(its_kl.item(), rel=1e-6)


def gradients(elbo, model, guide, batch, times):
    """Of the NLL, in the locations of all weights, (times, weights)."""
    locs = [value for name, value in guide.named_parameters() if name.endswith("_loc")]
    torch.manual_seed(2)
    drawn = [torch.autograd.grad(elbo.terms(model, guide, *batch)[0], locs) for _ in range(times)]
    return torch.stack([torch.cat([part.flatten() for part in one]) for one in drawn])


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_an_antithetic_pair_gives_the_same_gradient_on_average_and_less_noise(batch, which):
    network = MLP(6, classes=10)
    guide = small_guides(network)[which]
    model = BayesianNeuralNetwork(network, N_TRAIN)
    twice = tuple(part[:4].repeat(2, *[1] * (part.dim() - 1)) for part in batch)  # halves that are alike
    pairs, draws = (gradients(ELBOS[name](), model, guide, twice, 300) for name in ("antithetic", "weights"))
    error = 5 * ((pairs.var(0) + draws.var(0)) / 300).sqrt()
    assert ((pairs.mean(0) - draws.mean(0)).abs() <= error + 1e-4).float().mean() > 0.999
    assert pairs.var(0).sum() < (0.2 if which == 0 else 0.9) * draws.var(0).sum()


def test_where_nothing_is_normal_all_images_meet_the_one_draw(batch):
    network = MLP(6, classes=10)
    torch.manual_seed(1)
    model, guide = BayesianNeuralNetwork(network, N_TRAIN), DropoutGuide(network)
    terms = []
    for elbo in (AntitheticELBO(), MeanFieldELBO(None)):
        torch.manual_seed(2)
        terms.append(torch.stack(elbo.terms(model, guide, *batch)))
    assert torch.equal(*terms)


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
