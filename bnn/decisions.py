"""Decisions on many images as CSV: the one writer, for reports and for the page."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bnn.prediction import MEASURES, Prediction

Named = Mapping[str, Sequence[object]]  # further columns by name, a value an image


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


def _rows(columns: Named, prediction: Prediction) -> Iterator[Sequence[object]]:
    for index in range(len(prediction)):
        numbers = (*prediction.probs[index], *(getattr(prediction, name)[index] for name in MEASURES))
        yield (
            *(values[index] for values in columns.values()),
            prediction.decision(index),
            prediction.reasons[index],
            prediction.quality[index],
            *(f"{number:.9g}" for number in numbers),
            " ".join(prediction.names[label] for label in prediction.candidates[index]),
        )
