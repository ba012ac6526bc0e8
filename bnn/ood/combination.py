"""Joining OOD scores: each becomes a p-value against training images, and the p-values one statistic.

A new way of joining them is one class and one name in `COMBINATIONS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping
from typing import ClassVar, Self

import torch
from torch import Tensor

from bnn.core.tensors import grouped, require, under
from bnn.errors import InputError

# Chosen with kinds of generated background left out of what the contrast learnt; others weigh 1.
WEIGHTS = {"contrast": 1.0, "entropy": 0.25, "pixels": 0.25}
TAIL = 0.01  # share of reference scores beyond which survival is extrapolated

Named = Mapping[str, Tensor]  # scores or surprises of N images, (N,) each, by the score's name


class Survival:
    """The share of reference scores at or above a score, with an exponential tail beyond the `TAIL` highest.

    Without the tail, all that is stranger than the strangest reference would look equally strange. The
    tail's scale is the mean excess of the scores in it (its maximum likelihood).

    Args:
        reference: (R,) scores, higher meaning stranger, R ≥ 2.
    """

    def __init__(self, reference: Tensor) -> None:
        self._sorted = reference.double().sort().values
        count = len(reference)
        self._start = count - max(1, round(TAIL * count))
        self._threshold = self._sorted[self._start - 1]
        self._scale = (self._sorted[self._start :] - self._threshold).mean().clamp_min(1e-12)
        self._empirical = -torch.log1p(-torch.arange(self._start + 1, dtype=torch.float64) / count)

    def surprise(self, scores: Tensor) -> Tensor:
        """−log of the survival function at `scores` (N,), in nats: (N,) float32, 0 or more.

        Of NaN and of −∞, which no score sinks to, it is NaN; of ∞, ∞.
        """
        below = torch.searchsorted(self._sorted, scores.double()).clamp_max(self._start)
        tail = (scores.double() - self._threshold).clamp_min(0) / self._scale
        return torch.where(scores == -torch.inf, torch.nan, self._empirical[below] + tail).float()


class Combination(ABC):
    """A way of joining scores that was fitted to those of training images."""

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def fit(cls, reference: Named) -> Self:
        """Fitted to the scores (R,) of training images, by name."""

    @abstractmethod
    def surprises(self, scores: Named) -> dict[str, Tensor]:
        """Each score's surprise in nats, (N,), by name."""

    @abstractmethod
    def joined(self, surprises: Named) -> Tensor:
        """One OOD score, (N,): higher means more out-of-distribution."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What was fitted by name, as a checkpoint stores it."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Named, names: tuple[str, ...]) -> Self:
        """The combination of the scores called `names` whose `tensors` these are, which anyone may have made.

        Raises:
            InputError: they are not those of such a combination.
        """


class Fisher(Combination):
    """−2 Σ log p of the scores' p-values (Fisher 1932); under independence chi-squared, 2 degrees a score.

    Args:
        reference: scores (R,) of training images by name, R ≥ 2.
    """

    name = "fisher"

    def __init__(self, reference: Named) -> None:
        self._reference = dict(reference)
        self._survival = {name: Survival(scores) for name, scores in reference.items()}

    @classmethod
    def fit(cls, reference: Named) -> Self:
        return cls(reference)

    def surprises(self, scores: Named) -> dict[str, Tensor]:
        return {name: survival.surprise(scores[name]) for name, survival in self._survival.items()}

    def joined(self, surprises: Named) -> Tensor:
        return 2 * total([surprises[name] for name in self._survival])

    def tensors(self) -> dict[str, Tensor]:
        return self._reference

    @classmethod
    def from_tensors(cls, tensors: Named, names: tuple[str, ...]) -> Self:
        count = tensors[names[0]].numel() if names and names[0] in tensors else 0
        if count < 2:
            raise InputError("the reference scores of training images are missing, or fewer than two.")
        require(
            tensors, dict.fromkeys(names, (count,)), torch.float32, "the reference scores of training images"
        )
        return cls({name: tensors[name] for name in names})


class Weighted(Fisher):
    """Σ weight · −log p of the scores' p-values: a strong score is not drowned in the noise of weak ones.

    Args:
        reference: scores (R,) of training images by name, R ≥ 2.
        weights: of the scores by name, () each and above 0.
    """

    name = "weighted"

    def __init__(self, reference: Named, weights: Named) -> None:
        super().__init__(reference)
        self._weights = {name: weights[name] for name in reference}

    @classmethod
    def fit(cls, reference: Named) -> Self:
        return cls(reference, {name: torch.tensor(WEIGHTS.get(name, 1.0)) for name in reference})

    def joined(self, surprises: Named) -> Tensor:
        return total([weight * surprises[name] for name, weight in self._weights.items()])

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | under("weight", self._weights)

    @classmethod
    def from_tensors(cls, tensors: Named, names: tuple[str, ...]) -> Self:
        weights, reference = grouped(tensors).get("weight", {}), dict(tensors)
        require(weights, dict.fromkeys(names, ()), torch.float32, "the weights of the OOD scores")
        if not all(weight > 0 for weight in weights.values()):
            raise InputError("the weights of the OOD scores must be above 0.")
        for name in weights:
            del reference[f"weight/{name}"]
        return cls(Fisher.from_tensors(reference, names).tensors(), weights)


COMBINATIONS: MutableMapping[str, type[Combination]] = {"fisher": Fisher, "weighted": Weighted}


def total(surprises: list[Tensor]) -> Tensor:
    """Their sum (N,), from the first to the last, so that it always has the same bits."""
    result = surprises[0]
    for surprise in surprises[1:]:
        result = result + surprise
    return result
