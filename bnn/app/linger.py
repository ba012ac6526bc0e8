"""Around the web application: who is answered before their request was read whole gets that answer."""

import asyncio
from contextlib import suppress

from bnn.app.bounds import AsgiApp, Message, Receive, Send

SPARE_BYTES = 1_000_000_000  # read after an answer, besides the longest upload that is allowed
MOST_SECONDS = 60.0  # that reading goes on after an answer
MOST_SILENCE = 5.0  # seconds of it in which nothing comes
_CLOSE = (b"connection", b"close")


def lingering(app: AsgiApp, most: int) -> AsgiApp:
    """`app`, but where it answers before it has read a request whole, the connection is closed late.

    Most clients read no answer before they have sent everything, and a connection that is closed while they
    send is reset: the answer is lost. So the answer goes out whole at once, for those who do read it; then
    what still comes is read and thrown away, piece by piece; then the connection is closed, as nginx's
    `lingering_close` does.

    That is bounded, so that no sender, slow or endless, holds a connection or keeps the server reading:
    - `most` bytes, about a second's work: a video that was taken for an image gets its answer;
    - `MOST_SECONDS`: so does an upload over a slow network;
    - `MOST_SILENCE`: who has read the answer, and neither sends nor closes, need not be waited for.
    Whoever sends beyond that is cut off, and then only clients that read early have had the answer.
    """

    async def run(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        body = _Body(receive, has_ended=not _has_body(dict(scope["headers"])))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and not body.has_ended:
                message = {**message, "headers": [*message.get("headers", ()), _CLOSE]}
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if body.has_ended or not is_last:
                await send(message)
                return
            await send({**message, "more_body": True})
            await body.drain(most)
            await send({"type": "http.response.body"})

        await app(scope, body.receive, answer)

    return run


class _Body:
    """What still comes of a request."""

    def __init__(self, receive: Receive, *, has_ended: bool) -> None:
        self._receive = receive
        self.has_ended = has_ended

    async def receive(self) -> Message:
        message = await self._receive()
        self.has_ended = not message.get("more_body", False)  # or its sender has gone
        return message

    async def drain(self, most: int) -> None:
        """Reads to the end, but not for long, and no more than `most` bytes and a piece."""
        with suppress(TimeoutError):
            async with asyncio.timeout(MOST_SECONDS):
                while not self.has_ended and most > 0:
                    async with asyncio.timeout(MOST_SILENCE):
                        most -= len((await self.receive()).get("body", b""))


def _has_body(headers: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
