"""The page as a whole: its tabs, and what programs can call."""

import os

import gradio as gr

from bnn.decide import Classifier
from bnn.page.card import card_tab
from bnn.page.draw import draw_tab
from bnn.page.many import many_tab
from bnn.page.programs import endpoints
from bnn.page.strictness import offered

TITLE = "A digit, or “I don't know”"
_CACHE_SECONDS = 600  # uploads older than this are deleted, and so often is looked
_WAITING = 200  # requests that may wait; more are turned away


def build_page(classifier: Classifier) -> gr.Blocks:
    """The page of `classifier`, not yet served; `bnn.page.serve` gives it its style."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at many places, not only by Blocks
    promises = offered(classifier)
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(_CACHE_SECONDS, _CACHE_SECONDS), fill_width=True
    ) as page:
        gr.HTML(
            f"<header><h1>{TITLE}</h1><p>Many sampled neural networks vote on what you draw. Where they "
            "disagree, or have never seen the like, the classifier says so.</p></header>",
            elem_id="head",
            js_on_load=None,
        )
        with gr.Tabs():
            with gr.Tab("Draw", id="draw"):
                draw_tab(classifier, promises)
            with gr.Tab("Many images", id="many"):
                many_tab(classifier, promises)
            with gr.Tab("Trust", id="card") as card:
                card_tab(classifier, card)
        endpoints(classifier)
    return page.queue(max_size=_WAITING, api_open=True)
