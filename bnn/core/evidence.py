"""Evidence: what is known of images before anything is decided, as named numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from bnn.core.tensors import floats, in_groups, require, under
from bnn.core.uncertainty import Predictive
from bnn.errors import InputError

ROWS_SUM = 1e-3  # how far from 1 the probabilities of an image may sum
MOST_SUMMARISED = 8_000_000  # probabilities at once: `torch.quantile` takes hardly more than twice as many


@dataclass(frozen=True)
class Evidence:
    """What is known of N images: what the ensemble says, and how far out of distribution they are.

    Attributes:
        predictive: what the ensemble says.
        surprises: (N,) nats each, by the name of its OOD score: −log of the share of training images whose
            score is as high. 0 is as familiar as can be; higher is stranger.
        ood: (N,), the surprises joined into one OOD score; higher is more out-of-distribution.
        novelty: (N,), by how much the image itself is more surprising than what the ensemble says of it:
            above 0, a refusal is due to an unfamiliar image; else to an ambiguous one.

    Example:
        >>> from bnn import Evidence
        >>> Evidence.of([[0.5, 0.5], [1.0, 0.0]]).total
        tensor([0.6931, 0.0000])
    """

    predictive: Predictive
    surprises: Mapping[str, Tensor]
    ood: Tensor
    novelty: Tensor

    @property
    def mean(self) -> Tensor:
        """The predictive mean, (N, C)."""
        return self.predictive.mean

    @property
    def total(self) -> Tensor:
        """The predictive entropy in nats, (N,)."""
        return self.predictive.total

    @property
    def classes(self) -> int:
        """C."""
        return self.mean.shape[1]

    @property
    def sound(self) -> Tensor:
        """Of which images all numbers are finite, (N,) bool; `novelty` may be infinite, but not NaN."""
        predictive = self.predictive
        rows = torch.cat([predictive.mean, predictive.median], dim=1)
        numbers = [predictive.total, predictive.aleatoric, predictive.epistemic, self.ood]
        finite = torch.stack([*numbers, *self.surprises.values()]).isfinite().all(0)
        return rows.isfinite().all(1) & finite & ~self.novelty.isnan()

    @classmethod
    def of(cls, probs: Any, scores: Any = None) -> Self:
        """Evidence from plain arrays, such as another library's.

        Args:
            probs: class probabilities, (N, C), or (S, N, C) of an ensemble of S.
            scores: OOD scores (N,), higher meaning more out-of-distribution; None where there are none.

        Raises:
            InputError: the shapes do not fit, a row of `probs` is no distribution, or a score is not finite.
        """
        drawn = _probabilities(probs)
        n = drawn.shape[1]
        at_once = max(1, MOST_SUMMARISED // (len(drawn) * drawn.shape[2]))
        said = Predictive.joined([Predictive.of(part) for part in drawn.split(at_once, dim=1)])
        if scores is None:
            return cls(said, {}, torch.zeros(n), torch.full((n,), -math.inf))
        ood = floats(scores, "scores")
        if ood.shape != (n,):
            raise InputError(f"scores must be {n} numbers, one an image, not of shape {tuple(ood.shape)}.")
        if not ood.isfinite().all():
            raise InputError("scores must be finite numbers, without NaN.")
        return cls(said, {"score": ood}, ood, torch.full((n,), math.inf))

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Several parts one after another."""
        return cls(
            Predictive.joined([part.predictive for part in parts]),
            {name: torch.cat([part.surprises[name] for part in parts]) for name in parts[0].surprises},
            torch.cat([part.ood for part in parts]),
            torch.cat([part.novelty for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.ood)

    def __getitem__(self, index: slice | Tensor) -> Self:
        surprises = {name: tensor[index] for name, tensor in self.surprises.items()}
        return type(self)(self.predictive[index], surprises, self.ood[index], self.novelty[index])

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, as a checkpoint stores it."""
        own = {"joined/ood": self.ood, "joined/novelty": self.novelty}
        return under("predictive", self.predictive.tensors()) | under("surprise", self.surprises) | own

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], classes: int, scores: Sequence[str]) -> Self:
        """The evidence whose `tensors` these are, which anyone may have made.

        Args:
            tensors: the result of `tensors`.
            classes: of the images, C.
            scores: names of the OOD scores.

        Raises:
            InputError: they are missing, damaged or do not fit together.
        """
        predictive, surprises, joined = in_groups(tensors, ("predictive", "surprise", "joined"), _WHAT)
        n = joined["ood"].numel() if "ood" in joined else 0
        rows = dict.fromkeys(("mean", "median"), (n, classes))
        numbers = dict.fromkeys(("total", "aleatoric", "epistemic"), (n,))
        require(predictive, {**rows, **numbers}, torch.float32, _WHAT)
        require(surprises, dict.fromkeys(scores, (n,)), torch.float32, _WHAT)
        require(joined, dict.fromkeys(("ood", "novelty"), (n,)), torch.float32, _WHAT)
        return cls(Predictive(**predictive), surprises, joined["ood"], joined["novelty"])


_WHAT = "the numbers that are known of the calibration images"


def _probabilities(probs: Any) -> Tensor:
    """`probs` as (S, N, C) float32, checked."""
    drawn = floats(probs, "probabilities")
    drawn = drawn[None] if drawn.ndim == 2 else drawn
    if drawn.ndim != 3 or drawn.shape[0] == 0 or drawn.shape[2] < 2:
        raise InputError(
            "probabilities must be of shape (N, C) or (S, N, C), of at least 2 classes, not "
            f"{tuple(drawn.shape)}."
        )
    sums = drawn.sum(-1)
    if not ((drawn >= 0) & (drawn <= 1 + ROWS_SUM)).all() or not ((sums - 1).abs() <= ROWS_SUM).all():
        raise InputError("probabilities must lie between 0 and 1 and sum to 1 for every image, without NaN.")
    return drawn
