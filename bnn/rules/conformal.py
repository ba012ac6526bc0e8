"""Thresholds that hold for fresh images like those of a calibration set, whatever their distribution."""

import math

from torch import Tensor

from bnn.errors import InputError
from bnn.rules.promise import rounded_up


def conformal_rank(n: int, share: float) -> int:
    """k = ⌈(n + 1)(1 − share)⌉: a fresh score is above the k-th smallest of n with probability ≤ `share`.

    It holds for scores that are exchangeable (split conformal prediction; Lei et al. 2018,
    "Distribution-free predictive inference for regression", sec. 2.2).

    Raises:
        InputError: `share` is not between 0 and 1, or n is too small to promise so little.
    """
    if not 0 < share < 1:
        raise InputError(f"a share must lie between 0 and 1, and {share:g} does not.")
    rank = math.ceil((n + 1) * (1 - share) - 1e-9)  # 1e-9: in floats 10 · (1 − 0.1) may exceed 9
    if rank > n:
        raise InputError(
            f"{n} calibration images cannot promise a share of at most {share:g}: "
            f"{math.ceil(1 / share - 1e-9) - 1} could, and these can promise "
            f"{rounded_up(1 / (n + 1)):g}."
        )
    return max(rank, 1)


def conformal_threshold(scores: Tensor, share: float) -> float:
    """The value of `scores` (n,) that stands at `conformal_rank`; raises as that does."""
    return scores.sort().values[conformal_rank(len(scores), share) - 1].item()


def candidate_threshold(mean: Tensor, labels: Tensor, miss: float) -> float:
    """The lowest probability at which a class is still a candidate.

    `mean` (n, C) are the predictive probabilities of calibration images, `labels` (n,) what they are.
    Classes at or above the threshold form a set that misses the true class of a fresh image like those
    with probability at most `miss` (least ambiguous set-valued classifiers, Sadinle et al. 2019), or
    1 / (n + 1) where n `labels` cannot promise less.
    """
    of_truth = mean.gather(1, labels[:, None]).squeeze(1)
    return -conformal_threshold(-of_truth, max(miss, 1 / (len(labels) + 1)))
