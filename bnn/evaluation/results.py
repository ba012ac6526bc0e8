"""What an evaluation found: sets with their decisions, and the numbers made of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn.classifier import Prediction
from bnn.data.imageset import Source
from bnn.evaluation.numbers import answer_numbers, elsewhere_numbers, familiar_numbers, unfamiliar_numbers
from bnn.evaluation.resplits import Resplits
from bnn.evaluation.robustness import Cell


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
        elsewhere: labelled digits from other sources than those that were learnt.
        rotation: a digit turned by half a circle.
        robustness: some of the familiar digits, spoilt; may be empty.
        resplits: how the calibrated rule keeps its promises on the familiar digits; None for other rules.
        settings: what was judged and how, plain values.
    """

    familiar: Judged
    unfamiliar: Sequence[Judged]
    elsewhere: Sequence[Judged]
    rotation: Rotation
    robustness: Sequence[Cell]
    resplits: Resplits | None
    settings: Mapping[str, Any]

    @property
    def sets(self) -> list[tuple[str, Judged]]:
        """Every set after what it is: "familiar", "unfamiliar" or "elsewhere"."""
        unfamiliar = [("unfamiliar", judged) for judged in self.unfamiliar]
        return [("familiar", self.familiar), *unfamiliar, *(("elsewhere", one) for one in self.elsewhere)]

    @property
    def unreadable(self) -> list[dict[str, str]]:
        """Set, file and reason of every file that could not be used."""
        return [
            {"set": judged.source.name, "file": file, "why": why}
            for _, judged in self.sets
            for file, why in judged.source.unreadable
        ]

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The report as plain values: what `report.json` holds. `docs/metrics.md` defines each."""
        digits = self.familiar
        return {
            "familiar": {"name": digits.source.name} | familiar_numbers(digits.prediction, digits.labels),
            "unfamiliar": [
                _named(one, unfamiliar_numbers(digits.prediction, one.prediction)) for one in self.unfamiliar
            ],
            "elsewhere": [
                _named(one, elsewhere_numbers(one.prediction, one.labels)) for one in self.elsewhere
            ],
            "robustness": [_row(cell) for cell in self.robustness],
            "resplits": None if self.resplits is None else self.resplits.numbers(),
            "settings": _plain(self.settings),
            "unreadable": self.unreadable,
        }


def _named(judged: Judged, numbers: dict[str, Any]) -> dict[str, Any]:
    return {"name": judged.source.name} | numbers | {"unreadable": len(judged.source.unreadable)}


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
