"""95 % intervals: exact ones of shares, and the percentile bootstrap of everything else.

A resample of N images is given by how often it holds each of them, `counts`. A `Statistic` takes the counts
of many resamples at once, (B, N), and gives its value on each, (B,). It is made from the images once.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bnn.core.tensors import require_finite
from bnn.rules.curves import BINS, Array, Floats, Labels, confidence_bin
from bnn.rules.risk_control import exact_interval

LEVEL = 0.95
RESAMPLES = 1000
SEED = 0  # the same report has the same intervals
_AT_ONCE = 50  # resamples held in memory together

Interval = list[float]  # [low, high], as JSON has it
Statistic = Callable[..., Array]


def share_interval(events: int, trials: int) -> Interval | None:
    """The exact interval of a binomial share (Clopper & Pearson 1934); None where nothing was tried.

    Unlike a bootstrap it has a width where no event, or nothing but events, was seen.
    """
    return None if trials == 0 else [*exact_interval(events, trials, LEVEL)]


def bootstrap(statistic: Statistic, *sizes: int) -> Interval:
    """The percentile interval of `statistic` over seeded resamples (Efron 1979).

    Args:
        statistic: of one or several sets of images, each of which is resampled by itself.
        sizes: how many images each set has.
    """
    rng = np.random.default_rng(SEED)
    values = [
        statistic(*(resampled(rng, size, _AT_ONCE) for size in sizes)) for _ in range(RESAMPLES // _AT_ONCE)
    ]
    tail = (1 - LEVEL) / 2
    return [float(end) for end in np.quantile(np.concatenate(values), (tail, 1 - tail))]


def resampled(rng: Generator, size: int, resamples: int) -> Array:
    """How often each of `size` images is drawn when as many are drawn with replacement: (resamples, size)."""
    drawn = rng.integers(0, size, (resamples, size)) + size * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * size).reshape(resamples, size).astype(np.float64)


def mean_statistic(values: Array) -> Statistic:
    """The mean of `values` (N,)."""
    return lambda counts: counts @ values / counts.sum(1)


def ece_statistic(probs: Floats, labels: Labels) -> Statistic:
    """`bnn.evaluation.metrics.ece`."""
    require_finite(probs, "probabilities")
    confidence = probs.max(1).astype(np.float64)
    gap = (probs.argmax(1) == labels) - confidence
    gap_in_bin = np.eye(BINS)[confidence_bin(confidence)] * gap[:, None]
    return lambda counts: abs(counts @ gap_in_bin).sum(1) / counts.sum(1)


def aurc_statistic(errors: NDArray[np.bool_], scores: Floats) -> Statistic:
    """`bnn.evaluation.metrics.aurc`, a resample's copies of an image having equal scores.

    Within a block of m images of equal score, e of them wrong, that follows a images with E wrong, the risk
    after j of the block is (E + j r) / (a + j) = r + (E − r a) / (a + j) with r = e / m. Over j = 1 … m these
    sum to r m + (E − r a) (H(a + m) − H(a)), where H(k) = 1 + 1/2 + … + 1/k.
    """
    require_finite(scores, "refusal scores")
    order = np.argsort(scores, kind="stable")
    starts = np.unique(scores[order], return_index=True)[1]
    wrong_in_order = errors[order].astype(np.float64)
    harmonic = np.concatenate(([0.0], (1 / np.arange(1, len(scores) + 1)).cumsum()))

    def statistic(counts: Array) -> Array:
        sorted_counts = counts[:, order]
        sizes = np.add.reduceat(sorted_counts, starts, axis=1)
        wrong = np.add.reduceat(sorted_counts * wrong_in_order, starts, axis=1)
        after = sizes.cumsum(1)
        before = after - sizes
        share = wrong / sizes.clip(1)
        wrong_before = wrong.cumsum(1) - wrong
        between = harmonic[after.astype(np.int64)] - harmonic[before.astype(np.int64)]
        return (share * sizes + (wrong_before - share * before) * between).sum(1) / after[:, -1]

    return statistic


def auroc_statistic(in_distribution: Floats, out_of_distribution: Floats) -> Statistic:
    """`bnn.evaluation.metrics.auroc`, of the counts of in-distribution and out-of-distribution images."""
    for scores in (in_distribution, out_of_distribution):
        require_finite(scores, "scores")
    order = np.argsort(in_distribution, kind="stable")
    below = np.searchsorted(in_distribution[order], out_of_distribution, "left")
    not_above = np.searchsorted(in_distribution[order], out_of_distribution, "right")

    def statistic(in_counts: Array, ood_counts: Array) -> Array:
        cumulative = np.pad(in_counts[:, order].cumsum(1), ((0, 0), (1, 0)))
        beaten = (cumulative[:, below] + cumulative[:, not_above]) / 2
        pairs = in_counts.sum(1) * ood_counts.sum(1)
        return (beaten * ood_counts).sum(1) / pairs

    return statistic
