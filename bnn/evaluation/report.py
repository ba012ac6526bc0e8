"""The report of a batch evaluation as files: numbers, decisions, plots, and a page that holds them all."""

import base64
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from bnn.classifier import Prediction
from bnn.core.networks import NUM_CLASSES
from bnn.data.pictures import picture, png_url
from bnn.evaluation.plots import plots
from bnn.evaluation.results import Judged, Report
from bnn.evaluation.words import percent, percent_interval, shown, shown_interval, summary
from bnn.files import written_whole

THUMBNAILS = 12  # of each kind in the page
MEASURES = ("total", "aleatoric", "epistemic", "unfamiliarity", "refusal_score")
COLUMNS = (
    *("set", "source", "label", "decision", "reason"),
    *(f"p{digit}" for digit in range(NUM_CLASSES)),
    *MEASURES,
    "candidates",
)


def write_report(report: Report, out: Path) -> None:
    """Writes report.html, report.json, decisions.csv and the plots (SVG) to the folder `out`.

    Everything is made before anything is written, and each file is written whole or not at all.

    Raises:
        InputError: a file cannot be written.
    """
    drawn = plots(report)
    files = {f"{name}.svg": plot.svg for name, plot in drawn.items()}
    files["decisions.csv"] = _csv(report)
    files["report.html"] = _page(report, drawn)
    files["report.json"] = json.dumps(report.numbers, indent=2, allow_nan=False) + "\n"
    for name, text in files.items():
        with written_whole(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")


def _csv(report: Report) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for _, judged in report.sets:
        writer.writerows(_rows(judged))
    return text.getvalue()


def _rows(judged: Judged) -> Iterator[Sequence[object]]:
    prediction = judged.prediction
    for index, source in enumerate(judged.source.sources):
        numbers = (*prediction.probs[index], *(getattr(prediction, name)[index] for name in MEASURES))
        texts = [f"{number:.9g}" for number in numbers]  # enough for a float32 to come back the same
        yield (
            judged.source.name,
            source,
            "" if judged.source.labels is None else judged.source.labels[index],
            _decision(prediction, index),
            prediction.reasons[index],
            *texts,
            " ".join(map(str, prediction.candidates[index])),
        )


def _decision(prediction: Prediction, index: int) -> str:
    digit = int(prediction.labels[index])
    return str(digit) if digit >= 0 else "refused"


def _page(report: Report, drawn: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("bnn.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    filters = (shown, shown_interval, percent, percent_interval)
    environment.filters |= {"svg_uri": _svg_uri} | {one.__name__: one for one in filters}
    numbers = report.numbers
    return environment.get_template("report.html.j2").render(
        numbers,
        summary=summary(numbers),
        plots=drawn,
        settings_text=json.dumps(numbers["settings"], indent=2, ensure_ascii=False),
        wrong=_wrong(report.familiar),
        answered=[(judged.source.name, _thumbnails(judged, judged.answered)) for judged in report.unfamiliar],
    )


def _wrong(familiar: Judged) -> list[dict[str, str]]:
    wrong = familiar.answered & (familiar.prediction.labels != familiar.labels)
    return _thumbnails(familiar, wrong)


def _thumbnails(judged: Judged, which: NDArray[np.bool_]) -> list[dict[str, str]]:
    """The most confident of the images in `which` (N,) bool, ready for the page."""
    prediction, truth = judged.prediction, judged.source.labels
    confidence = prediction.probs.max(1)
    order = np.flatnonzero(which)[np.argsort(-confidence[which], kind="stable")]
    return [
        {
            "image": png_url(picture(judged.source.images[index, 0].numpy())),
            "source": judged.source.sources[index],
            "answer": str(prediction.labels[index]),
            "truth": "" if truth is None else str(truth[index]),
            "confidence": f"{confidence[index]:.3f}",
        }
        for index in order[:THUMBNAILS].tolist()
    ]


def _svg_uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
