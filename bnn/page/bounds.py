"""Around the web application: requests that are too long are refused, and answers carry safe headers."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

MOST_MESSAGE_BYTES = 2_000_000  # of a request that uploads no files: a drawing has a tenth of that
_UPLOAD = "/upload"  # where Gradio's uploads go
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
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
    """`app`, but too long requests get status 413.

    An upload may have `max_upload` bytes, any other request `MOST_MESSAGE_BYTES`.
    """

    async def run(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        most = max_upload if scope["path"].endswith(_UPLOAD) else MOST_MESSAGE_BYTES
        if _declared(scope) > most:
            await _refuse(send, most)
            return
        body = _Body(receive, send, most)
        try:
            await app(scope, body.receive, body.send)
        except Exception:
            if not body.is_too_long:
                raise
        if body.is_too_long and not body.answered:
            await _refuse(send, most)

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


class _Body:
    """A request's body that ends, as if its sender had gone, where it is longer than `most` bytes."""

    def __init__(self, receive: Receive, send: Send, most: int) -> None:
        self._receive, self._send, self._most = receive, send, most
        self._received = 0
        self.answered = False

    @property
    def is_too_long(self) -> bool:
        return self._received > self._most

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        return {"type": "http.disconnect"} if self.is_too_long else message

    async def send(self, message: Message) -> None:
        if not self.is_too_long or self.answered:
            self.answered = True
            await self._send(message)


def _declared(scope: Message) -> int:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


async def _refuse(send: Send, most: int) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": f"A request here may have {most:,} bytes.".encode()})
