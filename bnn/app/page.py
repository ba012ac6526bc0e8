"""The page as a whole: its tabs, and what programs can call.

A new tab is one function, in a file of its own, and one name in `TABS`.
"""

import os
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import gradio as gr

from bnn.app.card import card_tab
from bnn.app.draw import draw_tab
from bnn.app.many import many_tab
from bnn.app.programs import endpoints
from bnn.app.strictness import Promises, offered
from bnn.classifier import Classifier

TITLE = "A digit, or “I don't know”"
TABS: MutableMapping[str, Callable[[Classifier, Promises], None]] = {  # in their order; each lays itself out
    "Draw": draw_tab,
    "Many images": many_tab,
    "Trust": lambda classifier, _: card_tab(classifier),
}
_WAITING = 200  # requests that may wait; more are turned away
_SESSIONS = 500  # visitors of whom Gradio remembers what they see
_SETTINGS = {  # that Gradio takes from the environment alone
    "GRADIO_ANALYTICS_ENABLED": "False",
    # Else it computes statistics of the last 10,000 events after each event.
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**18),
    "GRADIO_ANALYTICS_MAX_EVENTS": "1",
}


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


class Page(gr.Blocks):
    """Blocks that take no file but uploaded ones, and answer values they cannot use with one sentence.

    Gradio's own would fetch a URL, and, where it is mounted in an application, read any file of the server's.
    """

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *others: Any, **options: Any) -> Any:
        try:
            folder = Path(self.GRADIO_CACHE).resolve()
            if not all(Path(path).resolve().is_relative_to(folder) for path in _paths(inputs)):
                raise gr.Error("A file must be uploaded here: no other is read or fetched.")
            return await super().preprocess_data(block_fn, inputs, *others, **options)
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:  # values of the wrong type raise exceptions of nearly any kind
            raise gr.Error("These values cannot be used here.", print_exception=False) from error


def build_page(classifier: Classifier) -> gr.Blocks:
    """The page of `classifier`, not yet served; `bnn.app.serve` gives it its style."""
    os.environ.update(_SETTINGS)
    promises = offered(classifier)
    with Page(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            f"<header><h1>{TITLE}</h1><p>Many sampled neural networks vote on what you draw. Where they "
            "disagree, or have never seen the like, the classifier says so.</p></header>",
            elem_id="head",
            js_on_load=_ARROWS,
        )
        with gr.Tabs():
            for label, tab in TABS.items():
                with gr.Tab(label):
                    tab(classifier, promises)
        endpoints(classifier)
    page.state_session_capacity = _SESSIONS
    return page.queue(max_size=_WAITING, api_open=False)


def _paths(values: list[Any]) -> Iterator[str]:
    """The paths of all files in `values`, which are JSON of any depth."""
    left = list(values)
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
            if isinstance(value.get("path"), str):
                yield value["path"]
        elif isinstance(value, list):
            left += value
