"""Abstention rules: from what is known of an image to an answer or a refusal.

A new rule is one class here and one name in `RULES`.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from bnn.core.uncertainty import MAX_ENTROPY
from bnn.errors import InputError, choose
from bnn.ood.familiarity import Evidence
from bnn.rules.abstention import AbstentionRule, Calibration
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.conformal import conformal_rank, conformal_threshold
from bnn.rules.promise import Wishes


@dataclass(frozen=True)
class MedianRule(AbstentionRule):
    """The 2018 notebook's: answers where some digit's median probability over the draws is above `level`."""

    level: float = 0.2

    name: ClassVar[str] = "median"
    highest_score: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.level < 1:
            raise InputError(
                f"the median rule's level must be at least 0 and below 1, and {self.level:g} is not."
            )

    def score(self, evidence: Evidence) -> Tensor:
        """1 − the highest median probability of a digit, (N,)."""
        return 1 - evidence.median.amax(-1)

    def refuses(self, evidence: Evidence) -> Tensor:
        return evidence.median.amax(-1) <= self.level

    def labels(self, evidence: Evidence) -> Tensor:
        """The digit of the highest median, (N,)."""
        return evidence.median.argmax(-1)

    @classmethod
    def fit(cls, calibration: Calibration, wishes: Wishes) -> Self:
        return cls()

    @classmethod
    def require_fittable(cls, n: int, wishes: Wishes) -> None:
        """Nothing is fitted, so any number of digits will do."""

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name} | asdict(self)


@dataclass(frozen=True)
class ThresholdRule(AbstentionRule):
    """Refuses above a threshold that was fitted on calibration digits.

    Attributes:
        threshold: the highest score that is still answered.
        refuse: the share of digits that it refuses at most, in expectation over calibration sets.
    """

    threshold: float
    refuse: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold) or not 0 < self.refuse < 1:
            raise InputError(
                f"the {self.name} rule needs a finite threshold and a share between 0 and 1, not "
                f"{self.threshold:g} and {self.refuse:g}."
            )

    @staticmethod
    @abstractmethod
    def score_of(evidence: Evidence) -> Tensor:
        """The score, (N,), which needs no fitting."""

    @classmethod
    def fit(cls, calibration: Calibration, wishes: Wishes) -> Self:
        return cls(conformal_threshold(cls.score_of(calibration.evidence), wishes.refuse), wishes.refuse)

    @classmethod
    def require_fittable(cls, n: int, wishes: Wishes) -> None:
        conformal_rank(n, wishes.refuse)

    def score(self, evidence: Evidence) -> Tensor:
        return self.score_of(evidence)

    def refuses(self, evidence: Evidence) -> Tensor:
        return self.score_of(evidence) > self.threshold

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name} | asdict(self)


class ConfidenceRule(ThresholdRule):
    """Refuses where the likeliest digit's predictive probability is low."""

    name = "confidence"
    highest_score = 1.0

    @staticmethod
    def score_of(evidence: Evidence) -> Tensor:
        """1 − the highest predictive probability, (N,)."""
        return 1 - evidence.mean.amax(-1)


class EntropyRule(ThresholdRule):
    """Refuses where the predictive entropy (total uncertainty) is high."""

    name = "entropy"
    highest_score = MAX_ENTROPY

    @staticmethod
    def score_of(evidence: Evidence) -> Tensor:
        """Total uncertainty in nats, (N,)."""
        return evidence.total


RULES: Mapping[str, type[AbstentionRule]] = {
    rule.name: rule for rule in (CalibratedRule, EntropyRule, ConfidenceRule, MedianRule)
}


def fit_rule(name: str, calibration: Calibration, wishes: Wishes) -> AbstentionRule:
    """The rule called `name`, fitted on `calibration` to do as `wishes` say.

    Raises:
        InputError: no rule has that name, or these digits cannot promise that.
    """
    return choose(RULES, name, "abstention rule").fit(calibration, wishes)


def rule_from_dict(values: Mapping[str, Any]) -> AbstentionRule:
    """The rule that `values`, the result of `to_dict`, stand for.

    Raises:
        InputError: they stand for none.
    """
    fields = dict(values)
    try:
        return RULES[fields.pop("name")](**fields)
    except (KeyError, TypeError, OverflowError) as error:
        raise InputError(f"{dict(values)} stands for no abstention rule.") from error


def reasons(rule: AbstentionRule, evidence: Evidence, refused: Tensor) -> list[str]:
    """For each of N images "answered", "ambiguous" or "unfamiliar"."""
    return [
        "answered" if not no else "unfamiliar" if strange else "ambiguous"
        for no, strange in zip(refused.tolist(), rule.unfamiliar(evidence).tolist(), strict=True)
    ]
