"""The Gradio page: a pad to draw on, and beside it what the ensemble says after each stroke."""

import os
import socket
import webbrowser
from html import escape
from pathlib import Path
from typing import NamedTuple, TypedDict
from urllib.request import getproxies

import gradio as gr
import numpy as np
import torch
from PIL import Image, ImageOps

from bnn.decide import Classifier, Predictive
from bnn.errors import InputError
from bnn.networks import IMAGE_SIZE, NUM_CLASSES
from bnn.page.drawings import ensemble_svg, seen_svg
from bnn.page.words import figures_html, small_print, verdict_html
from bnn.preprocess import is_blank, prepare

PAD = 400  # side of the pad in its own pixels
BRUSH = 18  # radius in those; a digit of 2/3 of the pad's height gets strokes as thick as MNIST's
_WHITE, _BLACK = 255, "#000000"
_CACHE_SECONDS = 3600  # uploaded strokes older than this are deleted, and so often is looked
_STYLE = Path(__file__).with_name("page.css")

# A stroke is uploaded before it is judged. One that was cleared meanwhile must not be judged any more: the
# pad is marked as cleared until the next touch, and a marked pad counts as blank.
_MARK_CLEARED = """() => {
    const pad = document.getElementById("pad");
    pad.dataset.cleared = "yes";
    pad.addEventListener("pointerdown", () => delete pad.dataset.cleared, { once: true });
}"""
_UNLESS_CLEARED = """(drawing) => document.getElementById("pad").dataset.cleared ? null : drawing"""


class Drawing(TypedDict):
    """What the pad gives; `composite` is what the visitor sees."""

    background: Image.Image | None
    layers: list[Image.Image]
    composite: Image.Image | None


class Panels(NamedTuple):
    """The three parts of the page that change with a drawing, as HTML."""

    verdict: str
    spread: str
    evidence: str


def look(classifier: Classifier, composite: Image.Image | None) -> Panels:
    """What `classifier` says of a drawing, black on white; None counts as blank."""
    prepared = torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE) if composite is None else prepare(_framed(composite))
    blank = is_blank(prepared)
    probs = classifier.ensemble.probs(prepared)
    evidence = classifier.familiarity.evidence(prepared, Predictive.of(probs))
    prediction = classifier.decide(evidence, blank)
    shown = np.empty((0, NUM_CLASSES), np.float32) if blank[0] else probs[:, 0].numpy()
    return Panels(
        verdict_html(prediction),
        ensemble_svg(shown, int(prediction.labels[0])),
        f"<figure>{seen_svg(prepared[0, 0].numpy())}<figcaption>what the networks saw, 28×28</figcaption>"
        f"</figure>{figures_html(prediction)}",
    )


def build_page(classifier: Classifier) -> gr.Blocks:
    """The page of `classifier`, not yet served. Its style is handed over when it is served: see `start`."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at many places, not only by Blocks
    with gr.Blocks(
        title="A digit, or “I don't know”",
        analytics_enabled=False,
        delete_cache=(_CACHE_SECONDS, _CACHE_SECONDS),
    ) as page:
        gr.HTML("<h1>A digit, or “I don't know”</h1>", js_on_load=None)
        nothing = look(classifier, None)
        with gr.Row(equal_height=False):
            with gr.Column(min_width=300):
                pad = _pad()
                # By path: an image would be written anew at each clearing, while another visitor reads it.
                empty = _empty(pad.value["background"]["path"])
                clear = gr.Button("Clear", elem_id="clear")
            with gr.Column(min_width=300):
                verdict = gr.HTML(nothing.verdict, elem_id="verdict", js_on_load=None)
                spread = gr.HTML(nothing.spread, elem_id="spread", js_on_load=None)
                evidence = gr.HTML(nothing.evidence, elem_id="evidence", js_on_load=None)
        line = escape(small_print(classifier.rule, len(classifier.ensemble)))
        gr.HTML(f'<p class="small-print">{line}</p>', js_on_load=None)

        def judge(drawing: Drawing | None) -> Panels:
            return look(classifier, drawing and drawing["composite"])

        def reset() -> tuple[dict[str, object], str, str, str]:
            return empty, *nothing

        panels = [verdict, spread, evidence]
        # One at a time and in order: an answer never overtakes a later stroke or the clearing.
        pad.input(
            judge,
            pad,
            panels,
            js=_UNLESS_CLEARED,
            trigger_mode="always_last",
            show_progress="hidden",
            concurrency_limit=1,
            concurrency_id="pad",
            api_visibility="private",
        )
        gr.on(
            [clear.click, pad.clear],
            reset,
            None,
            [pad, *panels],
            js=_MARK_CLEARED,
            show_progress="hidden",
            concurrency_limit=1,
            concurrency_id="pad",
            api_visibility="private",
        )
    return page.queue(max_size=64, api_open=False)


def start(classifier: Classifier, host: str = "127.0.0.1", port: int = 7860) -> gr.Blocks:
    """Serves the page of `classifier` in the background until its `close()`.

    Raises:
        InputError: the address cannot be used.
    """
    _check_address(host, port)
    _reach_without_proxy(host)
    page = build_page(classifier)
    page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        inline=False,
        share=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        max_file_size="1mb",
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        css_paths=_STYLE,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    )
    return page


def launch(
    classifier: Classifier, host: str = "127.0.0.1", port: int = 7860, *, open_browser: bool = False
) -> None:
    """Serves the page of `classifier` and prints its address; Ctrl-C ends it.

    Args:
        classifier: whose page it is.
        host, port: where to listen.
        open_browser: whether to show the page in the user's browser.

    Raises:
        InputError: the address cannot be used.
    """
    page = start(classifier, host, port)
    try:
        print(f"Draw a digit at {page.local_url} (Ctrl-C ends it).", flush=True)
        if open_browser and page.local_url:
            webbrowser.open(page.local_url)
        page.server.thread.join()
    except KeyboardInterrupt:
        print("Ended.")
    finally:
        page.close(verbose=False)


def _pad() -> gr.Sketchpad:
    return gr.Sketchpad(
        value=_empty(Image.new("L", (PAD, PAD), _WHITE)),  # type: ignore[arg-type]  # its annotation leaves the dict out
        label="Draw a digit",
        height=420,
        type="pil",
        image_mode="L",
        canvas_size=(PAD, PAD),
        fixed_canvas=True,
        layers=False,
        transforms=(),
        brush=gr.Brush(default_size=BRUSH, colors=[_BLACK], default_color=_BLACK, color_mode="fixed"),
        buttons=[],
        elem_id="pad",
    )


def _empty(ground: Image.Image | str) -> dict[str, object]:
    return {"background": ground, "layers": [], "composite": ground}


def _framed(composite: Image.Image) -> Image.Image:
    """`composite` with a white edge, so that ink reaching the pad's edge is not taken for the ground."""
    return ImageOps.expand(composite.convert("L"), border=1, fill=_WHITE)


def _check_address(host: str, port: int) -> None:
    if not 0 < port < 65536:
        raise InputError(f"{port} is no port: choose one from 1 to 65535.")
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise InputError(
            f"the page cannot be served at {host}, port {port}: {why}; choose another port or host."
        ) from error


def _reach_without_proxy(host: str) -> None:
    """Gradio asks its own server whether it runs, and must not ask a proxy instead."""
    proxies = getproxies()
    if proxies.keys() - {"no"}:
        os.environ["no_proxy"] = ",".join(filter(None, (proxies.get("no"), host, "localhost")))
