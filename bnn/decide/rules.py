"""Abstention rules: from what is known of an image to an answer or a refusal.

A new rule is one class here and one name in `RULES`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from bnn.decide.conformal import conformal_rank, conformal_threshold
from bnn.decide.familiarity import Evidence
from bnn.decide.selective import feasible_risk, require_enough, risk_threshold
from bnn.errors import InputError, choose
from bnn.networks import NUM_CLASSES
from bnn.wishes import Wishes

MAX_ENTROPY = math.log(NUM_CLASSES)


@dataclass(frozen=True)
class Calibration:
    """What a rule is fitted on.

    Attributes:
        evidence: of n digits that were held out of training.
        labels: the true digits, (n,).
        entropies: predictive entropies of other digits of the same kind, in nats, (R,); they say which
            thresholds are worth trying.
    """

    evidence: Evidence
    labels: Tensor
    entropies: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, as a checkpoint stores it."""
        return {**self.evidence.tensors(), "labels": self.labels, "entropies": self.entropies}


class AbstentionRule(ABC):
    """Decides from `Evidence` which images to answer, and what."""

    name: ClassVar[str]
    highest_score: ClassVar[float]

    @abstractmethod
    def score(self, evidence: Evidence) -> Tensor:
        """The reason to refuse, (N,), at most `highest_score`: higher means more."""

    @abstractmethod
    def refuses(self, evidence: Evidence) -> Tensor:
        """Which images it refuses, (N,) bool; where it refuses one, it refuses all of higher score."""

    def unfamiliar(self, evidence: Evidence) -> Tensor:
        """Which images are refused, if they are, because they are like no digit, (N,) bool.

        Those whose pixels and features are more surprising than the ensemble's doubt. The others are
        ambiguous.
        """
        return evidence.image_surprise > evidence.entropy_surprise

    def labels(self, evidence: Evidence) -> Tensor:
        """The likeliest digit, refused or not, (N,)."""
        return evidence.mean.argmax(-1)

    @classmethod
    @abstractmethod
    def fit(cls, calibration: Calibration, wishes: Wishes) -> Self:
        """The rule that does as `wishes` say for digits like those of `calibration`.

        Raises:
            InputError: these digits cannot promise that; it says what they can.
        """

    @classmethod
    @abstractmethod
    def require_fittable(cls, n: int, wishes: Wishes) -> None:
        """Checks, before long work, that n calibration digits could do for `fit`; raises as that does."""

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


@dataclass(frozen=True)
class CalibratedRule(AbstentionRule):
    """Refuses what is unfamiliar and what is ambiguous, and promises something of both.

    For fresh digits like those it was fitted on, and whatever their distribution:

    - refused as unfamiliar: at most the share `alpha`, in expectation over calibration sets (split conformal
      prediction on Fisher's statistic, `Evidence.unfamiliarity`);
    - wrong among the answered: at most the share `risk`, with probability at least 1 − `delta` over
      calibration sets (`bnn.decide.selective.risk_threshold` on the predictive entropy).

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


RULES: Mapping[str, type[AbstentionRule]] = {
    rule.name: rule for rule in (CalibratedRule, EntropyRule, ConfidenceRule, MedianRule)
}


def fit_rule(name: str, calibration: Calibration, wishes: Wishes) -> AbstentionRule:
    """The rule called `name`, fitted on `calibration` to do as `wishes` say.

    Raises:
        InputError: no rule has that name, or these digits cannot promise that.
    """
    return choose(RULES, name, "abstention rule").fit(calibration, wishes)


def require_fittable(name: str, n: int, wishes: Wishes) -> None:
    """Checks, before long work, that n calibration digits could do for `fit_rule`; raises as that does."""
    choose(RULES, name, "abstention rule").require_fittable(n, wishes)


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
