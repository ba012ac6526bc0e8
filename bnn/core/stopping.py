"""When so many draws are enough: how far what they say may still move. Pure functions.

Throughout, an ensemble has S draws, of which n are known. A statistic's jackknife error is the spread of its
values when each draw in turn is left out (Efron & Stein 1981, "The jackknife estimate of variance"); with it
goes the correction for draws without replacement from a finite ensemble, by which all S leave no error.
"""

import math
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from bnn.core.evidence import Evidence
from bnn.core.uncertainty import Predictive

# Chosen on calibration digits and generated backgrounds.
ERRORS = 3.0  # jackknife errors that every statistic may yet move
NATS = 0.05  # that entropy, OOD score and novelty may move besides: few draws that agree say too little
PROBABILITY = 0.05  # the same for the probabilities of the two likeliest classes


def said(probs: Tensor) -> Predictive:
    """What draws of N images say, (n, N, C), as `Predictive.of`, but for rounding.

    All is added from the first to the last in double precision, so that an image has the same bits in any
    batch. Of no draws, n = 0, it is `Predictive.of_no_draws`.
    """
    if not len(probs):
        return Predictive.of_no_draws(*probs.shape[1:])
    return _predictive(_added(probs) / len(probs), _added(_doubts(probs)) / len(probs), _median(probs))


def left_out(probs: Tensor) -> Predictive:
    """What draws say without each of them in turn, (n·N): first all N images without the first.

    The bits are as those of `said`. The median stays that of all draws.

    Args:
        probs: (n, N, C), n ≥ 2.
    """
    n, doubts = len(probs), _doubts(probs)
    mean = (_added(probs) - probs.double()) / (n - 1)
    aleatoric = (_added(doubts) - doubts) / (n - 1)
    return _predictive(mean.flatten(0, 1), aleatoric.flatten(), _median(probs).repeat(n, 1))


def _predictive(mean: Tensor, aleatoric: Tensor, median: Tensor) -> Predictive:
    """Of `mean` (N, C) and `aleatoric` (N,) in double precision."""
    total = _doubts(mean)
    parts = (total, aleatoric, (total - aleatoric).clamp_min(0))
    return Predictive(mean.float(), median, *(part.float() for part in parts))


def _median(probs: Tensor) -> Tensor:
    return probs.sort(0).values[[(len(probs) - 1) // 2, len(probs) // 2]].mean(0)


def _doubts(probs: Tensor) -> Tensor:
    """Entropies of distributions over the last dimension in nats, in double precision."""
    return _added(torch.special.entr(probs.double()), -1)


def jackknife_error(left_out: Tensor, draws: int) -> Tensor:
    """The standard error (N,) that a statistic still has as an estimate of its value under `draws` draws.

    Args:
        left_out: its values (n, N) without each of n draws in turn, 2 ≤ n ≤ draws.
        draws: of the whole ensemble, S.
    """
    n, values = len(left_out), left_out.double()
    squares = _added((values - _added(values) / n).square())
    return (squares * ((n - 1) / n * (1 - n / draws))).sqrt().float()


def extremes(now: Evidence, without: Evidence, draws: int) -> Evidence:
    """`now`, and all that it may yet turn to, as the corners of a box: (17·N), first all N images as now.

    Entropy, OOD score and novelty go up and down by `ERRORS` jackknife errors and `NATS`, and so do the
    probabilities of the two likeliest classes, against one another, by as many and by `PROBABILITY`.

    Args:
        now: of N images under n draws.
        without: of the same without each draw in turn, (n·N).
        draws: of the whole ensemble.
    """
    count = len(now)
    two = now.mean.topk(2).indices
    pairs = without.mean.unflatten(0, (-1, count)).gather(-1, two.expand(len(without) // count, -1, -1))
    leads = pairs[..., 0] - pairs[..., 1]

    def reach(values: Tensor, floor: float) -> Tensor:
        return ERRORS * jackknife_error(values.view(-1, count), draws) + floor

    reaches = [reach(values, NATS) for values in (without.total, without.ood, without.novelty)]
    shift = torch.zeros_like(now.mean).scatter(-1, two, torch.tensor([1.0, -1.0]).expand_as(two))
    shift = shift * reach(leads, PROBABILITY)[:, None]
    corners = [(0.0,) * 4, *product((-1.0, 1.0), repeat=4)]
    *signs, side = torch.tensor(corners)[..., None].unbind(1)
    moved = [
        (value + sign * reach).flatten()
        for value, sign, reach in zip((now.total, now.ood, now.novelty), signs, reaches, strict=True)
    ]
    mean = (now.mean + side[..., None] * shift).flatten(0, 1)
    everywhere = now[torch.arange(count).repeat(len(side))]
    total, ood, novelty = moved
    return replace(
        everywhere,
        predictive=replace(everywhere.predictive, mean=mean, total=total),
        ood=ood,
        novelty=novelty,
    )


def group_size(components: int, least: int = 5) -> int:
    """Draws that are made at once: equally many of every component, and at least so many to tell an error."""
    return components * math.ceil(least / components)


def _added(parts: Tensor, dim: int = 0) -> Tensor:
    """Their sum along `dim` in double precision, from the first to the last."""
    return parts.cumsum(dim, dtype=torch.float64).select(dim, -1)
