"""The page as a whole: its tabs, and what programs can call.

A new tab is one function, in a file of its own, and one name in `TABS`.
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING

import gradio as gr

from bnn.app.arrivals import Arrivals
from bnn.app.card import card_tab
from bnn.app.draw import draw_tab
from bnn.app.gradio_private import Page, set_environment
from bnn.app.many import many_tab
from bnn.app.programs import endpoints
from bnn.app.strictness import Promises, offered
from bnn.classifier import Classifier
from bnn.core.task import are_digits

if TYPE_CHECKING:
    from bnn.review.store import ReviewQueue

TITLE = "A digit, or “I don't know”"
_MOST_NAMED = 4  # classes in the title
Tab = Callable[[Classifier, Promises], None]
TABS: MutableMapping[str, Tab] = {  # in their order; each lays itself out
    "Draw": draw_tab,
    "Many images": many_tab,
    "Trust": card_tab,
}
_WAITING = 200  # requests that may wait; more are turned away
_SESSIONS = 500  # visitors of whom Gradio remembers what they see


# Gradio gives each button of a choice a name of its own, so that arrow keys do not move from one to the next.
_ARROWS = """
document.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || event.target.type !== "radio" || event.altKey || event.ctrlKey || event.metaKey) return;
    const buttons = [...event.target.closest("fieldset").querySelectorAll("input[type=radio]")];
    const next = buttons.at((buttons.indexOf(event.target) + step) % buttons.length);
    event.preventDefault();
    next.focus();
    next.click();
});
"""


def title(names: Sequence[str]) -> str:
    """What the page is called, where its classes have these `names`."""
    if are_digits(names):
        return TITLE
    named = f"{', '.join(names[:_MOST_NAMED])}{' …' * (len(names) > _MOST_NAMED)}"
    return f"{named}, or “I don't know”"


def build_page(
    classifier: Classifier, queue: "ReviewQueue | None" = None, arrivals: Arrivals | None = None
) -> Page:
    """The page of `classifier`, not yet served; `bnn.app.serve` gives it its style.

    Args:
        classifier: whose page it is.
        queue: where visitors may have refused images kept, and review them; by default none is kept.
        arrivals: what programs send, of which the tab Trust tells.
    """
    set_environment()
    promises = offered(classifier)
    called = title(classifier.task.names)
    with Page(title=called, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            f"<header><h1>{escape(called, quote=False)}</h1><p>Many sampled neural networks vote on what you "
            "draw. Where they disagree, or have never seen the like, the classifier says so.</p></header>",
            elem_id="head",
            js_on_load=_ARROWS,
        )
        with gr.Tabs():
            for label, tab in _tabs(queue, arrivals).items():
                with gr.Tab(label):
                    tab(classifier, promises)
        endpoints(classifier)
    page.remember(_SESSIONS)
    page.queue(max_size=_WAITING, api_open=False)
    page.keep_few_answers()
    return page


def _tabs(queue: "ReviewQueue | None", arrivals: Arrivals | None) -> Mapping[str, Tab]:
    """The tabs in their order; where there is a `queue`, those that fill it do, and one more reviews it."""
    tabs: dict[str, Tab] = {**TABS, "Trust": partial(card_tab, arrivals=arrivals)}
    if queue is None:
        return tabs
    from bnn.app.review import review_tab  # which needs the tables of the queue

    for label, tab in (("Draw", draw_tab), ("Many images", many_tab), ("Review", review_tab)):
        tabs[label] = partial(tab, queue=queue)
    return tabs
