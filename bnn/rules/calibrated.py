"""The calibrated rule: it refuses what is unfamiliar or ambiguous, and makes a promise about each."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from bnn.core.evidence import Evidence
from bnn.errors import InputError, shown
from bnn.numerals import percent
from bnn.rules.abstention import AbstentionRule, Calibration, Decisions, as_evidence
from bnn.rules.conformal import conformal_rank, conformal_threshold
from bnn.rules.promise import Promise, usable_threshold
from bnn.rules.risk_control import feasible_risk, require_enough, risk_threshold


@dataclass(frozen=True)
class CalibratedRule(AbstentionRule):
    """Refuses what is unfamiliar and what is ambiguous, and promises something of both.

    For fresh images like those it was fitted on, and whatever their distribution:

    - refused as unfamiliar: at most the share `alpha`, in expectation over calibration sets (split conformal
      prediction on the joined OOD score, `Evidence.ood`);
    - wrong among the answered: at most the share `risk`, with probability at least 1 − `delta` over
      calibration sets (`bnn.rules.risk_control.risk_threshold` on the predictive entropy).

    Attributes:
        unfamiliar_threshold: the highest joined OOD score that is still familiar; None where it was fitted
            without OOD scores: then nothing is refused as unfamiliar, and it promises nothing of that.
        ambiguous_threshold: the highest predictive entropy that is still answered, in nats.
        risk, delta, alpha: what is promised.

    Example:
        >>> import numpy as np
        >>> from bnn import CalibratedRule, Promise
        >>> right = np.linspace(0.5, 1, 1000)  # any classifier's probabilities of the true class
        >>> probs, labels = np.stack([right, 1 - right], 1), np.zeros(1000, int)
        >>> rule = CalibratedRule.fit(probs, labels, Promise(risk=0.05))
        >>> rule.decide([[0.1, 0.9]]).labels.tolist()
        [1]
    """

    unfamiliar_threshold: float | None
    ambiguous_threshold: float
    risk: float
    delta: float
    alpha: float

    name: ClassVar[str] = "calibrated"
    by_mean: ClassVar[bool] = True
    controls: ClassVar[tuple[str, ...]] = ("risk", "delta", "alpha")

    def __post_init__(self) -> None:
        Promise(risk=self.risk, delta=self.delta, alpha=self.alpha)
        if not (all(map(usable_threshold, self.thresholds.values())) and self.ambiguous_threshold >= 0):
            raise InputError(
                "the calibrated rule needs finite thresholds, 0 or more for what is ambiguous, "
                f"not {shown(self.unfamiliar_threshold)} and {shown(self.ambiguous_threshold)}."
            )

    @classmethod
    def fit_on(cls, calibration: Calibration, promise: Promise) -> Self:
        rule = cls.fit_if_feasible(calibration, promise)
        if rule is None:
            raise InputError(_infeasible(calibration, promise))
        return rule

    @classmethod
    def fit_if_feasible(cls, calibration: Calibration, promise: Promise) -> Self | None:
        """As `fit`, but None, and at once, where the images are enough but do not show so low a risk."""
        unfamiliar = _unfamiliar_threshold(calibration, promise)
        scores, wrong, grid = _risk_sample(calibration, unfamiliar)
        require_enough(len(scores), promise.risk, promise.delta)
        ambiguous = risk_threshold(scores, wrong, grid, promise.risk, promise.delta)
        if ambiguous is None:
            return None
        return cls(unfamiliar, ambiguous, promise.risk, promise.delta, promise.alpha)

    @classmethod
    def require_fittable(cls, n: int, promise: Promise) -> None:
        familiar = conformal_rank(n, promise.alpha) - 1
        require_enough(familiar, promise.risk, promise.delta)

    def decide(self, probs: Any, scores: Any = None) -> Decisions:
        evidence = as_evidence(probs, scores)
        if bool(evidence.surprises) == (self.unfamiliar_threshold is None):
            given, fitted = ("with", "without") if evidence.surprises else ("without", "with")
            raise InputError(
                f"the rule was fitted {fitted} OOD scores and is asked {given} any: give scores to both "
                "fit and decide, or to neither."
            )
        return super().decide(evidence)

    def reluctance(self, evidence: Evidence) -> Tensor:
        """(N,) in [0, 2]: the entropy over its greatest value where familiar, above 1 where not."""
        doubt = (evidence.total / math.log(evidence.classes)).clamp_max(1)
        if self.unfamiliar_threshold is None:
            return doubt
        scale = abs(self.unfamiliar_threshold) or 1.0
        strange = 2 - scale / (scale + (evidence.ood - self.unfamiliar_threshold).clamp_min(0))
        return torch.where(self.strange(evidence), strange, doubt)

    def highest_score(self, classes: int) -> float:
        return 2.0

    def answers(self, evidence: Evidence) -> Tensor:
        return ~self.strange(evidence) & (evidence.total <= self.ambiguous_threshold)

    def unfamiliar(self, evidence: Evidence) -> Tensor:
        """As other rules have it, but never an image whose OOD score is within the threshold."""
        return self.strange(evidence) & super().unfamiliar(evidence)

    def strange(self, evidence: Evidence) -> Tensor:
        """Of which images the OOD score is above the threshold, or some number is not finite, (N,) bool."""
        if self.unfamiliar_threshold is None:
            return ~evidence.sound
        return ~(evidence.sound & (evidence.ood <= self.unfamiliar_threshold))

    @property
    def promise(self) -> Promise:
        return Promise(risk=self.risk, delta=self.delta, alpha=self.alpha)

    @property
    def thresholds(self) -> Mapping[str, float]:
        total = {"total": self.ambiguous_threshold}
        return total if self.unfamiliar_threshold is None else total | {"ood": self.unfamiliar_threshold}

    def describe(self) -> str:
        said = (
            f"Of images like those it learnt, it promises to answer at most {percent(self.risk)} wrongly "
            f"(with {percent(1 - self.delta)} confidence)"
        )
        if self.unfamiliar_threshold is None:
            return f"{said}."
        return f"{said} and to call at most {percent(self.alpha)} unfamiliar."


def _unfamiliar_threshold(calibration: Calibration, promise: Promise) -> float | None:
    """The highest OOD score that is still familiar; None where there are no scores."""
    if not calibration.evidence.surprises:
        return None
    return conformal_threshold(calibration.evidence.ood, promise.alpha)


def _risk_sample(calibration: Calibration, unfamiliar: float | None) -> tuple[Tensor, Tensor, Tensor]:
    """What `risk_threshold` takes: scores, which are wrong, and the grid of thresholds.

    Given the threshold `unfamiliar`, which is one image's own score, the images below it are independent
    draws of familiar ones: so the risk is tested on them alone, and stays exact.
    """
    evidence = calibration.evidence
    below = torch.ones(len(evidence), dtype=torch.bool) if unfamiliar is None else evidence.ood < unfamiliar
    wrong = evidence.mean.argmax(-1) != calibration.labels
    return evidence.total[below], wrong[below], calibration.grid.sort().values


def _infeasible(calibration: Calibration, promise: Promise) -> str:
    sample = _risk_sample(calibration, _unfamiliar_threshold(calibration, promise))
    feasible = feasible_risk(*sample, promise.risk, promise.delta)
    asked = (
        f"the surest of these {len(sample[0])} familiar calibration images do not show a risk of at most "
        f"{promise.risk:g} with confidence {1 - promise.delta:g}"
    )
    if feasible is not None:
        return f"{asked}: ask for a risk of {feasible:g}."
    return (
        f"{asked}, nor any higher one: train a better network, or calibrate on images more like those it "
        "was trained on."
    )
