"""Metrics of answers and refusals: pure functions on NumPy arrays.

Throughout, `probs` is (N, C), `labels` (N,) the true classes, `answers` (N,) the classes answered with -1
for a refusal, `scores` (N,) refusal scores, of which higher means more reason to refuse. Of probabilities or
scores that are not finite there is no metric (`InputError`): NaN passes for class 0, and for sure.

>>> import numpy as np
>>> from bnn import metrics
>>> metrics.accuracy(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0]))
0.5
>>> metrics.auroc(np.array([0.1, 0.3]), np.array([0.2, 0.4]))
0.75
"""

import numpy as np
from numpy.typing import NDArray

from bnn.core.tensors import require_finite
from bnn.rules.curves import Array, Floats, Labels, reliability, risk_coverage

REFUSED_OOD = 0.95  # share of out-of-distribution images refused at the threshold of `fpr95`


def accuracy(probs: Floats, labels: Labels) -> float:
    """Share of images whose likeliest class is the true one, refused or not: in [0, 1], higher is better."""
    require_finite(probs, "probabilities")
    return float((probs.argmax(1) == labels).mean())


def nll(probs: Floats, labels: Labels) -> float:
    """Mean of −log p(true class) in nats: in [0, ∞), lower is better."""
    return float(nll_each(probs, labels).mean())


def nll_each(probs: Floats, labels: Labels) -> Array:
    """−log p(true class) of each image in nats, (N,).

    A probability that underflowed to 0 counts as float32's smallest normal number (87.3 nats).
    """
    require_finite(probs, "probabilities")
    of_truth = probs[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(of_truth.clip(np.finfo(np.float32).tiny, 1))


def brier(probs: Floats, labels: Labels) -> float:
    """Mean over images of Σ_c (p_c − [c is true])²: in [0, 2], lower is better (Brier 1950)."""
    return float(brier_each(probs, labels).mean())


def brier_each(probs: Floats, labels: Labels) -> Array:
    """Σ_c (p_c − [c is true])² of each image, (N,)."""
    require_finite(probs, "probabilities")
    truth = np.eye(probs.shape[1])[labels]
    return ((probs - truth) ** 2).sum(1)


def ece(probs: Floats, labels: Labels) -> float:
    """Expected calibration error Σ_bins share · |accuracy − confidence|: in [0, 1], lower is better.

    15 bins of equal width on the likeliest class's probability (Guo et al. 2017, eq. 3). torchmetrics'
    function takes an image of confidence exactly 1 for a 16th bin, and logits for rows that rounding
    brings above 1, hence this one.
    """
    confidence, right, share = reliability(probs, labels)
    return float((share * abs(right - confidence)).sum())


def coverage(answers: Labels) -> float:
    """Share of images that are answered: in [0, 1], higher is better in distribution."""
    return float((answers >= 0).mean())


def selective_risk(answers: Labels, labels: Labels) -> float | None:
    """Share of wrong ones among the answers given: in [0, 1], lower is better; None where none is given."""
    answered = answers >= 0
    return float((answers != labels)[answered].mean()) if answered.any() else None


def aurc(errors: NDArray[np.bool_], scores: Floats) -> float:
    """Area under the risk-coverage curve, the mean risk over all coverages: in [0, 1], lower is better.

    Geifman, Uziel & El-Yaniv 2019, "Bias-reduced uncertainty estimation for deep neural classifiers".
    """
    return float(risk_coverage(errors, scores)[1].mean())


def auroc(in_distribution: Floats, out_of_distribution: Floats) -> float:
    """P(out-of-distribution score > in-distribution one), ties counting half: in [0, 1], higher is better.

    The area under the ROC curve with out-of-distribution as the positive class, 0.5 being chance (Hendrycks
    & Gimpel 2017).
    """
    from sklearn.metrics import roc_auc_score  # which brings pandas and scipy.stats: seconds

    _require_scores(in_distribution, out_of_distribution)
    positive = np.repeat([False, True], [len(in_distribution), len(out_of_distribution)])
    return float(roc_auc_score(positive, np.concatenate((in_distribution, out_of_distribution))))


def fpr95(in_distribution: Floats, out_of_distribution: Floats) -> float:
    """Share of in-distribution images refused where 95 % of the others are: in [0, 1], lower is better.

    Out-of-distribution is the positive class. The threshold is the highest score at or above which at least
    95 % of its images lie (Liang et al. 2018, "ODIN", with the classes named the other way round).
    """
    _require_scores(in_distribution, out_of_distribution)
    needed = int(np.ceil(REFUSED_OOD * len(out_of_distribution) - 1e-9))
    threshold = np.sort(out_of_distribution)[-needed]
    return float((in_distribution >= threshold).mean())


def _require_scores(*scores: Floats) -> None:
    for of_set in scores:
        require_finite(of_set, "scores")
