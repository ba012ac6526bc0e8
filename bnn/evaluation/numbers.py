"""From decisions to the numbers of a report, as plain values with their 95 % intervals.

`docs/metrics.md` defines each. Numbers whose names end in `_ensemble` are the ensemble's alone: the score is
the predictive entropy instead of the rule's refusal score.

A new metric of in-distribution images is one function in `bnn.evaluation.metrics` and one name in `METRICS`.
"""

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnn.evaluation import metrics
from bnn.evaluation.intervals import (
    Statistic,
    aurc_statistic,
    auroc_statistic,
    bootstrap,
    ece_statistic,
    mean_statistic,
    share_interval,
)
from bnn.prediction import Prediction

Labels = NDArray[np.int64]


class Metric(NamedTuple):
    """A number of labelled images: its `value`, and the `statistic` whose bootstrap is its interval."""

    value: Callable[[Prediction, Labels], float]
    statistic: Callable[[Prediction, Labels], Statistic]


def _wrong(prediction: Prediction, labels: Labels) -> NDArray[np.bool_]:
    wrong: NDArray[np.bool_] = prediction.probs.argmax(1) != labels
    return wrong


METRICS: MutableMapping[str, Metric] = {
    "nll": Metric(
        lambda said, labels: metrics.nll(said.probs, labels),
        lambda said, labels: mean_statistic(metrics.nll_each(said.probs, labels)),
    ),
    "ece": Metric(
        lambda said, labels: metrics.ece(said.probs, labels),
        lambda said, labels: ece_statistic(said.probs, labels),
    ),
    "brier": Metric(
        lambda said, labels: metrics.brier(said.probs, labels),
        lambda said, labels: mean_statistic(metrics.brier_each(said.probs, labels)),
    ),
    "aurc": Metric(
        lambda said, labels: metrics.aurc(_wrong(said, labels), said.refusal_score),
        lambda said, labels: aurc_statistic(_wrong(said, labels), said.refusal_score),
    ),
    "aurc_ensemble": Metric(
        lambda said, labels: metrics.aurc(_wrong(said, labels), said.total),
        lambda said, labels: aurc_statistic(_wrong(said, labels), said.total),
    ),
}


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
    """`answer_numbers`, and how good the probabilities and the order of the scores are: all of `METRICS`."""
    answers = answer_numbers(prediction, labels)
    values = {name: metric.value(prediction, labels) for name, metric in METRICS.items()}
    intervals = {
        name: bootstrap(metric.statistic(prediction, labels), len(labels)) for name, metric in METRICS.items()
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


def refused_by_kind(kinds: Sequence[str], prediction: Prediction) -> list[dict[str, Any]]:
    """Of each kind of images that need not show a class how many are refused, the least refused first."""
    rows = []
    for kind, of_kind in _by_kind(kinds):
        n, refused = len(of_kind), int((prediction.labels[of_kind] < 0).sum())
        interval = {"refused": share_interval(refused, n)}
        rows.append({"kind": kind, "n": n, "refused": refused / n, "intervals": interval})
    return sorted(rows, key=lambda row: row["refused"])


def answered_by_kind(kinds: Sequence[str], prediction: Prediction, labels: Labels) -> list[dict[str, Any]]:
    """`answer_numbers` of each kind of labelled images, the one with the fewest right answers first."""
    rows = [
        {"kind": kind} | answer_numbers(prediction[of_kind], labels[of_kind])
        for kind, of_kind in _by_kind(kinds)
    ]
    return sorted(rows, key=lambda row: (row["answered"] - row["errors"]) / row["n"])


def _by_kind(kinds: Sequence[str]) -> list[tuple[str, Labels]]:
    """Each kind with the indices of its images; nothing where all are of one kind."""
    indices: dict[str, list[int]] = {}
    for index, kind in enumerate(kinds):
        indices.setdefault(kind, []).append(index)
    return [(kind, np.array(of_kind)) for kind, of_kind in indices.items()] if len(indices) > 1 else []
