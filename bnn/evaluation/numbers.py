"""From decisions to the numbers of a report, as plain values with their 95 % intervals.

`docs/metrics.md` defines each. Numbers whose names end in `_ensemble` are the ensemble's alone: the score is
the predictive entropy instead of the rule's refusal score.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn.evaluation import metrics
from bnn.evaluation.intervals import (
    aurc_statistic,
    auroc_statistic,
    bootstrap,
    ece_statistic,
    mean_statistic,
    share_interval,
)
from bnn.prediction import Prediction

Labels = NDArray[np.int64]


def answer_numbers(prediction: Prediction, labels: Labels) -> dict[str, Any]:
    """How many labelled digits are answered, and how many of them wrongly."""
    answers, n = prediction.labels, len(labels)
    answered = int((answers >= 0).sum())
    errors = int(((answers >= 0) & (answers != labels)).sum())
    right = int((prediction.probs.argmax(1) == labels).sum())
    return {
        "n": n,
        "accuracy": metrics.accuracy(prediction.probs, labels),
        "coverage": metrics.coverage(answers),
        "answered": answered,
        "errors": errors,
        "selective_risk": metrics.selective_risk(answers, labels),
        "intervals": {
            "accuracy": share_interval(right, n),
            "coverage": share_interval(answered, n),
            "selective_risk": share_interval(errors, answered),
        },
    }


def in_distribution_numbers(prediction: Prediction, labels: Labels) -> dict[str, Any]:
    """`answer_numbers`, and how good the probabilities and the order of the scores are."""
    probs, n = prediction.probs, len(labels)
    wrong = probs.argmax(1) != labels
    answers = answer_numbers(prediction, labels)
    values = {
        "nll": metrics.nll(probs, labels),
        "ece": metrics.ece(probs, labels),
        "brier": metrics.brier(probs, labels),
        "aurc": metrics.aurc(wrong, prediction.refusal_score),
        "aurc_ensemble": metrics.aurc(wrong, prediction.total),
    }
    intervals = {
        "nll": bootstrap(mean_statistic(metrics.nll_each(probs, labels)), n),
        "ece": bootstrap(ece_statistic(probs, labels), n),
        "brier": bootstrap(mean_statistic(metrics.brier_each(probs, labels)), n),
        "aurc": bootstrap(aurc_statistic(wrong, prediction.refusal_score), n),
        "aurc_ensemble": bootstrap(aurc_statistic(wrong, prediction.total), n),
    }
    return answers | values | {"intervals": answers["intervals"] | intervals}


def out_of_distribution_numbers(
    in_distribution: Prediction, out_of_distribution: Prediction
) -> dict[str, Any]:
    """How many images of a set are refused, and how well they are told from in-distribution images."""
    refused, sizes = out_of_distribution.labels < 0, (len(in_distribution), len(out_of_distribution))
    rule = in_distribution.refusal_score, out_of_distribution.refusal_score
    ensemble = in_distribution.total, out_of_distribution.total
    return {
        "n": len(out_of_distribution),
        "refused": float(refused.mean()),
        "auroc": metrics.auroc(*rule),
        "auroc_ensemble": metrics.auroc(*ensemble),
        "fpr95": metrics.fpr95(*rule),
        "fpr95_ensemble": metrics.fpr95(*ensemble),
        "intervals": {
            "refused": share_interval(int(refused.sum()), len(out_of_distribution)),
            "auroc": bootstrap(auroc_statistic(*rule), *sizes),
            "auroc_ensemble": bootstrap(auroc_statistic(*ensemble), *sizes),
        },
    }


def shifted_numbers(prediction: Prediction, labels: Labels) -> dict[str, Any]:
    """`answer_numbers` of digits from another source, with the share of right answers."""
    answers = answer_numbers(prediction, labels)
    answered, right = answers["answered"], answers["answered"] - answers["errors"]
    interval = {"right_when_answered": share_interval(right, answered)}
    return answers | {
        "right_when_answered": right / answered if answered else None,
        "intervals": answers["intervals"] | interval,
    }
