"""The tab to draw on: the pad, things to try, and what the ensemble says after every stroke."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
import numpy as np
import torch
from PIL import Image, ImageOps

from bnn.adaptive import settled_after
from bnn.app.drawings import Floats, ensemble_svg, seen_svg, vote_counts
from bnn.app.examples import SAMPLE, Example, examples
from bnn.app.gauges import gauges, gauges_html
from bnn.app.incoming import incoming_html, settled_words
from bnn.app.keeping import keep_controls, refusals
from bnn.app.pad import drawing, pad
from bnn.app.strictness import ANNOUNCED, Promises, strictness_controls
from bnn.app.words import reading_html, verdict_html
from bnn.classifier import Classifier
from bnn.core.ensemble import summary
from bnn.core.networks import IMAGE_SIZE
from bnn.core.task import are_digits, worded
from bnn.data.ink import find_ink
from bnn.data.own import BRIGHT
from bnn.data.pen import render
from bnn.data.pictures import png_url
from bnn.data.preprocess import AS_IS, INK, Prepared, brightness_of, prepared_ink, read_images
from bnn.data.quality import BLANK, SEVERAL
from bnn.data.steps import Step, steps
from bnn.errors import InputError
from bnn.explanation import explained
from bnn.ood.score import Observed
from bnn.reading import read as read_digits
from bnn.review.entries import Refusal

if TYPE_CHECKING:
    from bnn.review.store import ReviewQueue

DRAWS = (10, 25, 50, 100)  # sizes of the ensemble that are offered
AT_ONCE = 2  # drawings judged at a time
_STEP = 160  # pixels of the side of a step from the drawing to what the networks see
_COLUMNS = "One column is one network: as tall as it finds the digit likely, pale where it votes for another."
_HONESTLY = (
    "It refuses about seven in ten of the letters and nine in ten of the doodles drawn on the pad, and a 1 "
    "with a large flag."
)
_MARKS = {-1.0: "; orange: too much", 0.0: "", 1.0: "; blue: missing"}  # by the sign of a change
_SHOW_ON_PAD = """
element.addEventListener("click", (event) => {
    const chosen = event.target.closest("button")?.querySelector("img");
    const pad = document.querySelector("#pad canvas");
    if (!chosen) return;
    pad.dispatchEvent(new CustomEvent("show", { detail: chosen.src }));
    pad.scrollIntoView({ block: "nearest" });
});
"""

# Always there, which an accordion's content is not: what arrives while that is made can be lost. The value is
# not in the template, for with each new one Gradio makes all attributes as that says, `open` too.
_FOLDED = "<details><summary>From the drawing to the decision</summary><div></div></details>"
_FILLS_FOLD = """
const inside = element.querySelector("div");
const fill = () => { inside.innerHTML = props.value; };
watch("value", fill);
fill();
"""


class Panels(NamedTuple):
    """The parts of the tab that change with a drawing, as HTML."""

    verdict: str
    evidence: str
    spread: str
    steps: str


def look(classifier: Classifier, drawn: Image.Image | None) -> Panels:
    """What `classifier` says of what is `drawn`, black on white; None counts as blank."""
    nothing = torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE)
    read, shown = (Prepared.as_given(nothing), []) if drawn is None else _taken(classifier, drawn)
    prepared, how, names = read.images, steps_html(shown), classifier.task.names
    seen = prepared[0, 0].numpy()
    if read.quality[0] == SEVERAL and drawn is not None:
        digits = read_digits(drawn, classifier)
        if len(digits.marks) > 1:
            return Panels(reading_html(digits, names), _seen(seen), _no_votes(names), how)
    probs, detector = classifier.ensemble.probs(prepared), classifier.detector
    observed = Observed(prepared, summary(probs), detector.features)
    evidence = detector.of(observed)
    prediction = classifier.decide(evidence, read.quality)
    if read.quality[0] == BLANK:
        return Panels(verdict_html(prediction), _seen(seen), _no_votes(names), how)
    said = probs[:, 0].numpy()
    (why,) = explained(classifier, read, evidence, prediction)
    hidden = bool(read.quality[0])  # it is refused for its picture, whatever was said of it
    settled = (
        None if hidden else settled_after(detector, classifier.rule, observed, probs, classifier.at_once)
    )
    return Panels(
        verdict_html(prediction, vote_counts(said).tolist(), why.words),
        _seen(seen, why.change) + gauges_html(gauges(prediction, classifier.rule)),
        spread_html(said, names, int(prediction.labels[0]), settled),
        how + incoming_html(said, names, settled),
    )


def _taken(classifier: Classifier, drawn: Image.Image) -> tuple[Prepared, list[Step]]:
    """What is `drawn`, as the networks see it, and the steps to that; its ink is found once for both."""
    layout, brightness = classifier.task.layout, brightness_of(drawn)
    ink = None if layout == AS_IS else find_ink(brightness)
    read = _read(classifier, drawn) if ink is None or layout != INK else prepared_ink(ink)
    return read, steps(brightness, ink, read.images[0, 0].numpy(), str(read.quality[0]), _STEP)


def _read(classifier: Classifier, drawn: Image.Image) -> Prepared:
    """What is `drawn`, black on white, as the networks see it; where nothing is cut out, on their ground."""
    layout, data = classifier.task.layout, classifier.record.get("data")
    bright = isinstance(data, Mapping) and data.get("ground") == BRIGHT
    return read_images(drawn if layout != AS_IS or bright else ImageOps.invert(drawn.convert("L")), layout)


def _seen(image: Floats, change: Floats | None = None) -> str:
    """What the networks saw as HTML, and what of it would have to `change`, if anything."""
    marks = "" if change is None else _MARKS[np.sign(change.sum()).item()]
    caption = f"<figcaption>what the networks saw, 28×28{marks}</figcaption>"
    return f"<figure>{seen_svg(image, change=change)}{caption}</figure>"


def steps_html(shown: Sequence[Step]) -> str:
    """From a drawing to what was read of it, the steps as pictures with captions."""
    if not shown:
        return '<p class="small-print">Nothing is drawn yet.</p>'
    figures = "".join(
        f'<li><figure><img src="{png_url(step.image)}" alt="{escape(step.heading)}">'
        f"<figcaption>{escape(step.heading)}</figcaption></figure></li>"
        for step in shown
    )
    return f"<ol>{figures}</ol>"


def spread_html(probs: Floats, names: Sequence[str], answer: int = -1, settled: int | None = None) -> str:
    """`ensemble_svg` with a title, a line on how to read it, and after how many votes it was `settled`."""
    title = f"How the {len(probs)} networks vote" if len(probs) else "How the networks vote"
    columns = worded(names, _COLUMNS)
    votes = ensemble_svg(probs, names, answer, note=settled_words(settled, len(probs)))
    return f'<section><h2>{title}</h2>{votes}<p class="small-print">{columns}</p></section>'


def _no_votes(names: Sequence[str]) -> str:
    return spread_html(np.zeros((0, len(names)), np.float32), names)


def draw_tab(classifier: Classifier, promises: Promises, *, queue: "ReviewQueue | None" = None) -> None:
    """Lays the tab out where it is called, within a `gr.Blocks`; in a `queue` refusals may be kept."""
    nothing = look(classifier, None)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=290):
            paper = pad(render(SAMPLE), elem_id="pad")
        with gr.Column(min_width=290):
            verdict = gr.HTML(nothing.verdict, html_template=ANNOUNCED, elem_id="verdict", js_on_load=None)
            evidence = gr.HTML(nothing.evidence, elem_id="evidence", js_on_load=None)
        with gr.Column(min_width=290):
            spread = gr.HTML(nothing.spread, elem_id="spread", js_on_load=None)
    if are_digits(classifier.task.names):
        gr.HTML(examples_html(examples()), elem_id="examples", js_on_load=_SHOW_ON_PAD)
    risk, alpha = strictness_controls(promises, names=classifier.task.names)
    how = gr.HTML(nothing.steps, html_template=_FOLDED, js_on_load=_FILLS_FOLD, elem_id="steps")
    with gr.Accordion("Advanced", open=False):
        draws = gr.Radio(
            DRAWS,
            value=_nearest(len(classifier.ensemble)),
            label="Networks sampled",
            info=f"The promise was calibrated with {classifier.calibrated_draws}.",
            elem_id="draws",
        )
        line = escape(classifier.describe())
        gr.HTML(f'<p class="small-print">As it was loaded: {line}</p>', js_on_load=None)
    chosen, inputs = _chosen(classifier, promises), [paper, risk, alpha, draws]
    if queue is not None:
        keep_controls(
            queue, "Keep this drawing for review, if it is refused", "keep-drawing", inputs, _drawn(chosen)
        )
    # Of one visitor's changes only the latest is judged: an answer never overtakes a later stroke.
    gr.on(
        [paper.input, risk.input, alpha.input, draws.input],
        _judge(chosen),
        inputs,
        [verdict, evidence, spread, how],
        trigger_mode="always_last",
        show_progress="hidden",
        concurrency_limit=AT_ONCE,
        concurrency_id="draw",
        api_visibility="private",
    )


def examples_html(shown: Sequence[Example]) -> str:
    """`shown` as buttons with pictures, under their groups' names."""
    parts = []
    for group, members in groupby(shown, lambda example: example.group):
        buttons = "".join(
            f'<button type="button" title="{escape(example.name)}">'
            f'<img src="{png_url(example.image)}" alt="{escape(example.name)}"></button>'
            for example in members
        )
        parts.append(f"<section><h3>{escape(group)}</h3><div>{buttons}</div></section>")
    head = f'<header><h2>Try these</h2><p class="small-print">{_HONESTLY}</p></header>'
    return head + "".join(parts)


Chosen = Callable[[str | None, str | None, float | None], Classifier]


def _chosen(classifier: Classifier, promises: Promises) -> Chosen:
    """The classifier that keeps the promises a visitor chose, with as many draws."""

    @lru_cache(maxsize=len(DRAWS))
    def of_size(draws: int) -> Classifier:
        return classifier if draws == len(classifier.ensemble) else classifier.with_draws(draws)

    def chosen(risk: str | None, alpha: str | None, draws: float | None) -> Classifier:
        size = len(classifier.ensemble) if draws is None else _nearest(draws)
        return of_size(size).with_rule(promises.rule(risk, alpha))

    return chosen


def _judge(chosen: Chosen) -> Callable[[Any, str | None, str | None, float | None], Panels]:
    def judge(drawn: Any, *choice: Any) -> Panels:
        try:
            return look(chosen(*choice), drawing(drawn))
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return judge


def _drawn(chosen: Chosen) -> Callable[..., list[Refusal]]:
    """The drawing, if it is one and is refused."""

    def found(drawn: Any, *choice: Any) -> list[Refusal]:
        image, classifier = drawing(drawn), chosen(*choice)
        if image is None:
            return []
        read = _read(classifier, image)
        return refusals(classifier.predict(read), ["drawing"], read)

    return found


def _nearest(draws: float) -> int:
    """The number of `DRAWS` that is nearest."""
    return min(DRAWS, key=lambda offered: abs(offered - draws))
