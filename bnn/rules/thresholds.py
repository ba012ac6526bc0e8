"""Rules with one threshold: the notebook's, and those on the confidence and on the entropy."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from bnn.core.evidence import Evidence
from bnn.errors import InputError, shown
from bnn.numerals import percent
from bnn.rules.abstention import AbstentionRule, Calibration
from bnn.rules.conformal import conformal_rank, conformal_threshold
from bnn.rules.promise import Promise, usable_threshold


@dataclass(frozen=True)
class MedianRule(AbstentionRule):
    """The 2018 notebook's: answers where some class's median probability over the draws is above `level`.

    Example:
        >>> from bnn import MedianRule
        >>> one, other = [[0.9, 0.1, 0.0]], [[0.0, 0.1, 0.9]]  # two networks' probabilities of an image
        >>> MedianRule(0.5).decide([one, other]).labels.tolist()
        [-1]
    """

    level: float = 0.2

    name: ClassVar[str] = "median"

    def __post_init__(self) -> None:
        if not 0 <= self.level < 1:
            raise InputError(
                f"the median rule's level must be at least 0 and below 1, and {self.level:g} is not."
            )

    def reluctance(self, evidence: Evidence) -> Tensor:
        """1 − the highest median probability of a class, (N,)."""
        return 1 - evidence.predictive.median.amax(-1)

    def highest_score(self, classes: int) -> float:
        return 1.0

    def answers(self, evidence: Evidence) -> Tensor:
        return evidence.predictive.median.amax(-1) > self.level

    def labels(self, evidence: Evidence) -> Tensor:
        """The class of the highest median, (N,)."""
        return evidence.predictive.median.argmax(-1)

    @classmethod
    def fit_on(cls, calibration: Calibration, promise: Promise) -> Self:
        return cls()

    @classmethod
    def require_fittable(cls, n: int, promise: Promise) -> None:
        """Nothing is fitted, so any number of images will do."""

    def describe(self) -> str:
        return f"Answers where some class's median probability is above {self.level:g}; it promises nothing."


@dataclass(frozen=True)
class ThresholdRule(AbstentionRule):
    """Refuses above a threshold that was fitted on calibration images.

    Attributes:
        threshold: the highest score that is still answered.
        refuse: the share of such images that it refuses at most, in expectation over calibration sets.
    """

    threshold: float
    refuse: float

    measures: ClassVar[str]
    controls: ClassVar[tuple[str, ...]] = ("refuse",)

    def __post_init__(self) -> None:
        if not usable_threshold(self.threshold) or not 0 < self.refuse < 1:
            raise InputError(
                f"the {self.name} rule needs a finite threshold and a share between 0 and 1, not "
                f"{shown(self.threshold)} and {shown(self.refuse)}."
            )

    @staticmethod
    @abstractmethod
    def score_of(evidence: Evidence) -> Tensor:
        """The score, (N,), which needs no fitting."""

    @classmethod
    def fit_on(cls, calibration: Calibration, promise: Promise) -> Self:
        return cls(conformal_threshold(cls.score_of(calibration.evidence), promise.refuse), promise.refuse)

    @classmethod
    def require_fittable(cls, n: int, promise: Promise) -> None:
        conformal_rank(n, promise.refuse)

    def reluctance(self, evidence: Evidence) -> Tensor:
        return self.score_of(evidence)

    def answers(self, evidence: Evidence) -> Tensor:
        return self.score_of(evidence) <= self.threshold

    @property
    def promise(self) -> Promise:
        return Promise(refuse=self.refuse)

    def describe(self) -> str:
        return (
            f"Of images like those it learnt, it promises to refuse at most {percent(self.refuse)}: "
            f"those whose {self.measures} is above {self.threshold:.3g}."
        )


class ConfidenceRule(ThresholdRule):
    """Refuses where the likeliest class's predictive probability is low.

    Example:
        >>> from bnn import ConfidenceRule
        >>> ConfidenceRule(threshold=0.3, refuse=0.1).decide([[0.9, 0.1], [0.6, 0.4]]).labels.tolist()
        [0, -1]
    """

    name = "confidence"
    by_mean = True
    measures = "doubt (1 − the highest probability)"

    @property
    def thresholds(self) -> Mapping[str, float]:
        return {"doubt": self.threshold}

    def highest_score(self, classes: int) -> float:
        return 1.0

    @staticmethod
    def score_of(evidence: Evidence) -> Tensor:
        """1 − the highest predictive probability, (N,)."""
        return 1 - evidence.mean.amax(-1)


class EntropyRule(ThresholdRule):
    """Refuses where the predictive entropy (total uncertainty) is high.

    Example:
        >>> from bnn import EntropyRule
        >>> EntropyRule(threshold=0.5, refuse=0.1).decide([[0.9, 0.1], [0.6, 0.4]]).reasons.tolist()
        ['answered', 'ambiguous']
    """

    name = "entropy"
    by_mean = True
    measures = "predictive entropy (nats)"

    def highest_score(self, classes: int) -> float:
        return math.log(classes)

    @property
    def thresholds(self) -> Mapping[str, float]:
        return {"total": self.threshold}

    @staticmethod
    def score_of(evidence: Evidence) -> Tensor:
        """Total uncertainty in nats, (N,)."""
        return evidence.total
