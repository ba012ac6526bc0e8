"""Stochastic-gradient HMC: on Normal targets, its cycles, and the posterior of kept networks."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bnn.core.networks import MLP
from bnn.core.posterior import Mixture, Samples, posterior_from
from bnn.errors import InputError
from bnn.training.sghmc import CYCLES, EACH, SAMPLED, SGHMC, SGHMCGuide, kept_at, rate
from bnn.training.train import train

CHAINS = 20_000


def chain(lr: float, precision: float, temperature: float, steps: int, noise: float = 0.0) -> Tensor:
    """So many steps of `CHAINS` chains around 3, of U(w) = precision · (w − 3)² / 2, from 3 on."""
    weight = nn.Parameter(torch.full((CHAINS,), 3.0))
    sampler = SGHMC([weight], lr, temperature, seed=1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        weight.grad = precision * (weight.detach() - 3) + noise * torch.randn(CHAINS, generator=generator)
        sampler.step()
    return weight.detach()


@pytest.mark.parametrize(("precision", "temperature"), [(1.0, 1.0), (4.0, 0.5), (0.5, 0.01)])
def test_on_a_normal_target_mean_and_variance_are_right(precision: float, temperature: float) -> None:
    """Within Monte-Carlo error, of which the bias by the step's size is a small part."""
    drawn = chain(0.004 / precision, precision, temperature, 2500)
    variance = temperature / precision
    assert drawn.mean().item() == pytest.approx(3, abs=4 * (variance / CHAINS) ** 0.5)
    assert drawn.var().item() == pytest.approx(variance, rel=4 * (2 / CHAINS) ** 0.5)


def test_without_temperature_it_is_descent_with_momentum() -> None:
    weights = [nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2)]
    sampler = SGHMC([weights[0]], 0.1, 0.0, seed=0)
    descent = torch.optim.SGD([weights[1]], 0.1, momentum=0.9)
    for _ in range(20):
        for weight, optimizer in zip(weights, (sampler, descent), strict=True):
            weight.grad = 2 * weight.detach()
            optimizer.step()
    torch.testing.assert_close(weights[0].detach(), weights[1].detach())


def test_its_noise_goes_on_from_a_kept_state() -> None:
    def sampler(weight: nn.Parameter) -> SGHMC:
        weight.grad = torch.ones_like(weight)
        return SGHMC([weight], 0.1, 1.0, seed=7)

    whole, parts = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    through, first = sampler(whole), sampler(parts)
    for _ in range(4):
        through.step()
    for _ in range(2):
        first.step()
    second = sampler(parts)
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        second.step()
    assert torch.equal(whole, parts)


@pytest.mark.parametrize("steps", [192, 1000, 3867])
def test_samples_are_of_the_last_quarter_of_each_cycle(steps: int) -> None:
    at = sorted(kept_at(steps))
    assert len(at) == CYCLES * EACH
    assert at[-1] == steps
    for n, step in enumerate(at):
        through = step / steps * CYCLES - n // EACH
        assert 1 - SAMPLED - 2 * CYCLES / steps <= through <= 1
    assert rate(0) == rate(1 / CYCLES) == 1
    assert rate(0.999999 / CYCLES) == pytest.approx(0, abs=1e-6)


def test_the_networks_passed_through_are_kept() -> None:
    guide, steps, passed = SGHMCGuide(MLP(1, classes=2)), 200, []
    for step in range(1, steps + 1):
        with torch.no_grad():
            guide.get_parameter("out/bias_loc").fill_(step)
        guide.after_step(step, steps)
        passed += [float(step)] if step in kept_at(steps) else []
    weights = guide.posterior().weights
    assert weights["out.bias"][:, 0].tolist() == passed
    assert weights["hidden.weight"].shape == (CYCLES * EACH, 1, 784)


def test_too_few_steps_and_nothing_kept_are_refused() -> None:
    with pytest.raises(InputError, match="20 steps are too few"):
        train("digits", guide="sghmc", network="mlp", rule="entropy", epochs=2)
    with pytest.raises(InputError, match="keeps nothing of a training"):
        SGHMCGuide(MLP(1, classes=2)).posterior()


def numbered(count: int, start: int = 0) -> Samples:
    return Samples({"a": torch.arange(start, start + count).float()[:, None].expand(count, 2)})


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    draws=st.integers(1, 30),
    seed=st.integers(0, 9),
)
def test_every_kept_network_is_drawn_as_often_as_any_other(counts: list[int], draws: int, seed: int) -> None:
    counts = [counts[0]] * len(counts)  # a checkpoint holds components of one size
    mixture = Mixture([numbered(count, 10 * m) for m, count in enumerate(counts)])
    drawn = mixture.sample(draws, seed)["a"][:, 0].int().tolist()
    for m, count in enumerate(counts):
        mine = drawn[m :: len(counts)]
        assert {one // 10 for one in mine} <= {m}
        often = [mine.count(10 * m + n) for n in range(count)]
        assert max(often) - min(often) <= 1
    again: Any = posterior_from("mixture", mixture.tensors(), {"a": (2,)})
    assert torch.equal(again.sample(draws, seed)["a"], mixture.sample(draws, seed)["a"])


def test_the_mean_network_is_the_sample_nearest_to_the_mean() -> None:
    weights = torch.tensor([[0.0, 0.0], [3.0, 3.0], [4.0, 4.0], [9.0, 9.0]])
    assert Samples({"a": weights}).mean()["a"].tolist() == [4, 4]
