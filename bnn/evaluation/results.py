"""What an evaluation found: sets with their decisions, and the numbers made of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn.data.imageset import ImageSet
from bnn.evaluation.numbers import (
    answer_numbers,
    answered_by_kind,
    in_distribution_numbers,
    out_of_distribution_numbers,
    refused_by_kind,
    shifted_numbers,
)
from bnn.evaluation.resplits import Resplits
from bnn.evaluation.robustness import Cell
from bnn.prediction import Prediction


@dataclass(frozen=True)
class Judged:
    """A set of images and the decisions on them."""

    images: ImageSet
    prediction: Prediction

    @property
    def labels(self) -> NDArray[np.int64]:
        """The true classes (N,) of a labelled set."""
        labels: NDArray[np.int64] = self.images.truth().numpy()
        return labels

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
        in_distribution: labelled images like those that were learnt.
        out_of_distribution: sets that need not show any class.
        shifted: labelled sets of the same classes from other sources.
        rotation: a digit turned by half a circle.
        robustness: some of the in-distribution images, corrupted; may be empty.
        resplits: how the calibrated rule keeps its promises on the in-distribution images; None for others.
        settings: what was judged and how, plain values.

    Example:
        >>> import bnn
        >>> digits = bnn.ImageSet.from_name("digits", limit=20)
        >>> report = bnn.evaluate(bnn.Classifier.load(draws=5), digits, robustness=0)
        >>> report.in_distribution.images
        ImageSet 'digits': 20 images, labelled
        >>> report.numbers["in_distribution"]["n"]
        20
    """

    in_distribution: Judged
    out_of_distribution: Sequence[Judged]
    shifted: Sequence[Judged]
    rotation: Rotation
    robustness: Sequence[Cell]
    resplits: Resplits | None
    settings: Mapping[str, Any]

    @property
    def sets(self) -> list[tuple[str, Judged]]:
        """Every set after what it is: "in_distribution", "out_of_distribution" or "shifted"."""
        out_of_distribution = [("out_of_distribution", judged) for judged in self.out_of_distribution]
        return [
            ("in_distribution", self.in_distribution),
            *out_of_distribution,
            *(("shifted", one) for one in self.shifted),
        ]

    @property
    def unreadable(self) -> list[dict[str, str]]:
        """Set, file and reason of every file that could not be used."""
        return [
            {"set": judged.images.name, "file": file, "why": why}
            for _, judged in self.sets
            for file, why in judged.images.unreadable
        ]

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The report as plain values: what `report.json` holds. `docs/metrics.md` defines each."""
        digits = self.in_distribution
        names = digits.prediction.names
        kinds = [names[label] for label in digits.labels.tolist()]
        return {
            "classes": list(names),
            "in_distribution": {"name": digits.images.name}
            | in_distribution_numbers(digits.prediction, digits.labels)
            | {"by_class": answered_by_kind(kinds, digits.prediction, digits.labels)},
            "out_of_distribution": [
                _named(one, out_of_distribution_numbers(digits.prediction, one.prediction))
                | {"kinds": refused_by_kind(one.images.kinds, one.prediction)}
                for one in self.out_of_distribution
            ],
            "shifted": [
                _named(one, shifted_numbers(one.prediction, one.labels))
                | {"kinds": answered_by_kind(one.images.kinds, one.prediction, one.labels)}
                for one in self.shifted
            ],
            "robustness": [_row(cell) for cell in self.robustness],
            "resplits": None if self.resplits is None else self.resplits.numbers(),
            "settings": _plain(self.settings),
            "unreadable": self.unreadable,
        }


def _named(judged: Judged, numbers: dict[str, Any]) -> dict[str, Any]:
    return {"name": judged.images.name} | numbers | {"unreadable": len(judged.images.unreadable)}


def _row(cell: Cell) -> dict[str, Any]:
    where = {"corruption": cell.corruption, "strength": cell.strength, "amount": cell.amount}
    return where | answer_numbers(cell.prediction, cell.labels)


def _plain(value: Any) -> Any:
    """`value` with every number that JSON cannot hold (NaN, infinite) as None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
