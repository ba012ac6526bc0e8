"""When so many draws are enough: the jackknife by its closed forms, and the box of what may yet come."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bnn.core.evidence import Evidence
from bnn.core.stopping import ERRORS, NATS, extremes, group_size, jackknife_error, left_out
from bnn.core.uncertainty import Predictive
from bnn.rules.thresholds import EntropyRule

SEEDS = st.integers(0, 2**32)


def random_probs(seed: int, draws: int, images: int, classes: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(draws, images, classes, generator=generator).mul(3).softmax(-1)


def evidence_of(said: Predictive) -> Evidence:
    zeros = torch.zeros(len(said))
    return Evidence(said, {"score": zeros}, zeros, zeros)


@given(SEEDS, st.integers(2, 12), st.integers(0, 40))
def test_the_error_of_a_mean_is_that_of_a_sample_from_a_finite_population(
    seed: int, n: int, more: int
) -> None:
    values = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    without = (values.sum(0) - values) / (n - 1)
    expected = values.std(0) / math.sqrt(n) * math.sqrt(1 - n / (n + more))
    torch.testing.assert_close(jackknife_error(without, n + more).double(), expected, atol=1e-6, rtol=1e-5)


@given(SEEDS, st.integers(2, 9), st.integers(1, 4))
def test_without_a_draw_is_what_the_others_say(seed: int, draws: int, images: int) -> None:
    probs = random_probs(seed, draws, images)
    found = left_out(probs)
    for s in range(draws):
        others = Predictive.of(torch.cat([probs[:s], probs[s + 1 :]]))
        part = found[slice(s * images, (s + 1) * images)]
        for name in ("mean", "total", "aleatoric", "epistemic"):
            torch.testing.assert_close(getattr(part, name), getattr(others, name), atol=2e-6, rtol=1e-5)


@given(SEEDS, st.integers(2, 9), st.integers(2, 40))
def test_an_image_has_the_same_bits_alone_and_in_a_batch(seed: int, draws: int, images: int) -> None:
    probs = random_probs(seed, draws, images, classes=10)
    now, without = evidence_of(Predictive.of(probs)), evidence_of(left_out(probs))
    together = extremes(now, without, 50)
    one = images // 2
    alone = extremes(now[one : one + 1], evidence_of(left_out(probs[:, one : one + 1])), 50)
    for name, tensor in alone.tensors().items():
        assert tensor.equal(together.tensors()[name][one::images]), name


@given(SEEDS, st.floats(0.05, 1.3))
def test_an_entropy_is_settled_where_its_threshold_is_out_of_reach(seed: int, threshold: float) -> None:
    probs = random_probs(seed, 6, 5)
    now, without = evidence_of(Predictive.of(probs)), evidence_of(left_out(probs))
    rule = EntropyRule(threshold, 0.1)
    labels = torch.from_numpy(rule.decide(extremes(now, without, 50)).labels).view(17, 5)
    reach = ERRORS * jackknife_error(without.total.view(6, 5), 50) + NATS
    refused = (labels < 0).all(0)
    answered = (labels >= 0).all(0)
    assert refused.equal(now.total - reach > threshold)
    assert answered.equal(now.total + reach <= threshold)


@given(SEEDS)
def test_a_tie_of_the_two_likeliest_classes_is_not_settled(seed: int) -> None:
    one = random_probs(seed, 1, 1)[0, 0].sort(descending=True).values
    one[:2] = one[:2].mean()
    probs = one.expand(6, 1, 4)
    found = extremes(evidence_of(Predictive.of(probs)), evidence_of(left_out(probs)), 50)
    assert set(found.mean.argmax(-1).tolist()) >= {0, 1}


@pytest.mark.parametrize(("components", "size"), [(1, 5), (2, 6), (3, 6), (5, 5), (6, 6), (12, 12)])
def test_a_group_has_equally_many_draws_of_every_component(components: int, size: int) -> None:
    assert group_size(components) == size
