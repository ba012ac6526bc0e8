"""The tab for many images: files and archives in; a table, galleries and downloads out."""

import json
from dataclasses import dataclass
from functools import cached_property, partial
from html import escape
from typing import Any, NamedTuple

import gradio as gr
from torch import Tensor

from bnn.app.examples import examples
from bnn.app.files import data_url, files_choice, sample_archive, uploaded
from bnn.app.strictness import ANNOUNCED, Promises, strictness_controls
from bnn.app.table import table, table_html
from bnn.app.uploads import Images, Unusable, read_files
from bnn.classifier import Classifier
from bnn.data.pictures import picture, png_url
from bnn.decisions import decisions_csv
from bnn.errors import InputError
from bnn.files import printable
from bnn.ood.detector import Progress
from bnn.prediction import Prediction

GROUPS = {
    "answered": "Answered",
    "ambiguous": "“I don't know”: ambiguous",
    "unfamiliar": "“I don't know”: unfamiliar",
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Decisions:
    """What was decided on many images.

    Attributes:
        names: of the files of the images that could be read.
        prediction: what was decided on these images.
        images: what the networks saw of each, (N, 1, 28, 28).
        unusable: the files that could not be read.
    """

    names: list[str]
    prediction: Prediction
    images: Tensor
    unusable: list[Unusable]

    @cached_property
    def rows(self) -> list[Row]:
        """For each image that could be read, its file's name and `Prediction.plain`."""
        return [
            {"file": name} | plain for name, plain in zip(self.names, self.prediction.plain(), strict=True)
        ]


class Shown(NamedTuple):
    """What the tab shows of decisions."""

    summary: str
    table: str
    gallery: str


def decisions(classifier: Classifier, read: Images, progress: Progress = iter) -> Decisions:
    """What `classifier` says of the images that were `read`; see `Classifier.evidence` for `progress`."""
    images = read.prepared.images
    prediction = classifier.decide(classifier.evidence(images, progress), read.prepared.quality)
    return Decisions(read.names, prediction, images, read.unusable)


def many_tab(classifier: Classifier, promises: Promises) -> None:
    """Lays the tab out where it is called, within a `gr.Blocks`."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=290):
            files = files_choice(sample_archive(examples()), elem_id="files")
        with gr.Column(min_width=290):
            risk, alpha = strictness_controls(promises, "many-")
    summary = gr.HTML(html_template=ANNOUNCED, elem_id="summary", js_on_load=None)
    rows = table(elem_id="table")
    gallery = gr.HTML(elem_id="gallery", js_on_load=None)

    def judge(
        value: Any,
        risk: str | None,
        alpha: str | None,
        bar: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Shown:
        try:
            given = uploaded(value)
            if not given:
                return Shown("", "", "")
            read = read_files(bar.tqdm(given, "Reading"))
        except InputError as error:
            raise gr.Error(f"Nothing was judged: {error}", print_exception=False) from error
        chosen = classifier.with_rule(promises.rule(risk, alpha))
        return shown(decisions(chosen, read, partial(bar.tqdm, desc="Judging")))

    gr.on(
        [files.input, risk.input, alpha.input],
        judge,
        [files, risk, alpha],
        [summary, rows, gallery],
        trigger_mode="always_last",
        show_progress_on=summary,
        concurrency_limit=1,
        concurrency_id="many",
        api_visibility="private",
    )


def shown(decided: Decisions) -> Shown:
    """`decided` as a sentence with downloads, a table, and galleries of what the networks saw."""
    return Shown(_summary(decided), table_html(map(_cells, decided.rows)), _gallery(decided))


def as_plain(decided: Decisions) -> dict[str, Any]:
    """`decided` as plain values: `images` with the fields of `Prediction.plain`, and `unreadable`."""
    unreadable = [{"file": one.name, "why": one.why} for one in decided.unusable]
    return {"images": decided.rows, "unreadable": unreadable}


def _summary(decided: Decisions) -> str:
    counts = {reason: sum(row["reason"] == reason for row in decided.rows) for reason in GROUPS}
    counted = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    parts = [f"<p><strong>Images judged: {len(decided.rows):,}</strong> ({counted})</p>"]
    if decided.rows:
        links = (
            _download(
                "decisions.csv", "text/csv", decisions_csv([({"file": decided.names}, decided.prediction)])
            ),
            _download("decisions.json", "application/json", json.dumps(as_plain(decided))),
        )
        parts.append(f'<p class="downloads">{"".join(links)}</p>')
    if decided.unusable:
        items = "".join(
            f"<li><code>{escape(printable(one.name))}</code>: {escape(printable(one.why))}</li>"
            for one in decided.unusable
        )
        count = len(decided.unusable)
        parts.append(
            f'<p>{count:,} file{"s" * (count > 1)} could not be used:</p><ul id="unusable">{items}</ul>'
        )
    return "".join(parts)


def _download(name: str, kind: str, text: str) -> str:
    """A link that holds the whole file, so that the server keeps none."""
    url = data_url(kind, text.encode())
    return f'<a class="download" download="{name}" href="{url}">Download {name}</a>'


def _cells(row: Row) -> list[str]:
    return [
        printable(row["file"]),
        _decision(row),
        row["reason"],
        f"{max(row['probs']):.4f}",
        f"{row['total']:.4f}",
        f"{row['ood_score']:.2f}",
        _candidates(row),
    ]


def _gallery(decided: Decisions) -> str:
    parts = []
    for reason, heading in GROUPS.items():
        chosen = [index for index, row in enumerate(decided.rows) if row["reason"] == reason]
        if chosen:
            figures = "".join(_figure(decided.rows[index], decided.images[index, 0]) for index in chosen)
            parts.append(f'<h2>{heading} ({len(chosen):,})</h2><div class="gallery {reason}">{figures}</div>')
    return "".join(parts)


def _figure(row: Row, image: Tensor) -> str:
    url = png_url(picture(image.numpy()))
    name, caption = escape(printable(row["file"])), _caption(row)
    return (
        f'<figure title="{name}"><img src="{url}" alt="{name}" width="56" height="56">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _caption(row: Row) -> str:
    if row["label"] is not None:
        return str(row["label"])
    if row["reason"] == "ambiguous" and len(row["candidates"]) <= 2:
        return _candidates(row, " or ")
    return row["quality"] or "?"


def _decision(row: Row) -> str:
    return "refused" if row["label"] is None else str(row["label"])


def _candidates(row: Row, between: str = " ") -> str:
    return between.join(map(str, row["candidates"]))
