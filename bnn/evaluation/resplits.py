"""Re-splits: whether the calibrated rule keeps its promises, by fitting it again and again.

The digits are dealt at random into two parts. The rule is fitted on one and measured on the other, many
times over. The share of re-splits in which a promise is broken can then be held against the chance that the
promise leaves for it.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from bnn.core.evidence import Evidence
from bnn.errors import InputError
from bnn.progress import tracked
from bnn.rules.abstention import Calibration
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.promise import Promise

SPLITS = 1000


@dataclass(frozen=True)
class Resplits:
    """What K fitted rules did, out of K + `infeasible` re-splits.

    Attributes:
        promise: what each rule was fitted for.
        fitted_on, measured_on: digits in the two parts.
        infeasible: re-splits whose digits cannot promise that much.
        risk: (K,) share of wrong ones among the answers to the other part; 0 where none was given.
        risk_of_all: (K,) the same of all digits, those it was fitted on too.
        unfamiliar: (K,) share of the other part that is above the rule's threshold of the OOD score.
        coverage: (K,) share of the other part that was answered.
    """

    promise: Promise
    fitted_on: int
    measured_on: int
    infeasible: int
    risk: NDArray[np.float64]
    risk_of_all: NDArray[np.float64]
    unfamiliar: NDArray[np.float64]
    coverage: NDArray[np.float64]

    def numbers(self) -> dict[str, Any]:
        """As plain values; None where no rule could be fitted.

        A re-split without a rule breaks no promise, so it counts among those that did not exceed the risk.
        """
        splits = len(self.risk) + self.infeasible
        return {
            "splits": splits,
            "infeasible": self.infeasible,
            "fitted_on": self.fitted_on,
            "measured_on": self.measured_on,
            "risk": self.promise.risk,
            "delta": self.promise.delta,
            "alpha": self.promise.alpha,
            "risk_exceeded": _share(self.risk > self.promise.risk, splits),
            "risk_of_all_exceeded": _share(self.risk_of_all > self.promise.risk, splits),
            "mean_risk": _mean(self.risk),
            "mean_unfamiliar": _mean(self.unfamiliar),
            "mean_coverage": _mean(self.coverage),
        }


def resplit(
    evidence: Evidence,
    labels: Tensor,
    calibration: Calibration,
    promise: Promise,
    *,
    seed: int,
    splits: int = SPLITS,
) -> Resplits:
    """Fits the calibrated rule on a part of the digits and measures it on the rest, `splits` times.

    Args:
        evidence: of N digits that the classifier was neither trained nor calibrated on.
        labels: what they are, (N,).
        calibration: the classifier's own. As many digits as it has are fitted on, but at most half.
        promise: what to fit for.
        seed: of the splits.
        splits: how many.
    """
    fitted_on = min(len(calibration), len(labels) // 2)
    generator = torch.Generator().manual_seed(seed)
    measured = [
        _measured(evidence, labels, calibration, promise, _dealt(len(labels), fitted_on, generator))
        for _ in tracked(range(splits), "re-splitting the digits", splits)
    ]
    fitted = [row for row in measured if row is not None]
    risk, risk_of_all, unfamiliar, coverage = np.array(fitted, np.float64).reshape(-1, 4).T
    return Resplits(
        promise=promise,
        fitted_on=fitted_on,
        measured_on=len(labels) - fitted_on,
        infeasible=splits - len(fitted),
        risk=risk,
        risk_of_all=risk_of_all,
        unfamiliar=unfamiliar,
        coverage=coverage,
    )


def _dealt(size: int, first: int, generator: Generator) -> Tensor:
    """Which of `size` digits are among the `first` many that are dealt, (size,) bool."""
    dealt = torch.zeros(size, dtype=torch.bool)
    dealt[torch.randperm(size, generator=generator)[:first]] = True
    return dealt


def _measured(
    evidence: Evidence, labels: Tensor, calibration: Calibration, promise: Promise, fit_on: Tensor
) -> tuple[float, float, float, float] | None:
    """(risk, risk of all, share unfamiliar, coverage) of the rule fitted on `fit_on` (N,) bool."""
    part = replace(calibration, evidence=evidence[fit_on], labels=labels[fit_on])
    try:
        rule = CalibratedRule.fit_if_feasible(part, promise)
    except InputError:  # too few digits
        return None
    if rule is None:
        return None
    answered = ~rule.refuses(evidence)
    wrong = answered & (rule.labels(evidence) != labels)
    unfamiliar = rule.strange(evidence)
    other = ~fit_on
    return (
        _ratio(wrong[other], answered[other]),
        _ratio(wrong, answered),
        unfamiliar[other].double().mean().item(),
        answered[other].double().mean().item(),
    )


def _ratio(some: Tensor, of: Tensor) -> float:
    return int(some.sum()) / max(int(of.sum()), 1)


def _share(which: NDArray[np.bool_], splits: int) -> float | None:
    return int(which.sum()) / splits if len(which) else None


def _mean(values: NDArray[np.generic]) -> float | None:
    return float(values.mean()) if len(values) else None
