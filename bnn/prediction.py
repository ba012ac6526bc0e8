"""Decisions on images, as NumPy arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bnn.core.rows import chosen_rows
from bnn.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("total", "aleatoric", "epistemic", "ood_score", "refusal_score")
SHOWN = 10  # images that `repr` lists


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """Decisions on N images, as NumPy arrays.

    It has a length, can be indexed and sliced (`p[0]`, `p[:3]`, `p[p.labels == 4]`), iterated, and shown.

    Attributes:
        labels: (N,) int64, the class, or -1 where it refuses.
        reasons: (N,) "answered", "ambiguous" or "unfamiliar".
        probs: (N, C) float32, the predictive mean over the draws.
        total, aleatoric, epistemic: (N,) float32 in nats; higher is less certain.
        ood_score: (N,) float32, the joined OOD score; higher is more out-of-distribution.
        refusal_score: (N,) float32; higher is more reason to refuse.
        candidates: N tuples of classes still possible, likeliest first. For images like the calibration
            images, a tuple holds the true class with probability 1 − `bnn.classifier.CANDIDATE_MISS` or more.
        quality: (N,) str, what is wrong with the picture, a word of `bnn.data.quality.QUALITIES`, for which
            it is refused as unfamiliar, whatever the rule says; or what an OOD score says of one that the
            rule refuses for it alone, such as "mirrored or turned?"; else "".
        names: of the C classes.
        votes: (S, N, C) float32, each draw's probabilities; None where only the decisions were asked for.
        draws_used: (N,) int64, how many draws the `probs`, measures and `candidates` of an image rest on;
            None where that is not known.

    Example:
        >>> import bnn
        >>> p = bnn.Classifier.load(draws=10).predict("docs/four.png")
        >>> p
        Prediction of 1 image: 1 answered, 0 ambiguous, 0 unfamiliar
          [0] 4 (answered, probability 1.000)
    """

    labels: NDArray[np.int64]
    reasons: NDArray[np.str_]
    probs: NDArray[np.float32]
    total: NDArray[np.float32]
    aleatoric: NDArray[np.float32]
    epistemic: NDArray[np.float32]
    ood_score: NDArray[np.float32]
    refusal_score: NDArray[np.float32]
    candidates: Sequence[tuple[int, ...]]
    quality: NDArray[np.str_]
    names: tuple[str, ...]
    votes: NDArray[np.float32] | None = field(default=None)
    draws_used: NDArray[np.int64] | None = field(default=None)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> "Prediction":
        chosen = chosen_rows(len(self), index)
        values = {name: getattr(self, name)[chosen] for name in _ARRAYS}
        votes = None if self.votes is None else self.votes[:, chosen]
        used = None if self.draws_used is None else self.draws_used[chosen]
        candidates = [self.candidates[i] for i in chosen.tolist()]
        return replace(self, **values, candidates=candidates, votes=votes, draws_used=used)

    def __iter__(self) -> Iterator["Prediction"]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        counts = {reason: int((self.reasons == reason).sum()) for reason in REASONS}
        counted = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
        lines = [f"Prediction of {len(self):,} image{'s' * (len(self) != 1)}: {counted}"]
        for i in range(min(len(self), SHOWN)):
            answer = self.decision(i)
            why = f"{self.reasons[i]}: {self.quality[i]}" if self.quality[i] else self.reasons[i]
            lines.append(f"  [{i}] {answer} ({why}, probability {self.probs[i].max():.3f})")
        return "\n".join([*lines, *["  …"] * (len(self) > SHOWN)])

    def decision(self, index: int) -> str:
        """The name of the class that an image is answered with, or "refused"."""
        label = int(self.labels[index])
        return self.names[label] if label >= 0 else "refused"

    def plain(self) -> list[dict[str, Any]]:
        """The decisions one by one as plain values that JSON can hold; a refusal's label is None."""
        return [
            {
                "label": int(self.labels[i]) if self.labels[i] >= 0 else None,
                "reason": str(self.reasons[i]),
                "probs": self.probs[i].tolist(),
                **{name: float(getattr(self, name)[i]) for name in MEASURES},
                "candidates": list(self.candidates[i]),
                "quality": str(self.quality[i]),
            }
            for i in range(len(self))
        ]

    def to_pandas(self) -> "pd.DataFrame":
        """A row an image: decision, reason, quality, a column of probabilities for each class, the measures.

        Raises:
            InputError: pandas is not installed.

        Example:
            >>> import bnn
            >>> bnn.Classifier.load(draws=10).predict("docs/four.png").to_pandas()[["decision", "reason"]]
              decision    reason
            0        4  answered
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise InputError("pandas is not installed: get it by `pip install pandas`.") from error
        decisions = {
            "decision": [self.decision(i) for i in range(len(self))],
            "reason": self.reasons,
            "quality": self.quality,
        }
        probs = {f"p_{name}": self.probs[:, label] for label, name in enumerate(self.names)}
        measures = {name: getattr(self, name) for name in MEASURES}
        return pd.DataFrame(decisions | probs | measures | {"candidates": list(self.candidates)})


REASONS = ("answered", "ambiguous", "unfamiliar")
_OTHERS = ("candidates", "names", "votes", "draws_used")
_ARRAYS = tuple(f.name for f in fields(Prediction) if f.name not in _OTHERS)
