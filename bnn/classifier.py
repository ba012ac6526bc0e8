"""The classifier: a checkpoint's ensemble and rule, from images to decisions."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnn.core import checkpoint as checkpoint_file
from bnn.core.checkpoint import Checkpoint
from bnn.core.ensemble import PredictiveEnsemble
from bnn.data.preprocess import Images, is_blank, prepare
from bnn.ood.familiarity import Evidence, Familiarity
from bnn.rules.abstention import AbstentionRule
from bnn.rules.conformal import candidate_threshold
from bnn.rules.promise import Wishes
from bnn.rules.thresholds import reasons, rule_from_dict
from bnn.stored import calibration_of, ensemble_of, familiarity_of

CANDIDATE_MISS = 0.001  # a candidate set misses the true digit of a digit image at most this often
Progress = Callable[[Sequence[Tensor]], Iterable[Tensor]]

CHUNK = 32  # images between two steps of a progress bar


@dataclass(frozen=True)
class Prediction:
    """Decisions on N images, as NumPy arrays.

    Attributes:
        labels: (N,) int64, the digit, or -1 where it refuses.
        reasons: (N,) "answered", "ambiguous" or "unfamiliar".
        probs: (N, 10) float32, the predictive mean over the draws.
        total, aleatoric, epistemic: (N,) float32 in nats; higher is less certain.
        unfamiliarity: (N,) float32, Fisher's statistic; higher is less like a digit.
        refusal_score: (N,) float32; higher is more reason to refuse.
        candidates: N tuples of digits still possible, likeliest first. For digits like the calibration
            digits, a tuple holds the true digit with probability at least 1 − `CANDIDATE_MISS`.
        blank: (N,) bool, whether nothing is drawn; such an image is always refused.
    """

    labels: NDArray[np.int64]
    reasons: NDArray[np.str_]
    probs: NDArray[np.float32]
    total: NDArray[np.float32]
    aleatoric: NDArray[np.float32]
    epistemic: NDArray[np.float32]
    unfamiliarity: NDArray[np.float32]
    refusal_score: NDArray[np.float32]
    candidates: list[tuple[int, ...]]
    blank: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    def plain(self) -> list[dict[str, Any]]:
        """The decisions one by one as plain values that JSON can hold; a refusal's label is None."""
        return [
            {
                "label": int(self.labels[i]) if self.labels[i] >= 0 else None,
                "reason": str(self.reasons[i]),
                "probs": self.probs[i].tolist(),
                "total": float(self.total[i]),
                "aleatoric": float(self.aleatoric[i]),
                "epistemic": float(self.epistemic[i]),
                "unfamiliarity": float(self.unfamiliarity[i]),
                "refusal_score": float(self.refusal_score[i]),
                "candidates": list(self.candidates[i]),
                "blank": bool(self.blank[i]),
            }
            for i in range(len(self))
        ]


class Classifier:
    """Answers with a digit or refuses with a reason; safe under threads.

    `predict` is all that most users need. It is `decide(evidence(x), is_blank(x))` of
    `x = prepare(images)`; each step can be had by itself.

    Args:
        checkpoint: what was trained.
        draws, seed: the ensemble's size and seed, where they should not be the checkpoint's.
        rule: the abstention rule, where it should not be the checkpoint's.

    Raises:
        InputError: the checkpoint's parts do not fit together, or `draws` or `seed` is out of its range.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        draws: int | None = None,
        seed: int | None = None,
        rule: AbstentionRule | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.rule = rule_from_dict(checkpoint.rule) if rule is None else rule
        self.seed = checkpoint.seed if seed is None else seed
        self.ensemble = ensemble_of(checkpoint, checkpoint.draws if draws is None else draws, self.seed)
        self.familiarity = familiarity_of(checkpoint)
        self.calibration = calibration_of(checkpoint)
        self._candidate_threshold = candidate_threshold(
            self.calibration.evidence.mean, self.calibration.labels, CANDIDATE_MISS
        )

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        draws: int | None = None,
        seed: int | None = None,
        rule: AbstentionRule | None = None,
    ) -> Self:
        """The classifier of the checkpoint at `path`, or of the one that ships; see the class.

        Raises:
            InputError: the file is missing, damaged or not a checkpoint.
        """
        return cls(checkpoint_file.load(path), draws=draws, seed=seed, rule=rule)

    @property
    def wishes(self) -> Wishes:
        """What the rule was fitted for; the defaults where it does not say."""
        said = self.rule.to_dict()
        return Wishes(**{f.name: said[f.name] for f in fields(Wishes) if f.name in said})

    def with_rule(self, rule: AbstentionRule) -> Self:
        """The same ensemble under another abstention rule; nothing is computed anew."""
        other = copy.copy(self)
        other.rule = rule
        return other

    def predict(self, images: Images) -> Prediction:
        """Decides on PIL images, paths or arrays, one or many; see `bnn.data.preprocess.prepare`.

        Raises:
            InputError: an image cannot be used.
        """
        prepared = prepare(images)
        return self.decide(self.evidence(prepared), is_blank(prepared))

    def evidence(self, prepared: Tensor, progress: Progress = iter) -> Evidence:
        """What is known of `prepared` images (N, 1, 28, 28) float32 in [0, 1].

        Args:
            prepared: to be judged.
            progress: goes through chunks of the images one by one, and may show how far it is.
        """
        if len(prepared) == 0:
            return self.evidence(prepared.new_zeros(1, *prepared.shape[1:]))[:0]
        return gather_evidence(self.ensemble, self.familiarity, prepared, progress)

    def decide(self, evidence: Evidence, blank: Tensor) -> Prediction:
        """Decisions on N images of which `blank` (N,) bool show nothing."""
        refused = self.rule.refuses(evidence) | blank
        why = np.where(blank, "unfamiliar", reasons(self.rule, evidence, refused))
        labels = self.rule.labels(evidence)
        return Prediction(
            labels=torch.where(refused, -1, labels).numpy(),
            reasons=why.astype(np.str_),
            probs=evidence.mean.numpy(),
            total=evidence.total.numpy(),
            aleatoric=evidence.aleatoric.numpy(),
            epistemic=evidence.epistemic.numpy(),
            unfamiliarity=evidence.unfamiliarity.numpy(),
            refusal_score=torch.where(blank, self.rule.highest_score, self.rule.score(evidence)).numpy(),
            candidates=[
                self._candidates(probs, label)
                for probs, label in zip(evidence.mean, labels.tolist(), strict=True)
            ],
            blank=blank.numpy(),
        )

    def _candidates(self, probs: Tensor, label: int) -> tuple[int, ...]:
        lowest = min(self._candidate_threshold, probs[label].item())  # the answer is always one of them
        order = probs.argsort(descending=True, stable=True)
        return tuple(order[: int((probs >= lowest).sum())].tolist())


def gather_evidence(
    ensemble: PredictiveEnsemble, familiarity: Familiarity, prepared: Tensor, progress: Progress
) -> Evidence:
    """As `Classifier.evidence`, of at least one image and before there is a classifier."""
    return Evidence.joined(
        [familiarity.evidence(chunk, ensemble.predictive(chunk)) for chunk in progress(prepared.split(CHUNK))]
    )
