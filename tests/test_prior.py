"""Priors: their moments, the KL against them, and training under each."""

import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import halfcauchy, norm
from torch import Tensor
from torch.distributions import kl_divergence

from bnn.core.networks import MLP
from bnn.errors import InputError
from bnn.training.elbo import MeanFieldELBO
from bnn.training.guide import MeanFieldGuide
from bnn.training.model import BayesianNeuralNetwork, fan_in_scale
from bnn.training.prior import NARROW, PRIORS, SLAB
from bnn.training.train import train

QUIET = {"enable_progress_bar": False}


def double(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def integrated(density: Any, center: float) -> Tensor:
    """∫ of a function of x, by the trapezoid rule to far in its tails."""
    x = center + torch.linspace(-100, 100, 200_001, dtype=torch.float64)
    return torch.trapezoid(density(x), x)


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_has_the_mean_and_standard_deviation_asked_for(name: str) -> None:
    prior = PRIORS[name].family(*double(0.3, 0.7))
    assert integrated(lambda x: prior.log_prob(x).exp(), 0.3).item() == pytest.approx(1, abs=1e-6)
    assert integrated(lambda x: x * prior.log_prob(x).exp(), 0.3).item() == pytest.approx(0.3, abs=1e-6)
    variance = integrated(lambda x: (x - 0.3).square() * prior.log_prob(x).exp(), 0.3).item()
    assert variance == pytest.approx(0.49, rel=1e-4)


def test_the_scale_mixtures_density_is_the_two_normals_half_each() -> None:
    wide = math.sqrt(2 / (1 + NARROW**2))
    at = torch.linspace(-3, 3, 13, dtype=torch.float64)
    mixed = PRIORS["scale-mixture"].family(torch.zeros_like(at), torch.ones_like(at)).log_prob(at).exp()
    halves = [dist.Normal(0.0, scale).log_prob(at).exp() / 2 for scale in (wide, NARROW * wide)]
    assert torch.allclose(mixed, halves[0] + halves[1])


def test_the_horseshoes_density_is_the_integral_over_its_local_scale() -> None:
    """From a tenth of its global scale to twice its slab; there the variance is τ² SLAB² / (1 + SLAB)."""
    deviation = SLAB / math.sqrt(1 + SLAB)  # of the global scale 1
    prior = PRIORS["horseshoe"].family(*double(0.0, deviation))

    def joint(local: float, at: float) -> float:
        narrower = local / math.sqrt(1 + (local / SLAB) ** 2)
        return float(norm.pdf(at, scale=narrower) * halfcauchy.pdf(local))

    for at in (0.1, 0.3, 1.0, 3.0, 10.0, 20.0):
        exact = sum(quad(joint, *part, args=(at,))[0] for part in ((0, 1), (1, math.inf)))
        assert prior.log_prob(torch.tensor(at, dtype=torch.float64)).exp().item() == pytest.approx(
            exact, rel=0.02
        )


def test_the_horseshoe_has_the_fourth_moment_of_its_integral() -> None:
    """E[θ⁴] = 3 E[v²], v being the variance given the local scale, with E[v²] = (1 + SLAB / 2) E[v]²."""
    prior = PRIORS["horseshoe"].family(*double(0.0, 1.0))
    fourth = integrated(lambda x: x**4 * prior.log_prob(x).exp(), 0.0).item()
    assert fourth == pytest.approx(3 * (1 + SLAB / 2), rel=0.02)


def test_the_horseshoe_pulls_small_weights_harder_than_a_normal_does_and_large_ones_less() -> None:
    at = torch.tensor([0.01, 0.1, 2.0, 5.0], dtype=torch.float64, requires_grad=True)
    pulls = {}
    for name in ("normal", "horseshoe"):
        prior = PRIORS[name].family(torch.zeros_like(at), torch.ones_like(at))
        (gradient,) = torch.autograd.grad(prior.log_prob(at).sum(), at)
        pulls[name] = -gradient
    assert (pulls["horseshoe"] > 0).all()
    ratio = pulls["horseshoe"] / pulls["normal"]
    assert (ratio[:2] > 10).all()
    assert (ratio[2:] < 0.5).all()


@pytest.mark.parametrize("name", ["scale-mixture", "horseshoe"])
def test_draws_from_a_mixture_of_normals_are_spread_as_it_is(name: str) -> None:
    torch.manual_seed(0)
    scale = torch.tensor([0.1, 0.2, 0.4, 0.8])
    drawn = PRIORS[name].family(torch.full((4,), 0.3), scale).expand((3, 4)).sample((40_000,))
    assert drawn.shape == (40_000, 3, 4)
    standard = (drawn - 0.3) / scale
    assert torch.allclose(standard.mean((0, 1)), torch.zeros(4), atol=0.02)
    assert torch.allclose(standard.std((0, 1)), torch.ones(4), rtol=0.05)


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 0.01), (0.4, 0.3), (-3.0, 2.0)])
def test_the_kl_of_a_normal_from_a_laplace_is_its_integral(loc: float, scale: float) -> None:
    fitted, prior = (
        PRIORS["normal"].family(*double(loc, scale)),
        PRIORS["laplace"].family(*double(0.1, 0.6)),
    )
    x = loc + scale * torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    by_sum = torch.trapezoid(fitted.log_prob(x).exp() * (fitted.log_prob(x) - prior.log_prob(x)), x)
    assert kl_divergence(fitted, prior).item() == pytest.approx(by_sum.item(), rel=1e-6)


@pytest.mark.parametrize("name", PRIORS)
def test_the_elbos_kl_averages_to_the_integral(name: str) -> None:
    """Exact with a closed form, else sampled without bias."""
    torch.manual_seed(0)
    network = MLP(1, classes=2)
    model, guide = BayesianNeuralNetwork(network, 9, 0.5, family=PRIORS[name]), MeanFieldGuide(network)
    batch = torch.rand(2, 1, 28, 28), torch.tensor([0, 1])
    with torch.no_grad():
        kls = torch.stack([MeanFieldELBO().terms(model, guide, *batch)[1] for _ in range(100)]).double()
    total = 0.0
    for loc, scale in guide.posterior().floats().values():
        steps = torch.linspace(-9, 9, 1001, dtype=torch.float64)
        x = loc.double().unsqueeze(-1) + scale.double().unsqueeze(-1) * steps
        fitted = dist.Normal(loc.double().unsqueeze(-1), scale.double().unsqueeze(-1))
        prior = PRIORS[name].family(torch.zeros_like(x), torch.full_like(x, 0.5))
        ratio = fitted.log_prob(x) - prior.log_prob(x)
        total += torch.trapezoid(fitted.log_prob(x).exp() * ratio, x).sum().item()
    spread = 5 * kls.std().item() / 100**0.5
    assert kls.mean().item() == pytest.approx(total, rel=1e-3, abs=spread)
    assert (kls.unique().numel() == 1) == (name in ("normal", "learnt", "laplace"))


def test_a_learnt_scale_comes_to_what_maximises_the_evidence_bound() -> None:
    """Of Normals of means m and scales s the best common prior has the variance mean(m² + s²)."""
    torch.manual_seed(0)
    network = MLP(3, classes=2)
    model, guide = BayesianNeuralNetwork(network, 9, family=PRIORS["learnt"]), MeanFieldGuide(network)
    factors = dict(model.named_parameters())
    assert len(factors) == len(list(network.parameters()))
    batch = torch.rand(2, 1, 28, 28), torch.tensor([0, 1])
    optimizer = torch.optim.Adam(factors.values(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        MeanFieldELBO().terms(model, guide, *batch)[1].backward()
        optimizer.step()
    loc, scale = guide.posterior().floats()["hidden.weight"]
    start = fan_in_scale(loc.shape)
    learnt = start * factors["network.hidden.weight_prior_log_factor"].exp().item()
    assert learnt == pytest.approx((loc.square() + scale.square()).mean().sqrt().item(), rel=1e-2)


def test_an_unknown_prior_is_one_sentence() -> None:
    with pytest.raises(InputError, match="there is no prior 'cauchy': choose one of normal, "):
        train("digits", prior="cauchy", rule="entropy", network="mlp")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["learnt", "scale-mixture", "horseshoe"])
def test_digits_are_learnt_under_each_prior(name: str) -> None:
    options = {"network": "mlp", "network_options": {"hidden": 32}, "epochs": 6, "batch_size": 64, "draws": 8}
    scores = {"scores": ["pixels", "entropy"], "rule": "entropy", "augment": False, "lr": 1e-2}
    made = train("digits", prior=name, trainer_options=QUIET, **options, **scores)  # type: ignore[arg-type]
    assert made.record["calibration"]["accuracy"] > 0.85
    assert made.record["config"]["prior"] == name
