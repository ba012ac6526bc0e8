"""The split of uncertainty: identities and bounds that hold for every ensemble."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bnn.core.uncertainty import (
    Predictive,
    aleatoric_uncertainty,
    entropy,
    epistemic_uncertainty,
    total_uncertainty,
)


@st.composite
def ensembles(draw: st.DrawFn) -> Tensor:
    """Probabilities (S, N, C), from nearly uniform to nearly one-hot."""
    shape = [draw(st.integers(1, most)) for most in (12, 4, 10)]
    logits = torch.randn(*shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 2**32))))
    return (logits * draw(st.sampled_from((0.0, 0.1, 1.0, 10.0, 60.0, 1000.0)))).softmax(-1)


@given(ensembles())
def test_total_is_aleatoric_plus_epistemic_and_each_lies_between_0_and_log_c(probs: Tensor) -> None:
    total, aleatoric, epistemic = (
        split(probs) for split in (total_uncertainty, aleatoric_uncertainty, epistemic_uncertainty)
    )
    torch.testing.assert_close(total, aleatoric + epistemic, atol=1e-5, rtol=0)
    for part in (total, aleatoric, epistemic):
        assert part.shape == probs.shape[1:2]
        assert (part >= 0).all()
        assert (part <= math.log(probs.shape[-1]) + 1e-5).all()


@given(ensembles(), st.integers(0, 2**32))
def test_the_order_of_draws_and_classes_does_not_matter(probs: Tensor, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randperm(probs.shape[0], generator=generator)
    classes = torch.randperm(probs.shape[2], generator=generator)
    before, after = Predictive.of(probs), Predictive.of(probs[draws][..., classes])
    for name in ("total", "aleatoric", "epistemic"):
        torch.testing.assert_close(getattr(before, name), getattr(after, name), atol=1e-5, rtol=0)
    for name in ("mean", "median"):
        torch.testing.assert_close(getattr(before, name)[:, classes], getattr(after, name))


@given(ensembles(), st.integers(2, 9))
def test_equal_draws_have_no_epistemic_uncertainty(probs: Tensor, copies: int) -> None:
    equal = probs[:1].expand(copies, -1, -1)
    assert epistemic_uncertainty(equal).max() <= 1e-6
    torch.testing.assert_close(aleatoric_uncertainty(equal), total_uncertainty(equal), atol=1e-5, rtol=0)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_sure_draws_that_disagree_have_the_entropy_of_their_votes_as_epistemic_uncertainty(
    votes: list[int],
) -> None:
    probs = torch.eye(10)[votes][:, None]
    shares = [votes.count(digit) / len(votes) for digit in set(votes)]
    assert aleatoric_uncertainty(probs).item() == 0
    assert epistemic_uncertainty(probs).item() == pytest.approx(
        -sum(share * math.log(share) for share in shares), abs=1e-6
    )


def test_probabilities_too_small_for_their_mean_leave_the_epistemic_uncertainty_finite() -> None:
    smallest = 1.4e-45  # the least float32 above 0; its mean over 100 draws is rounded to 0
    probs = torch.eye(10)[torch.zeros(100, dtype=torch.long)][:, None]
    probs[0, 0, 5] = smallest
    assert probs.mean(0)[0, 5] == 0
    assert epistemic_uncertainty(probs).item() == pytest.approx(0, abs=1e-6)


def test_entropy_by_hand() -> None:
    probs = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]])
    torch.testing.assert_close(entropy(probs), torch.tensor([1.0, 0.0, 1.5]) * math.log(2))


def test_mean_and_median_by_hand() -> None:
    probs = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]], [[0.7, 0.3]]])
    predictive = Predictive.of(probs)
    torch.testing.assert_close(predictive.mean, torch.tensor([[0.6, 0.4]]))
    torch.testing.assert_close(predictive.median, torch.tensor([[0.7, 0.3]]))


def test_joined_slices_are_the_whole() -> None:
    whole = Predictive.of(torch.rand(3, 7, 10, generator=torch.Generator().manual_seed(0)).softmax(-1))
    again = Predictive.joined([whole[:2], whole[2:2], whole[2:]])
    assert len(again) == 7
    for name, tensor in whole.tensors().items():
        assert again.tensors()[name].equal(tensor)


def test_of_no_images_there_is_nothing_to_say() -> None:
    nothing = Predictive.of(torch.zeros(4, 0, 3))
    assert len(nothing) == 0
    assert nothing.mean.shape == nothing.median.shape == (0, 3)
    assert nothing.total.shape == nothing.aleatoric.shape == nothing.epistemic.shape == (0,)
