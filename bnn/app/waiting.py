"""Around the web application: requests that wait for an answer are small, plain, and few enough together."""

import json
from collections.abc import Callable
from typing import Any

from bnn.app.bounds import AsgiApp, Message, Receive, Send, refuse

MOST_WAITING_BYTES = 16_000_000  # of the requests that wait, all visitors together
MOST_LISTS = 5000  # and objects of one: an empty one takes thirty times the two bytes it has as JSON
MOST_SESSION = 100  # characters of the name that a browser gives itself; several lists keep it
_JOIN = "/gradio_api/queue/join"


def waiting(app: AsgiApp, size_key: str, waiting_bytes: Callable[[], int]) -> AsgiApp:
    """`app`, but a request to wait that is not plain gets status 400, and one too many 503.

    Args:
        app: bounds the length of requests.
        size_key: under which the request's scope tells `app` its size.
        waiting_bytes: of the requests that wait so far.
    """

    async def run(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].rstrip("/") != _JOIN or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if not _is_plain(bytes(body)):
            await refuse(send, 400, "This request cannot be understood.")
        elif waiting_bytes() + len(body) > MOST_WAITING_BYTES:
            await refuse(send, 503, "Too many requests wait: try again later.")
        else:
            await app({**scope, size_key: len(body)}, _once(bytes(body), receive), send)

    return run


def _is_plain(body: bytes) -> bool:
    """Whether it is a JSON object of few parts, from a session of a short name."""
    if body.count(b"[") + body.count(b"{") > MOST_LISTS:
        return False
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return False
    session: Any = asked.get("session_hash") if isinstance(asked, dict) else None
    return isinstance(asked, dict) and len(str(session)) <= MOST_SESSION


def _once(body: bytes, receive: Receive) -> Receive:
    """Hands over the `body`, and then what comes."""
    left = [body]

    async def received() -> Message:
        return {"type": "http.request", "body": left.pop()} if left else await receive()

    return received
