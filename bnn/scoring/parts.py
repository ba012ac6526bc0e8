"""Part files: the decisions on a chunk of images, as Parquet, a row an image."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bnn.classifier import Classifier
from bnn.data.preprocess import Prepared, read_images
from bnn.data.sources import LOOSE, Item, image_of, items
from bnn.errors import InputError
from bnn.files import printable, written_whole
from bnn.prediction import MEASURES, REASONS, Prediction
from bnn.scoring.plan import Chunk

UNREADABLE = "unreadable"
OUTCOMES = (*REASONS, UNREADABLE)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # the source, and the member or row in it
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),  # with the source it is an image's own
        pa.field("reason", pa.string(), nullable=False),  # one of `OUTCOMES`
        ("decision", pa.string()),  # the name of the class; null where there is no answer
        ("label", pa.int16()),
        ("quality", pa.string()),
        ("why", pa.string()),  # it is unreadable
        ("probability", pa.float32()),  # of the likeliest class
        *((measure, pa.float32()) for measure in MEASURES),
        ("draws_used", pa.int32()),
    ]
)
_COUNTS = b"bnn.outcomes"  # in a part's metadata: how many rows have each outcome
Row = dict[str, Any]


def counted_in(chunk: Chunk, out: Path) -> Mapping[str, int] | None:
    """How many rows of each outcome the part of `chunk` has; None where it is not there whole."""
    path = chunk.part_in(out)
    if not path.exists():
        return None
    try:
        told = pq.read_metadata(path)
        counts = json.loads((told.metadata or {})[_COUNTS])
    except (ValueError, LookupError, RecursionError, OSError):  # as pyarrow raises of a damaged one, too
        return None
    return counts if told.num_rows == chunk.rows else None


def write_part(classifier: Classifier, draws: str, chunk: Chunk, size: int, out: Path) -> Mapping[str, int]:
    """Decides on the images of `chunk`, writes its part under `out`, and counts the rows of each outcome.

    Args:
        classifier: decides.
        draws: see `Classifier.predict`.
        chunk: of a plan whose chunks have `size` rows.
        size: see `chunk`.
        out: the run's folder.

    Raises:
        InputError: the part cannot be written.
        OSError: a source cannot be reached.
    """
    rows = _rows(classifier, draws, chunk, size)
    found = Counter(row["reason"] for row in rows)
    counts = {outcome: found[outcome] for outcome in OUTCOMES}
    schema = SCHEMA.with_metadata({_COUNTS: json.dumps(counts)})
    with written_whole(chunk.part_in(out)) as staged:
        pq.write_table(pa.Table.from_pylist(rows, schema), staged, compression="zstd")
    return counts


def _rows(classifier: Classifier, draws: str, chunk: Chunk, size: int) -> list[Row]:
    rows: list[Row] = []
    usable: list[Row] = []
    read: list[Prepared] = []
    for row, item in _items(chunk, size):
        rows.append(row)
        try:
            read.append(read_images(image_of(item), classifier.task.layout))
        except InputError as error:
            row |= {"reason": UNREADABLE, "why": str(error)}
        else:
            usable.append(row)
    # All at once: of many, those that need more draws fill a block together.
    decided = _columns(classifier.predict(Prepared.joined(read), draws=draws))
    for row, values in zip(usable, zip(*decided.values(), strict=True), strict=True):
        row |= dict(zip(decided, values, strict=True))
    return rows


def _columns(prediction: Prediction) -> dict[str, list[Any]]:
    """What a part tells of each decision, by column."""
    labels = [label if label >= 0 else None for label in prediction.labels.tolist()]
    used = prediction.draws_used
    return {
        "reason": prediction.reasons.tolist(),
        "decision": [None if label is None else prediction.names[label] for label in labels],
        "label": labels,
        "quality": prediction.quality.tolist(),
        "probability": prediction.probs.max(1).tolist(),
        "draws_used": [None] * len(labels) if used is None else used.tolist(),
        **{measure: getattr(prediction, measure).tolist() for measure in MEASURES},
    }


def _items(chunk: Chunk, size: int) -> Iterator[tuple[Row, Item]]:
    """Each image of `chunk`, with the start of its row."""
    for source in chunk.sources:
        alone = source.kind == LOOSE
        start, stop = (0, 1) if alone else (chunk.start, chunk.stop)
        place = printable(source.place)
        for number, item in enumerate(items(source, start, stop, size), start):
            yield {"id": place + item.name, "source": place, "row": number}, item
