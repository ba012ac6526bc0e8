"""Decisions on many images, and the digits of pictures, as CSV: the one writer, for commands and the page."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bnn.prediction import MEASURES, Prediction
from bnn.reading import Reading

Named = Mapping[str, Sequence[object]]  # further columns by name, a value an image
SIDES = ("left", "top", "right", "bottom")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what starts one (OWASP, "CSV injection")
_DIGIT_HEADS = ("file", "row", "position", *SIDES, "decision", "reason", "probability", "candidates")


def decisions_csv(sets: Iterable[tuple[Named, Prediction]]) -> str:
    """A line an image, after a line of heads: the further columns, then what was decided and why.

    Lines end as RFC 4180 has it, so that names with either character of a line's end are quoted. Numbers
    have nine digits, enough for a float32 to come back the same.

    Args:
        sets: further columns and decisions, all with the same columns and classes, at least one.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    for index, (columns, prediction) in enumerate(sets):
        if index == 0:
            probs = [f"p_{name}" for name in prediction.names]
            writer.writerow([*columns, "decision", "reason", "quality", *probs, *MEASURES, "candidates"])
        writer.writerows(_rows(columns, prediction))
    return text.getvalue()


def digits_csv(readings: Iterable[tuple[str, Reading]]) -> str:
    """A line a digit, after a line of heads: its file, row and position, its place, what was decided and why.

    Args:
        readings: of pictures, each with the name of its file.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_DIGIT_HEADS)
    writer.writerows(line for name, reading in readings for line in _digits(name, reading))
    return text.getvalue()


def plain_reading(reading: Reading) -> dict[str, Any]:
    """`reading` as plain values, fit for JSON."""
    return {
        "number": reading.number,
        "reason": reading.reason,
        "numbers": reading.numbers,
        "text": reading.text,
        "promise": reading.promise,
        "rows": [[asdict(mark) for mark in row] for row in reading.rows],
    }


def _digits(name: str, reading: Reading) -> Iterator[Sequence[object]]:
    for number, row in enumerate(reading.rows, 1):
        for position, mark in enumerate(row, 1):
            decision, candidates = mark.answer or "refused", " ".join(mark.candidates)
            place = (as_text(name), number, position, *mark.box)
            yield (*place, decision, mark.reason, f"{mark.probability:.9g}", candidates)


def as_text(value: object) -> object:
    """`value`, such as a file's name, as a spreadsheet takes it for text, and for no formula: quoted by '."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _rows(columns: Named, prediction: Prediction) -> Iterator[Sequence[object]]:
    for index in range(len(prediction)):
        numbers = (*prediction.probs[index], *(getattr(prediction, name)[index] for name in MEASURES))
        yield (
            *(as_text(values[index]) for values in columns.values()),
            prediction.decision(index),
            prediction.reasons[index],
            prediction.quality[index],
            *(f"{number:.9g}" for number in numbers),
            " ".join(prediction.names[label] for label in prediction.candidates[index]),
        )
