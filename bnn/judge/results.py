"""What a batch evaluation found: sets, decisions, and the numbers made of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn.decide import Prediction
from bnn.judge import metrics
from bnn.sources import Source


@dataclass(frozen=True)
class Judged:
    """A set of images and the decisions on them."""

    source: Source
    prediction: Prediction

    @property
    def labels(self) -> NDArray[np.int64]:
        """The true digits (N,) of a labelled set."""
        assert self.source.labels is not None  # noqa: S101
        return self.source.labels

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which images were answered, (N,)."""
        return self.prediction.labels >= 0


@dataclass(frozen=True)
class Rotation:
    """Decisions on the digit of `source` turned by `angles`, (K,) degrees."""

    source: str
    angles: NDArray[np.int64]
    prediction: Prediction


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        familiar: labelled digits.
        unfamiliar: sets that need not be digits.
        rotation: a digit turned by half a circle.
        settings: what was judged and how, plain values.
    """

    familiar: Judged
    unfamiliar: list[Judged]
    rotation: Rotation
    settings: Mapping[str, Any]

    @property
    def unreadable(self) -> list[dict[str, str]]:
        """Set, file and reason of every file that could not be used."""
        return [
            {"set": judged.source.name, "file": file, "why": why}
            for judged in (self.familiar, *self.unfamiliar)
            for file, why in judged.source.unreadable
        ]

    def numbers(self) -> dict[str, Any]:
        """The report as plain values: what `report.json` holds. `docs/metrics.md` defines each."""
        return {
            "familiar": self._familiar_numbers(),
            "unfamiliar": [self._unfamiliar_numbers(judged) for judged in self.unfamiliar],
            "settings": _plain(self.settings),
            "unreadable": self.unreadable,
        }

    def summary(self) -> str:
        """The report in a few sentences."""
        digits = self._familiar_numbers()
        sentences = [
            f"Of {digits['n']:,} digits ({digits['name']}) it answered {percent(digits['coverage'])}, "
            f"and {percent(digits['selective_risk'])} of those answers were wrong; made to answer every "
            f"digit, it would be wrong on {percent(1 - digits['accuracy'])}."
        ]
        for judged in self.unfamiliar:
            row = self._unfamiliar_numbers(judged)
            sentences.append(
                f"Of {row['n']:,} images that need not be digits ({row['name']}) "
                f"it refused {percent(row['refused'])}."
            )
        return " ".join(sentences)

    def _familiar_numbers(self) -> dict[str, Any]:
        prediction, labels = self.familiar.prediction, self.familiar.labels
        probs, answers = prediction.probs, prediction.labels
        return {
            "name": self.familiar.source.name,
            "n": len(labels),
            "accuracy": metrics.accuracy(probs, labels),
            "nll": metrics.nll(probs, labels),
            "ece": metrics.ece(probs, labels),
            "brier": metrics.brier(probs, labels),
            "aurc": metrics.aurc(probs.argmax(1) != labels, prediction.refusal_score),
            "coverage": metrics.coverage(answers),
            "selective_risk": metrics.selective_risk(answers, labels),
        }

    def _unfamiliar_numbers(self, judged: Judged) -> dict[str, Any]:
        scores = self.familiar.prediction.refusal_score, judged.prediction.refusal_score
        return {
            "name": judged.source.name,
            "n": len(judged.source),
            "refused": float((~judged.answered).mean()),
            "auroc": metrics.auroc(*scores),
            "fpr95": metrics.fpr95(*scores),
            "unreadable": len(judged.source.unreadable),
        }


def shown(number: float | None) -> str:
    """A number for people: four digits, or a dash where there is none."""
    return "–" if number is None else f"{number:.4g}"


def percent(share: float | None) -> str:
    """A share for people, such as 97.1 %."""
    return "none" if share is None else f"{100 * share:.3g} %"


def _plain(value: Any) -> Any:
    """`value` with every number that JSON cannot hold (NaN, infinite) as None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
