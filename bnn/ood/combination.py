"""Joining OOD scores: each becomes a p-value against training images, and the p-values one statistic.

A new way of joining them is one class and one name in `COMBINATIONS`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping
from typing import ClassVar, Self

import torch
from torch import Tensor

from bnn.core.tensors import grouped, require, under
from bnn.errors import InputError

# Chosen with kinds of generated background left out of what the contrast learnt; others weigh 1.
WEIGHTS = {"contrast": 1.0, "entropy": 0.25, "pixels": 0.25}
# Of all that is refused, the share of a score that is joined by itself; the sum of the others has the rest.
# Chosen on calibration digits, upright and turned, and on generated background, of which it costs nothing.
SHARES = {"turned": 0.2}
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
        """Each score's surprise in nats, (N,), by name; it must not fall where the score rises."""

    @abstractmethod
    def joined(self, surprises: Named) -> Tensor:
        """One OOD score, (N,): higher means more out-of-distribution; no higher surprise may lower it."""

    def decided_by(self, name: str, surprises: Named, joined: Tensor) -> Tensor:
        """Where the `joined` score is no more than that of the score called `name` by itself, (N,) bool."""
        return torch.zeros_like(joined, dtype=torch.bool)

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

    def of_reference(self) -> Tensor:
        """The training images' own joined scores, (R,)."""
        return self.joined(self.surprises(self._reference))

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


class Bonferroni(Combination):
    """−log of the least p / share: a score that is joined by itself, beside the weighted sum of the others.

    p-values with weights (Genovese, Roeder & Wasserman 2006, "False discovery control with p-value
    weighting"): of what is refused, each part has at most its share. So a score that knows one thing alone,
    and nothing of the rest, dilutes no other. The p-value of the sum is that among sums of training images.

    Args:
        summed: joins the other scores.
        apart: scores (R,) of training images by name, R ≥ 2, of those that are joined by themselves.
        shares: of these, () each, above 0 and below 1 together.
    """

    name = "bonferroni"

    def __init__(self, summed: Weighted, apart: Named, shares: Named) -> None:
        self._summed, self._apart, self._shares = summed, Fisher(apart), dict(shares)
        self._survival = Survival(summed.of_reference())
        self._rest = 1 - sum(share.item() for share in shares.values())

    @classmethod
    def fit(cls, reference: Named) -> Self:
        apart = SHARES.keys() & reference.keys() if reference.keys() - SHARES.keys() else set()
        summed = Weighted.fit({name: scores for name, scores in reference.items() if name not in apart})
        shares = {name: torch.tensor(SHARES[name]) for name in reference if name in apart}
        return cls(summed, {name: reference[name] for name in shares}, shares)

    def surprises(self, scores: Named) -> dict[str, Tensor]:
        return self._summed.surprises(scores) | self._apart.surprises(scores)

    def joined(self, surprises: Named) -> Tensor:
        of_sum = self._survival.surprise(self._summed.joined(surprises)) + math.log(self._rest)
        parts = [of_sum, *(self._of(name, surprises) for name in self._shares)]
        return torch.stack(parts).amax(0).clamp_min(0)

    def decided_by(self, name: str, surprises: Named, joined: Tensor) -> Tensor:
        if name not in self._shares:
            return super().decided_by(name, surprises, joined)
        return self._of(name, surprises) >= joined

    def _of(self, name: str, surprises: Named) -> Tensor:
        return surprises[name] + self._shares[name].log()

    def tensors(self) -> dict[str, Tensor]:
        return self._summed.tensors() | self._apart.tensors() | under("share", self._shares)

    @classmethod
    def from_tensors(cls, tensors: Named, names: tuple[str, ...]) -> Self:
        shares = grouped(tensors).get("share", {})
        require(shares, dict.fromkeys(shares, ()), torch.float32, "the shares of the OOD scores")
        if not (all(share > 0 for share in shares.values()) and sum(shares.values()) < 1):
            raise InputError("the shares of the OOD scores must be above 0, and below 1 together.")
        together = tuple(name for name in names if name not in shares)
        of_sum = {
            name: tensor
            for name, tensor in tensors.items()
            if name not in shares and not name.startswith("share/")
        }
        apart = {name: tensor for name, tensor in tensors.items() if name in shares}
        summed = Weighted.from_tensors(of_sum, together)
        fitted = Fisher.from_tensors(apart, tuple(shares)) if shares else Fisher({})
        return cls(summed, fitted.tensors(), shares)


COMBINATIONS: MutableMapping[str, type[Combination]] = {
    combination.name: combination for combination in (Fisher, Weighted, Bonferroni)
}


def total(surprises: list[Tensor]) -> Tensor:
    """Their sum (N,), from the first to the last, so that it always has the same bits."""
    result = surprises[0]
    for surprise in surprises[1:]:
        result = result + surprise
    return result
