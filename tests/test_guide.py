"""The guides: eager parameters, the posterior they hold, and the closed-form KL."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from typing import Any

import numpy as np
import pytest
import torch
from pyro import poutine
from pyro.distributions import Normal
from pyro.infer import Predictive, Trace_ELBO, TraceMeanField_ELBO
from torch.nn.functional import softplus

from bnn.core.networks import CNN, MLP, ResNet
from bnn.core.posterior import MeanField, Mixture
from bnn.training.guide import MeanFieldGuide, MixtureGuide, NotebookGuide
from bnn.training.model import BayesianNeuralNetwork, fan_in_scale

NORMALS = [MeanFieldGuide, NotebookGuide]


def moments(guide) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Location and scale of every weight by its name, in single precision."""
    values = {name: value.detach() for name, value in guide.named_parameters()}
    locs = {name.removesuffix("_loc"): value for name, value in values.items() if name.endswith("_loc")}
    return {key.replace("/", "."): (loc, values[f"{key}_log_scale"].exp()) for key, loc in locs.items()}


@pytest.mark.parametrize("guide", NORMALS)
def test_all_parameters_exist_at_once_two_for_each_weight(guide):
    network = CNN(classes=10)
    made = guide(network)
    assert sum(p.numel() for p in made.parameters()) == 2 * sum(p.numel() for p in network.parameters())


def test_the_sites_are_the_models_in_its_order():
    network = CNN(classes=10)
    images = torch.rand(2, 1, 28, 28)
    guide_trace = poutine.trace(MeanFieldGuide(network)).get_trace(images)
    model_trace = poutine.trace(BayesianNeuralNetwork(network, 100)).get_trace(images)
    weights = [name for name in model_trace.stochastic_nodes if name.startswith("network.")]
    assert guide_trace.stochastic_nodes == weights


def test_draws_have_the_posteriors_mean_and_scale():
    torch.manual_seed(0)
    guide = MeanFieldGuide(MLP(5, classes=10))
    loc, scale = moments(guide)["out.weight"]

    def draw() -> Any:
        return poutine.trace(guide).get_trace().nodes["network.out.weight"]["value"]

    with torch.no_grad():
        draws = torch.stack([draw() for _ in range(3000)])
    assert torch.allclose(draws.mean(0), loc, atol=5 * scale.max().item() / 3000**0.5)
    assert torch.allclose(draws.std(0), scale, rtol=0.08)


@pytest.mark.parametrize("network", [CNN((2, 3), 4, classes=3), ResNet((2, 3), classes=3)])
def test_the_posterior_is_what_the_parameters_say_in_half_precision(network):
    guide = NotebookGuide(network)
    posterior = guide.posterior()
    assert type(posterior) is MeanField
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
    assert MeanField.from_tensors(posterior.tensors(), shapes).loc.keys() == shapes.keys()
    for name, (loc, scale) in moments(guide).items():
        assert torch.equal(posterior.loc[name], loc.half())
        assert torch.equal(posterior.scale[name], scale.half())
        assert not posterior.loc[name].requires_grad


class Alike(torch.nn.Module):
    """Parameters whose names differ by nothing but where the dot stands."""

    def __init__(self):
        super().__init__()
        self.a, self.a_b = torch.nn.Module(), torch.nn.Module()
        self.a.b_c, self.a_b.c = (torch.nn.Parameter(torch.zeros(size, 2)) for size in (3, 4))


def test_names_that_are_nearly_alike_are_kept_apart():
    shapes = {name: value.shape for name, value in MeanFieldGuide(Alike()).posterior().loc.items()}
    assert shapes == {"a.b_c": (3, 2), "a_b.c": (4, 2)}


def test_a_normalisation_starts_as_the_network_has_it_and_biases_at_0():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.GroupNorm(2, 4), torch.nn.PReLU())
    loc = {name: value for name, (value, _) in moments(MeanFieldGuide(network)).items()}
    assert loc["1.weight"].tolist() == [1] * 4
    assert loc["2.weight"].tolist() == [0.25]
    assert loc["0.bias"].tolist() == loc["1.bias"].tolist() == [0] * 4
    assert loc["0.weight"].std() > 0.1


def test_it_starts_at_the_fan_in_with_small_scales():
    torch.manual_seed(0)
    loc, scale = moments(MeanFieldGuide(MLP(400, classes=10)))["hidden.weight"]
    expected = fan_in_scale(loc.shape)
    assert loc.std().item() == pytest.approx(expected, rel=0.01)
    assert torch.allclose(scale, torch.tensor(0.05 * expected))


def test_the_notebooks_start_is_random_and_wide():
    torch.manual_seed(0)
    loc, scale = moments(NotebookGuide(MLP(400, classes=10)))["hidden.weight"]
    assert loc.std().item() == pytest.approx(1, rel=0.01)
    assert scale.mean().item() == pytest.approx(softplus(torch.randn(100_000)).mean().item(), rel=0.02)


def test_two_guides_share_nothing():
    first, second = MeanFieldGuide(MLP(3, classes=10)), MeanFieldGuide(MLP(3, classes=10))
    before = second.posterior().tensors()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1)
    after = second.posterior().tensors()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def analytic_kl(guide, prior_scale):
    """KL(Normal(m, s²) ‖ Normal(0, p²)) = log(p/s) + (s² + m²) / 2p² − 1/2, summed, in NumPy."""
    total = 0.0
    for loc, scale in moments(guide).values():
        m, s = (value.double().numpy() for value in (loc, scale))
        p = prior_scale or fan_in_scale(loc.shape)
        total += np.sum(np.log(p / s) + (s**2 + m**2) / (2 * p**2) - 0.5)
    return total


@pytest.mark.parametrize("prior_scale", [None, 1.0, 0.1])
@pytest.mark.parametrize("guide_type", NORMALS)
def test_pyros_own_elbo_has_the_kl_in_closed_form(guide_type, prior_scale):
    network = MLP(6, classes=10)
    guide, model = guide_type(network), BayesianNeuralNetwork(network, 100, prior_scale)
    prior = poutine.block(model, hide=["label", "data"])
    kls = {TraceMeanField_ELBO().loss(prior, guide, torch.rand(3, 1, 28, 28)) for _ in range(3)}
    assert len(kls) == 1  # no noise: it is not sampled
    assert kls.pop() == pytest.approx(analytic_kl(guide, prior_scale), rel=1e-4)


@pytest.fixture
def mixture():
    torch.manual_seed(0)
    return MixtureGuide([NotebookGuide(MLP(3, classes=10)) for _ in range(3)])


def stacked(mixture) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The components' `moments`, (M, *shape)."""
    each = [moments(component) for component in mixture.components]
    return {
        name: (torch.stack([one[name][0] for one in each]), torch.stack([one[name][1] for one in each]))
        for name in each[0]
    }


def test_a_mixture_is_its_components_side_by_side(mixture):
    posterior = mixture.posterior()
    assert type(posterior) is Mixture
    tensors = posterior.tensors()
    for m, component in enumerate(mixture.components):
        for name, value in component.posterior().tensors().items():
            assert torch.equal(tensors[f"mean-field/{name}"][m], value)
    assert tensors["mean-field/loc/out.weight"].shape == (3, 10, 3)
    assert len(list(mixture.parameters())) == 3 * len(list(mixture.components[0].parameters()))


def test_draws_of_a_mixture_have_its_moments(mixture):
    loc, scale = stacked(mixture)["out.bias"]
    with torch.no_grad():
        draws = torch.stack(
            [poutine.trace(mixture).get_trace().nodes["network.out.bias"]["value"] for _ in range(2000)]
        )
    variance = scale.square().mean(0) + loc.var(0, correction=0)  # the law of total variance
    assert torch.allclose(draws.mean(0), loc.mean(0), atol=5 * variance.max().sqrt().item() / 2000**0.5)
    assert torch.allclose(draws.var(0), variance, rtol=0.2)


def test_all_weights_of_a_draw_come_from_one_component_each_as_often(mixture):
    with torch.no_grad():
        for component in mixture.components:
            for name, value in component.named_parameters():
                value.fill_(-50.0) if name.endswith("log_scale") else value
    chosen = []
    for _ in range(300):
        nodes = poutine.trace(mixture).get_trace().nodes
        drawn = {name.removeprefix("network."): nodes[name]["value"] for name in nodes if "." in name}
        fits = [
            all(torch.allclose(drawn[name], loc[m], atol=1e-6) for name, (loc, _) in stacked(mixture).items())
            for m in range(3)
        ]
        assert fits.count(True) == 1
        chosen.append(fits.index(True))
    assert np.bincount(chosen) == pytest.approx(100, abs=40)


def test_the_log_density_of_a_draw_is_its_components(mixture):
    trace = poutine.trace(mixture).get_trace()
    m = int(trace.nodes["component"]["value"])
    expected = sum(
        Normal(loc[m], scale[m]).log_prob(trace.nodes[f"network.{name}"]["value"]).sum()
        for name, (loc, scale) in stacked(mixture).items()
    )
    assert trace.log_prob_sum().item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_elbo_of_a_mixture_counts_the_mean_kl_of_its_components():
    torch.manual_seed(0)
    network = MLP(2, classes=10)
    mixture, model = (
        MixtureGuide([MeanFieldGuide(network), NotebookGuide(network)]),
        BayesianNeuralNetwork(network, 9),
    )
    prior = poutine.block(model, hide=["label", "data"])
    elbo = Trace_ELBO(num_particles=1000)  # five standard errors
    expected = np.mean([analytic_kl(component, None) for component in mixture.components])
    with torch.no_grad():
        assert elbo.loss(prior, mixture, torch.rand(1, 1, 28, 28)) == pytest.approx(expected, rel=0.15)


def test_pyro_predicts_with_a_mixture(mixture):
    images = torch.rand(4, 1, 28, 28)
    drawn = Predictive(BayesianNeuralNetwork(MLP(3, classes=10), 100), guide=mixture, num_samples=5)(images)
    assert drawn["network.out.weight"].squeeze(1).shape == (5, 10, 3)
    assert drawn["label"].shape == (5, 4)
