"""SWAG: moments of the snapshots, its learning rate, and what a training must have for it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bnn.core.networks import MLP
from bnn.core.posterior import LowRank
from bnn.errors import InputError
from bnn.training.swag import BEGIN, COLUMNS, RATE, RISE, SNAPSHOTS, SWAGGuide, rate
from bnn.training.train import train


def guide_after(path: Tensor) -> SWAGGuide:
    """A guide that took each row of `path` (T, P) for a snapshot."""
    guide = SWAGGuide(MLP(1, classes=2))
    for weights in path:
        torch.nn.utils.vector_to_parameters(weights, guide.parameters())
        guide.take()
    return guide


def flat(weights: Any, keep: int = 0) -> np.ndarray[Any, Any]:
    return torch.cat([value.flatten(keep) for value in weights.values()], -1).double().numpy()


def path(length: int) -> Tensor:
    size = sum(value.numel() for value in MLP(1, classes=2).parameters())
    return 5 + torch.randn(length, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("length", [2, COLUMNS, COLUMNS + 7])
def test_its_moments_are_those_of_maddox(length: int) -> None:
    """Algorithm 1 by hand: the variance of all, and the last K less the mean of those up to each."""
    taken = path(length)
    posterior = guide_after(taken).posterior()
    assert isinstance(posterior, LowRank)
    snapshots = taken.double().numpy()
    columns = [row - snapshots[: n + 1].mean(0) for n, row in enumerate(snapshots)][-COLUMNS:]
    exact = np.diag(snapshots.var(0)) / 2 + sum(np.outer(d, d) for d in columns) / (2 * (len(columns) - 1))
    directions = flat(posterior.directions, 1)
    made = directions.T @ directions + np.diag(flat(posterior.scale) ** 2)
    half = 2e-3  # of the precision in which it is kept
    np.testing.assert_allclose(flat(posterior.loc), snapshots.mean(0), rtol=half)
    np.testing.assert_allclose(made, exact, rtol=0, atol=half * exact.diagonal().max())


def test_of_one_snapshot_nothing_is_kept() -> None:
    with pytest.raises(InputError, match="ends before its last quarter"):
        guide_after(path(1)).posterior()


def test_a_variance_far_below_the_weights_own_size_is_kept() -> None:
    """The mean of squares less the square of the mean would leave none of it in single precision."""
    taken = 5 + 1e-4 * (path(30) - 5)
    scale = flat(guide_after(taken).posterior().scale)
    np.testing.assert_allclose(scale, taken.double().numpy().std(0) / 2**0.5, rtol=0.02)


@pytest.mark.parametrize("steps", [81, 100, 4000])
def test_snapshots_are_the_last_quarters_and_end_with_the_last_step(steps: int) -> None:
    guide = SWAGGuide(MLP(1, classes=2))
    at: list[int] = []
    for step in range(1, steps + 1):
        guide.after_step(step, steps)
        if int(guide.taken) > len(at):
            at.append(step)
    assert at[0] > BEGIN * steps
    assert at[-1] == steps
    assert len(set(np.diff(at))) == 1
    assert min(SNAPSHOTS, len(range(int(BEGIN * steps), steps))) <= len(at) <= 2 * SNAPSHOTS


def test_the_rate_rises_falls_and_stays() -> None:
    assert rate(RISE / 2) == pytest.approx(0.5)
    assert rate(RISE) == pytest.approx(1)
    falling = [rate(RISE + (BEGIN - RISE) * n / 10) for n in range(11)]
    assert falling == sorted(falling, reverse=True)
    assert rate(BEGIN) == rate(0.9) == rate(1.0) == pytest.approx(RATE)


def test_too_few_steps_are_refused_before_the_training() -> None:
    with pytest.raises(InputError, match="has 20 steps in all: train for more epochs"):
        train("digits", guide="swag", network="mlp", rule="entropy", epochs=2)
