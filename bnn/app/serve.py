"""Serving the page: FastAPI around Gradio, a health endpoint, and a clean end."""

import asyncio
import logging
import signal
import sys
import time
import webbrowser
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import gradio as gr
import torch
import uvicorn
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI

from bnn.app.address import Address
from bnn.app.arrivals import Arrivals
from bnn.app.bounds import AsgiApp, bounded, with_headers
from bnn.app.gate import gated
from bnn.app.gradio_private import SIZE, Page, import_what_answers_need
from bnn.app.keys import with_keys
from bnn.app.linger import SPARE_BYTES, lingering
from bnn.app.login import with_login
from bnn.app.page import build_page
from bnn.app.patience import AT_ONCE, Patience
from bnn.app.rest import rest
from bnn.app.stored import KEPT_SECONDS, TOGETHER, Stored, upload_folder, within
from bnn.app.waiting import waiting
from bnn.classifier import Classifier
from bnn.core.task import worded
from bnn.errors import InputError

if TYPE_CHECKING:
    from bnn.review.store import ReviewQueue

STOPPING_SECONDS = 2  # that open pages get when the server ends
THREADS = 6  # that work: four judge at most. Each that ever judged keeps memory, and Gradio would use 40
SWEEP_SECONDS = 60  # so often old uploads are looked for
_log = logging.getLogger(__name__)
_STYLE = Path(__file__).with_name("page.css")


def launch(
    classifier: Classifier,
    address: Address,
    queue: "ReviewQueue | None" = None,
    *,
    open_browser: bool = False,
) -> None:
    """Serves the page of `classifier` and prints its address; Ctrl-C or SIGTERM ends it.

    Args:
        classifier: whose page it is.
        address: where, and to whom.
        queue: see `build_page`.
        open_browser: whether to show the page in the user's browser.

    Raises:
        InputError: the address cannot be used.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    torch.set_num_threads(1)  # several drawings at a time use the cores better than one drawing does
    starting = suppress(KeyboardInterrupt)
    with starting, served(classifier, address, queue) as serving, _ending_by_signal(serving):
        if address.is_exposed:
            print(
                f"bnn: whoever reaches {address.host} can use this page; --auth-file asks for passwords.",
                file=sys.stderr,
            )
            if queue is not None:
                print("bnn: they can also see, and name, what is kept for review.", file=sys.stderr)
        what = worded(classifier.task.names, "Draw a digit")
        print(f"{what} at {address.url} (Ctrl-C ends it).", flush=True)
        if open_browser:
            webbrowser.open(address.url)
        serving.ended.result()
    print("Ended.", flush=True)


class Serving(NamedTuple):
    """A page that is served: what is done when it ends, and what ends it."""

    ended: Future[None]
    server: uvicorn.Server


@contextmanager
def served(classifier: Classifier, address: Address, queue: "ReviewQueue | None" = None) -> Iterator[Serving]:
    """Serves the page of `classifier` in a thread while the context lasts, and yields when it can be had.

    Files that visitors upload lie in a temporary folder, which is gone afterwards. The `queue` is that of
    `build_page`.

    Raises:
        InputError: the address cannot be used.
        Exception: whatever else keeps it from starting.
    """
    with address.listen() as listening, upload_folder() as folder, ThreadPoolExecutor(1) as thread:
        config = uvicorn.Config(
            partial(application, classifier, address, folder, queue),
            factory=True,  # Gradio is built where the server's loop runs: else it opens some of its own
            log_level="critical",  # `bounded` tells what breaks; visitors who stay till the end are no error
            timeout_graceful_shutdown=STOPPING_SECONDS,
            proxy_headers=False,
            server_header=False,
            ws="none",
            http=Patience,
            backlog=AT_ONCE,
        )
        server = uvicorn.Server(config)
        serving = thread.submit(server.run, sockets=[listening])
        try:
            while not (server.started or serving.done()):
                time.sleep(0.01)
            if serving.done():
                serving.result()  # raises why it did not start
            yield Serving(serving, server)
        finally:
            server.should_exit = True


def application(
    classifier: Classifier, address: Address, folder: Path, queue: "ReviewQueue | None" = None
) -> AsgiApp:
    """The web application: the page, whose uploads lie in `folder`, and plain HTTP for programs."""

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = THREADS
        tasks = [
            asyncio.create_task(asyncio.to_thread(import_what_answers_need)),
            asyncio.create_task(_sweep(stored, page, queue)),
        ]
        yield
        for task in tasks:
            task.cancel()

    arrivals = Arrivals(classifier)
    page = build_page(classifier, queue, arrivals)
    stored = Stored(folder, TOGETHER * address.max_upload)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=running)

    gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=address.host,
        server_port=address.port,
        root_path=address.root_path or None,
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
    page.mounted()
    queued = within(waiting(app, SIZE, page.waiting_bytes), stored)
    inner = with_login(bounded(queued, address.max_upload), address)
    doors = with_keys(rest(classifier, address, arrivals, queue), inner, address)
    guarded = with_headers(gated(doors, address))
    return lingering(guarded, address.max_upload + SPARE_BYTES)


async def _sweep(stored: Stored, page: Page, queue: "ReviewQueue | None") -> None:
    """Deletes old uploads now and then, and what has been in the `queue` for too long.

    Gradio's own `delete_cache` forgets uploads that broke off.
    """
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        await asyncio.to_thread(stored.sweep, time.time() - KEPT_SECONDS)
        page.forget_deleted()
        if queue is not None:
            try:
                await asyncio.to_thread(queue.expire)
            except InputError as error:  # such as that it is held by another program, or away: later, then
                _log.warning("bnn: %s", error)


@contextmanager
def _ending_by_signal(serving: Serving) -> Iterator[None]:
    """Ctrl-C and SIGTERM end `serving` by a flag: an exception would leave locks it strikes in disorder."""

    def end(*_: object) -> None:
        serving.server.should_exit = True

    before = {one: signal.signal(one, end) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
