"""The report of a batch evaluation as files: numbers, decisions, plots, and a page that holds them all."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from bnn.data.pictures import picture, png_url
from bnn.decisions import decisions_csv
from bnn.evaluation.plots import plots
from bnn.evaluation.results import Judged, Report
from bnn.evaluation.words import noun, summary
from bnn.files import written_whole
from bnn.numerals import percent, percent_interval, shown, shown_interval

THUMBNAILS = 12  # of each kind in the page


def write_report(report: Report, out: Path) -> None:
    """Writes report.html, report.json, decisions.csv and the plots (SVG) to the folder `out`.

    Everything is made before anything is written, and each file is written whole or not at all.

    Raises:
        InputError: a file cannot be written.
    """
    drawn = plots(report)
    files = {f"{name}.svg": plot.svg for name, plot in drawn.items()}
    files["decisions.csv"] = decisions_csv((_columns(one), one.prediction) for _, one in report.sets)
    files["report.html"] = _page(report, drawn)
    files["report.json"] = json.dumps(report.numbers, indent=2, allow_nan=False) + "\n"
    for name, text in files.items():
        with written_whole(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")


def _columns(judged: Judged) -> dict[str, Sequence[object]]:
    images = judged.images
    labels = [""] * len(images) if images.labels is None else images.labels.tolist()
    return {"set": [images.name] * len(images), "source": images.sources, "label": labels}


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
        noun=noun(numbers),
        plots=drawn,
        settings_text=json.dumps(numbers["settings"], indent=2, ensure_ascii=False),
        wrong=_wrong(report.in_distribution),
        answered=[
            (judged.images.name, _thumbnails(judged, judged.answered))
            for judged in report.out_of_distribution
        ],
    )


def _wrong(in_distribution: Judged) -> list[dict[str, str]]:
    wrong = in_distribution.answered & (in_distribution.prediction.labels != in_distribution.labels)
    return _thumbnails(in_distribution, wrong)


def _thumbnails(judged: Judged, which: NDArray[np.bool_]) -> list[dict[str, str]]:
    """The most confident of the images in `which` (N,) bool, ready for the page."""
    prediction, truth = judged.prediction, judged.images.labels
    confidence = prediction.probs.max(1)
    order = np.flatnonzero(which)[np.argsort(-confidence[which], kind="stable")]
    return [
        {
            "image": png_url(picture(judged.images.images[index, 0].numpy())),
            "source": judged.images.sources[index],
            "answer": prediction.decision(index),
            "truth": "" if truth is None else prediction.names[int(truth[index])],
            "confidence": f"{confidence[index]:.3f}",
        }
        for index in order[:THUMBNAILS].tolist()
    ]


def _svg_uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
