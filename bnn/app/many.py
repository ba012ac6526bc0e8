"""The tab for many images: files and archives in; a table, galleries and downloads out."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
from torch import Tensor

from bnn.app.examples import examples
from bnn.app.files import data_url, files_choice, sample_archive, uploaded
from bnn.app.keeping import keep_controls, refusals
from bnn.app.sheets import Sheet, read_sheets, sheets_html
from bnn.app.strictness import ANNOUNCED, Promises, strictness_controls
from bnn.app.table import table, table_html
from bnn.app.uploads import Images, Unusable, read_files
from bnn.classifier import Classifier
from bnn.data.pictures import picture, png_url
from bnn.decisions import decisions_csv, digits_csv, plain_reading
from bnn.errors import InputError
from bnn.files import printable
from bnn.ood.detector import Progress
from bnn.prediction import Prediction
from bnn.review.entries import Refusal

if TYPE_CHECKING:
    from bnn.review.store import ReviewQueue

GROUPS = {
    "answered": "Answered",
    "ambiguous": "“I don't know”: ambiguous",
    "unfamiliar": "“I don't know”: unfamiliar",
}

MOST_ANSWER = 20_000_000  # characters of what the page shows and offers at once

Row = dict[str, Any]


@dataclass(frozen=True)
class Decisions:
    """What was decided on many images.

    Attributes:
        names: of the files of the images that could be read.
        prediction: what was decided on these images.
        images: what the networks saw of each, (N, 1, 28, 28).
        unusable: the files that could not be read.
        sheets: by number, the images of several digits that were read as such, too.
        unread: the files with several marks that could not be read as sheets, and why.
    """

    names: list[str]
    prediction: Prediction
    images: Tensor
    unusable: list[Unusable]
    sheets: Mapping[int, Sheet] = field(default_factory=dict)
    unread: list[Unusable] = field(default_factory=list)

    @cached_property
    def rows(self) -> list[Row]:
        """For each image that could be read, its file's name, `Prediction.plain`, and a sheet's `reading`."""
        rows = [
            {"file": name} | plain for name, plain in zip(self.names, self.prediction.plain(), strict=True)
        ]
        for index, sheet in self.sheets.items():
            rows[index]["reading"] = plain_reading(sheet.reading)
        return rows

    def of_reason(self, reason: str) -> list[int]:
        """The numbers of the images, sheets left out, that were decided on for that reason."""
        return [
            index
            for index, row in enumerate(self.rows)
            if row["reason"] == reason and index not in self.sheets
        ]

    def csv(self) -> str:
        """A line an image; where there are sheets, with what each of them reads."""
        reads = [
            self.sheets[index].reading.text if index in self.sheets else ""
            for index in range(len(self.names))
        ]
        columns = {"file": self.names} | ({"reads": reads} if self.sheets else {})
        return decisions_csv([(columns, self.prediction)])


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


def with_sheets(
    decided: Decisions, classifier: Classifier, several: Iterable[tuple[int, bytes]]
) -> Decisions:
    """`decided`, with those of `several` that are sheets read by `classifier`; see `Images.several`."""
    sheets, unread = read_sheets(classifier, several, decided.names)
    return replace(decided, sheets=sheets, unread=unread)


def many_tab(classifier: Classifier, promises: Promises, *, queue: "ReviewQueue | None" = None) -> None:
    """Lays the tab out where it is called, within a `gr.Blocks`; in a `queue` refusals may be kept."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=290):
            files = files_choice(sample_archive(examples()), elem_id="files")
        with gr.Column(min_width=290):
            risk, alpha = strictness_controls(promises, "many-", classifier.task.names)
    summary = gr.HTML(html_template=ANNOUNCED, elem_id="summary", js_on_load=None)

    def found(value: Any, risk: str | None, alpha: str | None) -> list[Refusal]:
        read = read_files(uploaded(value), classifier.task.layout)
        chosen = classifier.with_rule(promises.rule(risk, alpha))
        return refusals(chosen.predict(read.prepared), read.names, read.prepared)

    if queue is not None:
        keep_controls(queue, "Keep what was refused for review", "keep", [files, risk, alpha], found)
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
            read = read_files(bar.tqdm(given, "Reading"), classifier.task.layout)
        except InputError as error:
            raise gr.Error(f"Nothing was judged: {error}", print_exception=False) from error
        chosen = classifier.with_rule(promises.rule(risk, alpha))
        decided = decisions(chosen, read, partial(bar.tqdm, desc="Judging"))
        answer = shown(with_sheets(decided, chosen, bar.tqdm(list(read.several.items()), "Reading sheets")))
        if sum(map(len, answer)) > MOST_ANSWER:
            raise gr.Error("This is more than the page can show: upload it in parts.", print_exception=False)
        return answer

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
    cells = [
        _sheet_cells(row, decided.sheets[index]) if index in decided.sheets else _cells(row)
        for index, row in enumerate(decided.rows)
    ]
    return Shown(_summary(decided), table_html(cells), _gallery(decided))


def as_plain(decided: Decisions) -> dict[str, Any]:
    """`decided` as plain values: `images` with the fields of `Prediction.plain`, and `unreadable`."""
    unreadable = [{"file": one.name, "why": one.why} for one in decided.unusable]
    return {"images": decided.rows, "unreadable": unreadable}


def _summary(decided: Decisions) -> str:
    counts = [f"{len(decided.of_reason(reason)):,} {reason}" for reason in GROUPS]
    if decided.sheets:
        counts.append(f"{len(decided.sheets):,} read as sheets")
    counted = ", ".join(counts)
    parts = [f"<p><strong>Images judged: {len(decided.rows):,}</strong> ({counted})</p>"]
    if decided.rows:
        links = [
            _download("decisions.csv", "text/csv", decided.csv()),
            _download("decisions.json", "application/json", json.dumps(as_plain(decided))),
        ]
        if decided.sheets:
            readings = ((decided.names[index], sheet.reading) for index, sheet in decided.sheets.items())
            links.append(_download("digits.csv", "text/csv", digits_csv(readings)))
        parts.append(f'<p class="downloads">{"".join(links)}</p>')
    parts.append(_listed(decided.unusable, "could not be used", "unusable"))
    parts.append(_listed(decided.unread, "with several marks could not be read as a sheet", "unread"))
    return "".join(parts)


def _listed(files: list[Unusable], what: str, elem_id: str) -> str:
    """How many `files` there are of which `what` is said, and why; nothing where there are none."""
    if not files:
        return ""
    items = "".join(
        f"<li><code>{escape(printable(one.name))}</code>: {escape(printable(one.why))}</li>" for one in files
    )
    return f'<p>{len(files):,} file{"s" * (len(files) > 1)} {what}:</p><ul id="{elem_id}">{items}</ul>'


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


def _sheet_cells(row: Row, sheet: Sheet) -> list[str]:
    """A sheet's cells: of several digits there is no one probability."""
    return [printable(row["file"]), sheet.line, sheet.counted, *4 * ("",)]


def _gallery(decided: Decisions) -> str:
    parts = [sheets_html([(decided.names[index], sheet) for index, sheet in decided.sheets.items()])]
    for reason, heading in GROUPS.items():
        chosen = decided.of_reason(reason)
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
