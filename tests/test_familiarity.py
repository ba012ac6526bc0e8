"""Familiarity: surprises that are p-values, and scores of images by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, kstest
from torch import Tensor
from torch.func import functional_call

from bnn.core.networks import MLP
from bnn.core.uncertainty import Predictive
from bnn.ood.density import ClassDensity
from bnn.ood.familiarity import TAIL, Evidence, Familiarity, Scorer, Scores, Survival, blurred

references = st.lists(st.integers(0, 40).map(float), min_size=2, max_size=400)


def survival_and_tail(reference: list[float]) -> tuple[Survival, float]:
    """The survival function, and the highest score below its tail."""
    beyond = max(1, round(TAIL * len(reference)))
    return Survival(torch.tensor(reference)), sorted(reference)[-beyond - 1]


@given(references)
def test_below_the_tail_a_surprise_is_that_of_the_share_of_references_as_high(reference: list[float]) -> None:
    survival, highest = survival_and_tail(reference)
    scores = sorted({score + shift for score in reference for shift in (-0.5, 0, 0.5)})
    scores = [score for score in scores if score <= highest]
    shares = [sum(other >= score for other in reference) / len(reference) for score in scores]
    expected = torch.tensor([-math.log(share) for share in shares])
    torch.testing.assert_close(survival.surprise(torch.tensor(scores)), expected, rtol=1e-6, atol=1e-7)


@given(references, st.lists(st.floats(-(2.0**66), 2.0**66), min_size=2, max_size=30))
def test_a_higher_score_is_never_less_surprising(reference: list[float], scores: list[float]) -> None:
    survival, _ = survival_and_tail(reference)
    ordered = torch.tensor(sorted([*scores, *reference, *(score + 0.25 for score in reference)]))
    surprises = survival.surprise(ordered)
    assert surprises.isfinite().all()
    assert (surprises >= 0).all()
    assert (surprises.diff() >= 0).all()
    assert surprises[0] == 0


@given(st.floats(0.1, 1000), st.floats(-50, 50), st.integers(0, 999))
def test_beyond_the_references_the_surprise_grows_by_the_mean_excess(
    scale: float, shift: float, seed: int
) -> None:
    excess = torch.empty(3000, dtype=torch.float64).exponential_(
        generator=torch.Generator().manual_seed(seed)
    )
    reference = excess * scale + shift
    survival, highest = survival_and_tail(reference.tolist())
    tail = reference[reference > highest]
    assert len(tail) == 30
    slope = 1 / (tail.mean() - highest).item()
    far = reference.max() + scale * torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    expected = -math.log(TAIL) + slope * (far - highest)
    torch.testing.assert_close(survival.surprise(far).double(), expected, rtol=1e-4, atol=1e-4)


def test_of_exponential_scores_the_tail_goes_on_as_they_would() -> None:
    reference = torch.empty(200_000).exponential_(generator=torch.Generator().manual_seed(0))
    far = torch.tensor([2.0, 5.0, 8.0, 15.0])  # an exponential score x has the surprise x
    torch.testing.assert_close(Survival(reference).surprise(far), far, rtol=0.05, atol=0)


@pytest.mark.parametrize("reference", [[0.0] * 500, [1.0, 1.0, 1.0, 2.0], [3.0, 3.0]])
def test_references_that_are_alike_still_give_finite_surprises(reference: list[float]) -> None:
    surprises = Survival(torch.tensor(reference)).surprise(torch.tensor([-1.0, 0.0, 1.0, 3.0, 1e6]))
    assert surprises.isfinite().all()
    assert (surprises.diff() >= 0).all()


def evidence_of(surprises: Tensor) -> Evidence:
    """Evidence with these surprises, (3, N), and nothing else to say."""
    rest = torch.zeros(surprises.shape[1])
    return Evidence(rest[:, None].expand(-1, 10), rest[:, None].expand(-1, 10), rest, rest, rest, *surprises)


def test_fishers_statistic_by_hand() -> None:
    evidence = evidence_of(-torch.tensor([[1.0, 0.5], [1.0, 0.1], [1.0, 0.2]]).log())
    torch.testing.assert_close(evidence.unfamiliarity, torch.tensor([0.0, -2 * math.log(0.01)]))
    torch.testing.assert_close(evidence.image_surprise, torch.tensor([0.0, -math.log(0.02)]))


def test_fishers_statistic_of_independent_digits_is_chi_squared_with_6_degrees_of_freedom() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 20_000, generator=generator)
    surprises = [Survival(one).surprise(other) for one, other in zip(scores[:3], scores[3:], strict=True)]
    unfamiliarity = evidence_of(torch.stack(surprises)).unfamiliarity
    assert kstest(unfamiliarity.numpy(), chi2(6).cdf).statistic < 0.02
    assert unfamiliarity.mean().item() == pytest.approx(6, abs=0.15)


def test_the_blur_keeps_ink_away_from_the_edges_and_spreads_it_as_it_should() -> None:
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, 12, 15] = 1
    spread = blurred(image)[0, 0]
    assert spread.sum().item() == pytest.approx(1, abs=1e-6)
    assert spread.argmax().item() == 12 * 28 + 15
    torch.testing.assert_close(spread[12, 14], spread[12, 16])
    torch.testing.assert_close(spread[12, 16], spread[13, 15])
    torch.testing.assert_close(spread[13, 16] * spread[12, 15], spread[12, 16] * spread[13, 15])
    ratio = (spread[12, 16] / spread[12, 15]).item()
    assert ratio == pytest.approx(math.exp(-0.5 / 0.7**2), rel=1e-5)


@given(st.integers(0, 999))
def test_the_blur_is_linear_keeps_ink_inside_and_loses_it_only_over_the_edge(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(2, 1, 28, 28)
    images[:, :, 3:-3, 3:-3] = torch.rand(2, 1, 22, 22, generator=generator)
    soft = blurred(images)
    assert soft.shape == images.shape
    torch.testing.assert_close(soft.sum((1, 2, 3)), images.sum((1, 2, 3)), rtol=1e-5, atol=0)
    torch.testing.assert_close(blurred(images[:1] + images[1:]), soft[:1] + soft[1:], rtol=1e-5, atol=1e-6)
    full = blurred(torch.ones(1, 1, 28, 28))
    torch.testing.assert_close(full[..., 3:-3, 3:-3], torch.ones(1, 1, 22, 22))
    assert (full[..., 0, :] < 0.9).all()


def density_of(size: int, seed: int) -> ClassDensity:
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(10, 2, size, 3, generator=generator)).Q
    return ClassDensity(
        torch.randn(10, 2, generator=generator).log_softmax(-1),
        torch.rand(10, 2, size, generator=generator),
        directions.mT.contiguous(),
        2 + torch.rand(10, 2, 3, generator=generator),
        1 + torch.rand(10, 2, generator=generator),
    )


def test_scores_are_surprises_expected_over_digits_and_averaged_over_networks() -> None:
    network, generator = MLP(16), torch.Generator().manual_seed(0)
    loc = {
        name: torch.randn(2, *value.shape, generator=generator) * 0.1
        for name, value in network.named_parameters()
    }
    pixels, features = density_of(784, 0), [density_of(16, 1), density_of(16, 2)]
    images = torch.rand(4, 1, 28, 28, generator=generator)
    predictive = Predictive.of(torch.randn(5, 4, 10, generator=generator).softmax(-1))
    scores = Scorer(network, loc, pixels, features).scores(images, predictive)

    def expected(log_prob: Tensor) -> Tensor:
        return -(predictive.mean * log_prob).sum(-1)

    assert scores.entropy.equal(predictive.total)
    torch.testing.assert_close(scores.pixel, expected(pixels.log_prob(blurred(images).flatten(1))))
    described = [
        functional_call(
            network.trunk(),
            {name: loc[name][m] for name in ("hidden.weight", "hidden.bias")},
            (images,),
        )
        for m in range(2)
    ]
    each = [expected(density.log_prob(x)) for density, x in zip(features, described, strict=True)]
    torch.testing.assert_close(scores.feature, (each[0] + each[1]) / 2)

    reference = Scores(*(one.repeat(25) + torch.arange(100) / 100 for one in scores.tensors().values()))
    evidence = Familiarity(Scorer(network, loc, pixels, features), reference).evidence(images, predictive)
    for name, score in scores.tensors().items():
        surprise = Survival(reference.tensors()[name]).surprise(score)
        assert evidence.tensors()[f"{name}_surprise"].equal(surprise)
    for name, value in predictive.tensors().items():
        assert evidence.tensors()[name].equal(value)
