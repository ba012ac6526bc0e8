"""Curves of answers and refusals: pure functions on NumPy arrays."""

import numpy as np
from numpy.typing import NDArray

from bnn.core.tensors import require_finite

BINS = 15  # of the reliability diagram and the expected calibration error

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]
Array = NDArray[np.float64]


def reliability(probs: Floats, labels: Labels, bins: int = BINS) -> tuple[Array, Array, Array]:
    """(mean confidence, accuracy, share of images) of each bin of confidence that is not empty.

    The bins ((m − 1) / bins, m / bins] divide the likeliest digit's probability.

    Args:
        probs: (N, 10).
        labels: the true digits, (N,).
        bins: how many.
    """
    require_finite(probs, "probabilities")
    confidence = probs.max(1).astype(np.float64)
    right = probs.argmax(1) == labels
    index = confidence_bin(confidence, bins)
    count, sure, hits = (np.bincount(index, of, minlength=bins) for of in (None, confidence, right))
    filled = count > 0
    count = count[filled]
    return sure[filled] / count, hits[filled] / count, count / len(labels)


def confidence_bin(confidence: Array, bins: int = BINS) -> Labels:
    """The index of the bin ((m − 1) / bins, m / bins] that each of `confidence` (N,) falls in, from 0.

    Raises:
        InputError: one is not finite: as an index NaN is any number.
    """
    require_finite(confidence, "probabilities")
    return np.ceil(confidence * bins).clip(1, bins).astype(np.int64) - 1


def risk_coverage(errors: NDArray[np.bool_], scores: Floats) -> tuple[Array, Array]:
    """(coverage, selective risk), each (N,), when the k = 1 … N images of lowest score are answered.

    `errors` (N,) says which images would be answered wrongly; a higher refusal score (N,) means more reason
    to refuse. Images of equal score count as one block: the risk is the mean over all orders within it.

    Raises:
        InputError: a score is not finite.
    """
    require_finite(scores, "refusal scores")
    values, block = np.unique(scores, return_inverse=True)
    sizes = np.bincount(block, minlength=len(values))
    share_wrong = np.bincount(block, errors, minlength=len(values)) / sizes
    answered = np.arange(1, len(scores) + 1)
    return answered / len(scores), np.repeat(share_wrong, sizes).cumsum() / answered
