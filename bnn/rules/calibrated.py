"""The calibrated rule: it refuses what is unfamiliar or ambiguous, and makes a promise about each."""

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from bnn.core.uncertainty import MAX_ENTROPY
from bnn.errors import InputError
from bnn.ood.familiarity import Evidence
from bnn.rules.abstention import AbstentionRule, Calibration
from bnn.rules.conformal import conformal_rank, conformal_threshold
from bnn.rules.promise import Wishes
from bnn.rules.risk_control import feasible_risk, require_enough, risk_threshold


@dataclass(frozen=True)
class CalibratedRule(AbstentionRule):
    """Refuses what is unfamiliar and what is ambiguous, and promises something of both.

    For fresh digits like those it was fitted on, and whatever their distribution:

    - refused as unfamiliar: at most the share `alpha`, in expectation over calibration sets (split conformal
      prediction on Fisher's statistic, `Evidence.unfamiliarity`);
    - wrong among the answered: at most the share `risk`, with probability at least 1 − `delta` over
      calibration sets (`bnn.rules.risk_control.risk_threshold` on the predictive entropy).

    Attributes:
        unfamiliar_threshold: the highest Fisher's statistic that is still familiar.
        ambiguous_threshold: the highest predictive entropy that is still answered, in nats.
        risk, delta, alpha: what is promised.
    """

    unfamiliar_threshold: float
    ambiguous_threshold: float
    risk: float
    delta: float
    alpha: float

    name: ClassVar[str] = "calibrated"
    highest_score: ClassVar[float] = 2.0

    def __post_init__(self) -> None:
        Wishes(risk=self.risk, delta=self.delta, alpha=self.alpha)
        finite = math.isfinite(self.unfamiliar_threshold) and math.isfinite(self.ambiguous_threshold)
        if not (finite and self.unfamiliar_threshold > 0 and self.ambiguous_threshold >= 0):
            raise InputError(
                "the calibrated rule needs finite thresholds, above 0 for what is unfamiliar and 0 or more "
                f"for what is ambiguous, not {self.unfamiliar_threshold:g} and {self.ambiguous_threshold:g}."
            )

    @classmethod
    def fit(cls, calibration: Calibration, wishes: Wishes) -> Self:
        rule = cls.fit_if_feasible(calibration, wishes)
        if rule is None:
            raise InputError(_infeasible(calibration, wishes))
        return rule

    @classmethod
    def fit_if_feasible(cls, calibration: Calibration, wishes: Wishes) -> Self | None:
        """As `fit`, but None, and at once, where the digits are enough but do not show so low a risk."""
        unfamiliar = conformal_threshold(calibration.evidence.unfamiliarity, wishes.alpha)
        scores, wrong, grid = _risk_sample(calibration, unfamiliar)
        require_enough(len(scores), wishes.risk, wishes.delta)
        ambiguous = risk_threshold(scores, wrong, grid, wishes.risk, wishes.delta)
        if ambiguous is None:
            return None
        return cls(unfamiliar, ambiguous, wishes.risk, wishes.delta, wishes.alpha)

    @classmethod
    def require_fittable(cls, n: int, wishes: Wishes) -> None:
        familiar = conformal_rank(n, wishes.alpha) - 1
        require_enough(familiar, wishes.risk, wishes.delta)

    def score(self, evidence: Evidence) -> Tensor:
        """(N,) in [0, 2]: the entropy over its greatest value where familiar, above 1 where not."""
        strange = 2 - self.unfamiliar_threshold / evidence.unfamiliarity.clamp_min(self.unfamiliar_threshold)
        return torch.where(self._strange(evidence), strange, evidence.total / MAX_ENTROPY)

    def refuses(self, evidence: Evidence) -> Tensor:
        return self._strange(evidence) | (evidence.total > self.ambiguous_threshold)

    def unfamiliar(self, evidence: Evidence) -> Tensor:
        """As other rules have it, but never an image whose unfamiliarity is within the threshold."""
        return self._strange(evidence) & super().unfamiliar(evidence)

    def _strange(self, evidence: Evidence) -> Tensor:
        return evidence.unfamiliarity > self.unfamiliar_threshold

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name} | asdict(self)


def _risk_sample(calibration: Calibration, unfamiliar: float) -> tuple[Tensor, Tensor, Tensor]:
    """What `risk_threshold` is to be told: scores, which are wrong, and the grid of thresholds.

    Given the threshold `unfamiliar`, which is one digit's own score, the digits below it are independent
    draws of familiar ones: so the risk is tested on them alone, and stays exact.
    """
    below = calibration.evidence.unfamiliarity < unfamiliar
    wrong = calibration.evidence.mean.argmax(-1) != calibration.labels
    return calibration.evidence.total[below], wrong[below], calibration.entropies.sort().values


def _infeasible(calibration: Calibration, wishes: Wishes) -> str:
    unfamiliar = conformal_threshold(calibration.evidence.unfamiliarity, wishes.alpha)
    sample = _risk_sample(calibration, unfamiliar)
    feasible = feasible_risk(*sample, wishes.risk, wishes.delta)
    asked = (
        f"the surest of these {len(sample[0])} familiar calibration digits do not show a risk of at most "
        f"{wishes.risk:g} with confidence {1 - wishes.delta:g}"
    )
    if feasible is not None:
        return f"{asked}: ask for a risk of {feasible:g}."
    return (
        f"{asked}, nor any higher one: train a better network, or calibrate on digits more like those it "
        "was trained on."
    )
