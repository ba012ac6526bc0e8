"""Keeping refused images for review: only what a visitor, or a program, asks to have kept."""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from bnn.app.strictness import ANNOUNCED
from bnn.app.words import verdict
from bnn.core.networks import IMAGE_SIZE
from bnn.data.preprocess import Prepared
from bnn.data.quality import BLANK, SEVERAL
from bnn.errors import InputError
from bnn.prediction import Prediction
from bnn.review.entries import Added, Refusal

if TYPE_CHECKING:
    from bnn.review.store import ReviewQueue

_NO_ONE_DIGIT = (BLANK, SEVERAL)  # of which nobody could say which digit they are
_DAY = 86400.0  # seconds
FULL = "The queue is full: review what is in it, export it, and have it deleted."


def refusals(prediction: Prediction, names: Sequence[str], prepared: Prepared) -> list[Refusal]:
    """Those of the images that are refused, but for the blank and those of several digits.

    Args:
        prediction: of them, with the votes of all draws.
        names: of the images' files.
        prepared: the images.
    """
    return list(_refusals(prediction, names, prepared))


def keep_controls(
    queue: "ReviewQueue",
    button: str,
    elem_id: str,
    inputs: Sequence[Any],
    found: Callable[..., list[Refusal]],
) -> None:
    """Lays out a button that keeps what was refused, and below it what is kept, and for how long.

    Args:
        queue: where it is kept.
        button: what the button says.
        elem_id: of the place that says what was done.
        inputs: components with what is on the page.
        found: the images to be kept, of the values of `inputs`.
    """

    def keep(*values: Any) -> str:
        try:
            return kept_html(queue.add(found(*values)))
        except InputError as error:
            raise gr.Error(f"Nothing was kept: {error}", print_exception=False) from error

    with gr.Column(elem_classes="keep"):
        press = gr.Button(button, elem_id=f"{elem_id}-button")
        gr.HTML(f'<p class="small-print">{escape(_terms(queue.retention))}</p>', js_on_load=None)
        said = gr.HTML(html_template=ANNOUNCED, elem_id=elem_id, js_on_load=None)
    press.click(
        keep,
        [*inputs],
        said,
        trigger_mode="multiple",  # where an answer was lost, pressing again helps
        show_progress_on=said,
        concurrency_limit=1,
        concurrency_id="many",
        api_visibility="private",
    )


def kept_html(added: Added) -> str:
    """What became of images that were to be kept, as HTML."""
    if not added.added + added.known + added.left_out:
        return "<p>Nothing here was refused that a person could name, so nothing was kept.</p>"
    parts = [f"Kept for review: {added.added:,}."]
    if added.known:
        parts.append(f"There already: {added.known:,}.")
    if added.left_out:
        parts.append(f"Not kept: {added.left_out:,}. {FULL}")
    return f"<p>{' '.join(parts)}</p>"


def _terms(retention: float | None) -> str:
    most = "" if retention is None else f", for {retention / _DAY:g} days at most"
    return (
        f"Kept are the {IMAGE_SIZE}×{IMAGE_SIZE} pixels that the networks saw, their votes and the file's "
        f"name, until they are deleted{most}. Whoever can open this page can see them under Review."
    )


def _refusals(prediction: Prediction, names: Sequence[str], prepared: Prepared) -> Iterator[Refusal]:
    assert prediction.votes is not None  # noqa: S101  # as they are where all draws are asked
    for index, name in enumerate(names):
        one = prediction[index]
        quality = str(one.quality[0])
        if one.labels[0] >= 0 or quality in _NO_ONE_DIGIT:
            continue
        yield Refusal(
            name,
            (prepared.images[index, 0].numpy() * 255).round().astype(np.uint8),
            prediction.votes[:, index].astype(np.float16),
            float(one.epistemic[0]),
            str(one.reasons[0]),
            quality,
            verdict(one)[1],
        )
