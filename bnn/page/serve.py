"""Serving the page: FastAPI around Gradio, a health endpoint, and a clean end."""

import os
import signal
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
import torch
import uvicorn
from fastapi import FastAPI

from bnn.decide import Classifier
from bnn.page.address import Address
from bnn.page.bounds import AsgiApp, bounded, with_headers
from bnn.page.page import build_page

STOPPING_SECONDS = 2  # that open pages get when the server ends
_STYLE = Path(__file__).with_name("page.css")


def launch(classifier: Classifier, address: Address, *, open_browser: bool = False) -> None:
    """Serves the page of `classifier` and prints its address; Ctrl-C or SIGTERM ends it.

    Args:
        classifier: whose page it is.
        address: where, and to whom.
        open_browser: whether to show the page in the user's browser.

    Raises:
        InputError: the address cannot be used.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    torch.set_num_threads(1)  # several drawings at a time use the cores better than one drawing does
    try:
        with served(classifier, address) as thread:
            if address.is_exposed:
                print(
                    f"bnn: whoever reaches {address.host} can use this page; --auth-file asks for passwords.",
                    file=sys.stderr,
                )
            print(f"Draw a digit at {address.url} (Ctrl-C ends it).", flush=True)
            if open_browser:
                webbrowser.open(address.url)
            thread.join()
    except KeyboardInterrupt:
        print("Ended.", flush=True)


@contextmanager
def served(classifier: Classifier, address: Address) -> Iterator[threading.Thread]:
    """Serves the page of `classifier` in a thread while the context lasts.

    Files that visitors upload lie in a temporary folder, which is gone afterwards.

    Raises:
        InputError: the address cannot be used.
    """
    with address.listen() as listening, _upload_folder():
        config = uvicorn.Config(
            application(classifier, address),
            log_level="warning",
            timeout_graceful_shutdown=STOPPING_SECONDS,
            proxy_headers=False,
            server_header=False,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield thread
        finally:
            server.should_exit = True
            thread.join()


def application(classifier: Classifier, address: Address) -> AsgiApp:
    """The web application: the page at "/", and "/health"."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health")
    def health() -> dict[str, object]:
        return {"status": "ok", "draws": len(classifier.ensemble), "rule": classifier.rule.to_dict()}

    gr.mount_gradio_app(
        app,
        build_page(classifier),
        path="/",
        server_name=address.host,
        server_port=address.port,
        root_path=address.root_path or None,
        auth=list(address.accounts) or None,
        max_file_size=address.max_upload,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        css_paths=_STYLE,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    )
    return with_headers(bounded(app, address.max_upload))


@contextmanager
def _upload_folder() -> Iterator[None]:
    before = os.environ.get("GRADIO_TEMP_DIR")
    with tempfile.TemporaryDirectory(prefix="bnn-page-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["GRADIO_TEMP_DIR"]
            else:
                os.environ["GRADIO_TEMP_DIR"] = before


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
