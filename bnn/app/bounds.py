"""Around the web application: requests that it should not get are refused, and answers carry safe headers."""

import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

MOST_MESSAGE_BYTES = 2_000_000  # of a request that uploads no files: a drawing has a tenth of that
_UPLOAD = "/upload"  # where Gradio's uploads go
_PROGRAMS = "/gradio_api/"  # before what Gradio's pages and programs call
# What ours do call. Others fetch other hosts' files, start ffmpeg, or write down what a visitor sees.
_OPEN = {
    *("app_id", "cancel", "heartbeat", "info", "login_check", "queue", "startup-events"),
    *("theme.css", "upload", "upload_progress", "user"),
}
_FILE = "file="
_TOP = ("/", "/config", "/favicon.ico", "/health", "/robots.txt", "/theme.css")
_SCRIPTS = ("/assets/", "/static/")  # of the page
_BROKEN = 500
_log = logging.getLogger(__name__)
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        # Gradio's own scripts evaluate templates; nothing may come from, or go to, another host.
        b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'; "
        b"form-action 'self'; base-uri 'self'; object-src 'none'",
    ),
]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]


def bounded(app: AsgiApp, max_upload: int) -> AsgiApp:
    """`app`, but too long requests get status 413, those it breaks at 400, and those for what is closed 404.

    An upload may have `max_upload` bytes, any other request `MOST_MESSAGE_BYTES`.
    """

    async def run(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        if not _is_open(scope["path"]):
            await refuse(send, 404, "There is nothing here.")
            return
        most = max_upload if scope["path"].endswith(_UPLOAD) else MOST_MESSAGE_BYTES
        too_long = f"A request here may have {most:,} bytes."
        if declared(scope) > most:
            await refuse(send, 413, too_long)
            return
        exchange = _Exchange(receive, send, most)
        try:
            await app(scope, exchange.receive, exchange.send)
        except Exception as error:  # Gradio meets some requests with exceptions of its own
            exchange.broke = True
            if not (exchange.is_too_long or exchange.was_left):
                _log.warning("bnn: %s %s: %r", scope["method"], scope["path"], error)
        if exchange.answered:
            return
        if exchange.is_too_long:
            await refuse(send, 413, too_long)
        elif exchange.broke:
            await refuse(send, 400, "This request cannot be understood.")

    return run


def with_headers(app: AsgiApp) -> AsgiApp:
    """`app`, but every answer carries headers that keep browsers from trusting anything else."""

    async def run(scope: Message, receive: Receive, send: Send) -> None:
        async def with_ours(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await app(scope, receive, with_ours)

    return run


class _Exchange:
    """A request whose body ends, as if its sender had gone, where it is longer than `most` bytes.

    Its answer is held back where the body was too long, or where it says that the application broke.
    """

    def __init__(self, receive: Receive, send: Send, most: int) -> None:
        self._receive, self._send, self._most = receive, send, most
        self._received = 0
        self.answered = self.broke = self.was_left = False

    @property
    def is_too_long(self) -> bool:
        return self._received > self._most

    async def receive(self) -> Message:
        if self.is_too_long:  # it may have ended, and then nothing would come until its sender goes
            return {"type": "http.disconnect"}
        message = await self._receive()
        self.was_left = message["type"] == "http.disconnect"
        self._received += len(message.get("body", b""))
        return {"type": "http.disconnect"} if self.is_too_long else message

    async def send(self, message: Message) -> None:
        self.broke = self.broke or message.get("status") == _BROKEN
        if self.answered or not (self.is_too_long or self.broke):
            self.answered = True
            await self._send(message)


def _is_open(path: str) -> bool:
    if not path.startswith(_PROGRAMS):
        return path in _TOP or path.startswith(_SCRIPTS)
    called = path.removeprefix(_PROGRAMS)
    return called.split("/")[0] in _OPEN or (called.startswith(_FILE) and "://" not in called)


def declared(scope: Message) -> int:
    """How many bytes a request says that it has; 0 where it does not."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


async def refuse(send: Send, status: int, why: str) -> None:
    """Answers with one sentence."""
    await answer(send, status, "text/plain", why)


async def answer(
    send: Send, status: int, kind: str, text: str, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Answers with a `text` of the MIME type `kind`."""
    body = text.encode()
    told = [
        (b"content-type", f"{kind}; charset=utf-8".encode()),
        (b"content-length", str(len(body)).encode()),  # tells where it ends, before the connection does
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})
