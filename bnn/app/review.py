"""The tab on which people say what was refused: one image after another, by keys, mouse or finger."""

import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bnn.app.draw import spread_html
from bnn.app.files import data_url
from bnn.app.many import MOST_ANSWER
from bnn.app.strictness import ANNOUNCED, Promises
from bnn.classifier import Classifier
from bnn.core.task import DIGITS, are_digits
from bnn.data.pictures import png_url
from bnn.errors import InputError
from bnn.files import printable
from bnn.review.entries import DISPUTED, NO_DIGIT, OLDEST, Entry, Progress
from bnn.review.export import zipped

if TYPE_CHECKING:
    from bnn.review.store import ReviewQueue

SIDE = 336  # pixels of the image: twelve for each
_HERE = Path(__file__).parent
_TAKEN = "Somebody else had taken that image meanwhile, or it was deleted: nothing was changed."
_NOTHING = "Nothing waits for you here."


class Act(BaseModel):
    """What a reviewer does, as the page's script tells it.

    Attributes:
        act: "take" another image, "label", "skip" or "delete" the one that is shown, or "undo".
        reviewer: a token that a browser makes up.
        serial: the act's number, which is told back.
        order: of the images.
        number: of the image that is meant.
        label: which it gets.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    act: str = Field(pattern="^(take|label|skip|delete|undo)$")
    reviewer: str = Field(pattern="^[0-9a-f]{32}$")
    serial: int = Field(ge=0, lt=2**53)
    order: str = Field(pattern=f"^({DISPUTED}|{OLDEST})$")
    number: int = Field(0, ge=0, lt=2**31)
    label: int = NO_DIGIT


class Shown(NamedTuple):
    """What the tab shows, as HTML."""

    picture: str
    votes: str


def review_tab(classifier: Classifier, _: Promises, *, queue: "ReviewQueue") -> None:
    """Lays the tab out where it is called, within a `gr.Blocks`."""
    names = classifier.task.names
    with gr.Row(equal_height=False):
        with gr.Column(min_width=290):
            picture = gr.HTML(html_template=ANNOUNCED, elem_id="review-picture", js_on_load=None)
        with gr.Column(min_width=290):
            keys = gr.HTML(
                {},
                html_template=(_HERE / "review.html").read_text(encoding="utf-8"),
                js_on_load=(_HERE / "review.js").read_text(encoding="utf-8"),
                elem_id="review",
                names=list(names),
                digits=keys_of(names),
                none="No digit" if are_digits(names) else "None of these",
                none_label=NO_DIGIT,
            )
            votes = gr.HTML(elem_id="review-votes", js_on_load=None)
    with gr.Accordion("Export what was reviewed", open=False):
        prepare = gr.Button("Prepare the download", elem_id="review-prepare")
        download = gr.HTML(html_template=ANNOUNCED, elem_id="review-download", js_on_load=None)
    prepare.click(lambda: download_html(queue), None, download, concurrency_limit=1, api_visibility="private")
    keys.input(
        lambda value: acted(queue, value),
        keys,
        [picture, votes],
        trigger_mode="multiple",
        show_progress="hidden",
        concurrency_limit=None,
        api_visibility="private",
    )


def keys_of(names: tuple[str, ...]) -> list[str]:
    """The digit on the keyboard that names each class, or "".

    It is the one that a class is called by, where some class is called so; else its place, counted from 0.
    """
    if set(names) & set(DIGITS.names):
        return [name if name in DIGITS.names else "" for name in names]
    return [*DIGITS.names, *[""] * len(names)][: len(names)]


def acted(queue: "ReviewQueue", value: Any) -> Shown:
    """What the tab shows after an act, the `value` of the page's script: the next image, as a rule."""
    try:
        act = Act.model_validate(value)
    except ValidationError as error:
        raise gr.Error("This cannot be done here.", print_exception=False) from error
    try:
        entry, note = _done(queue, act)
        return shown(entry, queue.progress(), note, act.serial, queue.task.names)
    except InputError as error:
        return Shown(_picture_html(None, Progress(), f"Nothing was done: {error}", act.serial), "")


def shown(entry: Entry | None, progress: Progress, note: str, serial: int, names: tuple[str, ...]) -> Shown:
    """An image of the queue, how far the review is, and a `note` on what was done; see `Act` for `serial`."""
    votes = "" if entry is None else spread_html(entry.votes.astype("float32"), names)
    return Shown(_picture_html(entry, progress, note, serial), votes)


def download_html(queue: "ReviewQueue") -> str:
    """A link that holds the export as a zip archive, and what is in it."""
    try:
        reviewed = queue.reviewed()
    except InputError as error:
        raise gr.Error(f"Nothing was prepared: {error}", print_exception=False) from error
    if not reviewed:
        return "<p>Nothing has been reviewed yet.</p>"
    url = data_url("application/zip", zipped(reviewed, queue.task.names))
    if len(url) > MOST_ANSWER:
        raise gr.Error("This is more than the page can hold: use bnn review.", print_exception=False)
    none = sum(one.label == NO_DIGIT for one in reviewed)
    return (
        f"<p>{len(reviewed):,} images, {none:,} of them of none: folders and labels.csv.</p>"
        f'<a class="download" download="reviewed.zip" href="{url}">Download reviewed.zip</a>'
    )


def _done(queue: "ReviewQueue", act: Act) -> tuple[Entry | None, str]:
    """The image to show after an act, and a word on it where it failed."""
    done = True
    match act.act:
        case "label":
            done = queue.label(act.reviewer, act.number, act.label)
        case "skip":
            done = queue.skip(act.reviewer, act.number)
        case "delete":
            done = queue.delete(act.reviewer, act.number)
        case "undo":
            if back := queue.undo(act.reviewer, act.number):
                return back, ""
            done = False
    return queue.take(act.reviewer, act.order), "" if done else _TAKEN


def _picture_html(entry: Entry | None, progress: Progress, note: str, serial: int) -> str:
    number = "" if entry is None else str(entry.number)
    told = "" if not note else f'<p class="note">{escape(printable(note))}</p>'
    return (
        f'<div class="review" data-serial="{serial}" data-number="{number}">{_progress_html(progress)}'
        f"{told}{_nothing_html(progress) if entry is None else _entry_html(entry)}</div>"
    )


def _progress_html(progress: Progress) -> str:
    counted = f"{progress.reviewed:,} of {progress.together:,} reviewed"
    return (
        f'<p class="far"><progress aria-label="Reviewed" max="{max(progress.together, 1)}" '
        f'value="{progress.reviewed}"></progress> {counted}</p>'
    )


def _nothing_html(progress: Progress) -> str:
    held = f" {progress.looked_at:,} are with others." if progress.looked_at else ""
    return f'<p class="nothing"><strong>{_NOTHING}</strong>{held}</p>'


def _entry_html(entry: Entry) -> str:
    name = escape(printable(entry.name)) or "of no name"
    label = re.sub(r"\s+", " ", f"The image {name}, as the networks saw it")
    url = png_url(Image.fromarray(entry.image))
    return (
        f'<figure><img src="{url}" alt="{label}" width="{SIDE}" height="{SIDE}">'
        f'<figcaption><code>{name}</code></figcaption></figure><p class="why">{escape(entry.why)}</p>'
    )
