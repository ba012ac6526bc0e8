"""What an abstention rule is, and what it is fitted on."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from bnn.ood.familiarity import Evidence
from bnn.rules.promise import Wishes

MOST_MEANT = 5  # digits between which an ambiguous image leaves the choice: its perplexity, exp(entropy)


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

        Those whose pixels and features are more surprising than the ensemble's doubt, and those that could
        be more than `MOST_MEANT` digits, for what may be anything is like nothing. The others are ambiguous.
        """
        could_be_anything = evidence.total.exp() > MOST_MEANT
        return could_be_anything | (evidence.image_surprise > evidence.entropy_surprise)

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
