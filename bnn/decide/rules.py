"""Abstention rules: from what the ensemble says of an image to an answer or a refusal.

A new rule is one class here and one name in `RULES`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from bnn.decide.uncertainty import Predictive
from bnn.errors import InputError, choose
from bnn.networks import NUM_CLASSES


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
            f"{n} calibration digits cannot promise a share of at most {share:g}: "
            f"{math.ceil(1 / share - 1e-9) - 1} digits could, and these can promise {1 / (n + 1):.2g}."
        )
    return max(rank, 1)


def conformal_threshold(scores: Tensor, share: float) -> float:
    """The value of `scores` (n,) that stands at `conformal_rank`; raises as that does."""
    return scores.sort().values[conformal_rank(len(scores), share) - 1].item()


class AbstentionRule(ABC):
    """Decides from a `Predictive` which images to answer, and what."""

    name: ClassVar[str]
    highest_score: ClassVar[float]

    @abstractmethod
    def score(self, predictive: Predictive) -> Tensor:
        """The reason to refuse, (N,), at most `highest_score`: higher means more."""

    @abstractmethod
    def refuses(self, predictive: Predictive) -> Tensor:
        """Which images it refuses, (N,) bool; where it refuses one, it refuses all of higher score."""

    def labels(self, predictive: Predictive) -> Tensor:
        """The likeliest digit, refused or not, (N,)."""
        return predictive.mean.argmax(-1)

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The rule as plain values for `rule_from_dict`."""


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

    def score(self, predictive: Predictive) -> Tensor:
        """1 − the highest median probability of a digit, (N,)."""
        return 1 - predictive.median.amax(-1)

    def refuses(self, predictive: Predictive) -> Tensor:
        return predictive.median.amax(-1) <= self.level

    def labels(self, predictive: Predictive) -> Tensor:
        """The digit of the highest median, (N,)."""
        return predictive.median.argmax(-1)

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
    def score_of(predictive: Predictive) -> Tensor:
        """The score, (N,), which needs no fitting."""

    @classmethod
    def fit(cls, calibration: Predictive, refuse: float) -> Self:
        """The rule that refuses a digit like those of `calibration` with probability at most `refuse`.

        Raises:
            InputError: see `conformal_threshold`.
        """
        return cls(conformal_threshold(cls.score_of(calibration), refuse), refuse)

    def score(self, predictive: Predictive) -> Tensor:
        return self.score_of(predictive)

    def refuses(self, predictive: Predictive) -> Tensor:
        return self.score_of(predictive) > self.threshold

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name} | asdict(self)


class ConfidenceRule(ThresholdRule):
    """Refuses where the likeliest digit's predictive probability is low."""

    name = "confidence"
    highest_score = 1.0

    @staticmethod
    def score_of(predictive: Predictive) -> Tensor:
        """1 − the highest predictive probability, (N,)."""
        return 1 - predictive.mean.amax(-1)


class EntropyRule(ThresholdRule):
    """Refuses where the predictive entropy (total uncertainty) is high."""

    name = "entropy"
    highest_score = math.log(NUM_CLASSES)

    @staticmethod
    def score_of(predictive: Predictive) -> Tensor:
        """Total uncertainty in nats, (N,)."""
        return predictive.total


RULES: Mapping[str, type[AbstentionRule]] = {
    rule.name: rule for rule in (EntropyRule, ConfidenceRule, MedianRule)
}


def fit_rule(name: str, calibration: Predictive, refuse: float) -> AbstentionRule:
    """The rule called `name`, fitted on `calibration` to refuse at most the share `refuse` of digits.

    Raises:
        InputError: no rule has that name, or it cannot be fitted so.
    """
    rule = choose(RULES, name, "abstention rule")
    return rule.fit(calibration, refuse) if issubclass(rule, ThresholdRule) else rule()


def require_fittable(name: str, n: int, refuse: float) -> None:
    """Checks, before long work, that `fit_rule` will do with n calibration digits; raises as it does."""
    if issubclass(choose(RULES, name, "abstention rule"), ThresholdRule):
        conformal_rank(n, refuse)


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


def reasons(predictive: Predictive, refused: Tensor) -> list[str]:
    """For each of N images "answered", "ambiguous" or "unfamiliar".

    A refused image is unfamiliar where most of its uncertainty is the draws' disagreement (epistemic),
    which more training images of its like would settle, and ambiguous where most is in the image
    itself (aleatoric).
    """
    unfamiliar = predictive.epistemic > predictive.aleatoric
    return [
        "answered" if not no else "unfamiliar" if strange else "ambiguous"
        for no, strange in zip(refused.tolist(), unfamiliar.tolist(), strict=True)
    ]


def candidate_threshold(calibration: Predictive, labels: Tensor, miss: float) -> float:
    """The lowest probability at which a digit is still a candidate.

    Digits at or above it form a set that misses the true digit of an image like those of
    `calibration` with probability at most `miss` (least ambiguous set-valued classifiers, Sadinle et
    al. 2019), or 1 / (n + 1) where n `labels` cannot promise less.
    """
    of_truth = calibration.mean.gather(1, labels[:, None]).squeeze(1)
    return -conformal_threshold(-of_truth, max(miss, 1 / (len(labels) + 1)))
