"""The report of a batch evaluation: numbers, decisions, plots, and a page that holds them all."""

import base64
import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from bnn.decide import Prediction
from bnn.files import written_whole
from bnn.judge import metrics
from bnn.networks import NUM_CLASSES
from bnn.sources import Source

THUMBNAILS = 12  # of each kind in the page
COLUMNS = (
    *("set", "source", "label", "decision", "reason"),
    *(f"p{digit}" for digit in range(NUM_CLASSES)),
    *("total", "aleatoric", "epistemic", "refusal_score", "candidates"),
)


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


def write_report(report: Report, out: Path) -> None:
    """Writes report.html, report.json, decisions.csv and the plots (SVG) to the folder `out`.

    Everything is made before anything is written, and each file is written whole or not at all.

    Raises:
        InputError: a file cannot be written.
    """
    from bnn.judge.plots import plots  # here, as matplotlib is slow to import

    drawn = plots(report)
    files = {f"{name}.svg": plot.svg for name, plot in drawn.items()}
    files["decisions.csv"] = _csv(report)
    files["report.html"] = _page(report, drawn)
    files["report.json"] = json.dumps(report.numbers(), indent=2, allow_nan=False) + "\n"
    for name, text in files.items():
        with written_whole(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")


def shown(number: float | None) -> str:
    """A number for people: four digits, or a dash where there is none."""
    return "–" if number is None else f"{number:.4g}"


def percent(share: float | None) -> str:
    """A share for people, such as 97.1 %."""
    return "none" if share is None else f"{100 * share:.3g} %"


def _csv(report: Report) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for judged in (report.familiar, *report.unfamiliar):
        writer.writerows(_rows(judged))
    return text.getvalue()


def _rows(judged: Judged) -> Iterator[Sequence[object]]:
    prediction = judged.prediction
    for index, source in enumerate(judged.source.sources):
        measures = (prediction.total, prediction.aleatoric, prediction.epistemic, prediction.refusal_score)
        numbers = (*prediction.probs[index], *(measure[index] for measure in measures))
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
        loader=PackageLoader("bnn.judge", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"shown": shown, "percent": percent, "svg_uri": _svg_uri}
    numbers = report.numbers()
    return environment.get_template("report.html.j2").render(
        numbers,
        summary=report.summary(),
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
            "image": _png_uri(judged.source.images[index, 0].numpy()),
            "source": judged.source.sources[index],
            "answer": str(prediction.labels[index]),
            "truth": "" if truth is None else str(truth[index]),
            "confidence": f"{confidence[index]:.3f}",
        }
        for index in order[:THUMBNAILS].tolist()
    ]


def _png_uri(pixels: NDArray[np.float32]) -> str:
    png = io.BytesIO()
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(png, "PNG")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"


def _svg_uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _plain(value: Any) -> Any:
    """`value` with every number that JSON cannot hold (NaN, infinite) as None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
