"""Around the web application: what is too long or closed is refused, and answers carry safe headers."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import pytest

from bnn.app.bounds import MOST_MESSAGE_BYTES, AsgiApp, Message, Receive, Send, bounded, with_headers

UPLOAD, MESSAGE = "/gradio_api/upload", "/gradio_api/queue/join"
MOST_UPLOAD = 1000


class LeftError(Exception):
    """What a web framework raises where a request's sender has gone."""


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Answers with how many bytes the request had."""
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise LeftError
        length, more = length + len(message["body"]), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
    await send({"type": "http.response.body", "body": str(length).encode()})


def asked(
    app: AsgiApp,
    parts: Iterable[bytes] = (b"",),
    path: str = MESSAGE,
    headers: Iterable[Any] = (),
    **scope: Any,
) -> list[Message]:
    """What `app` sends to a request whose body comes in `parts`."""
    waiting, sent = list(parts), list[Message]()

    async def receive() -> Message:
        if not waiting:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Message) -> None:
        sent.append(message)

    whole = {"type": "http", "method": "POST", "path": path, "headers": list(headers)} | scope

    async def run() -> None:
        await app(whole, receive, send)

    asyncio.run(run())
    return sent


def told(sent: list[Message]) -> tuple[int, bytes]:
    """The status and body of the one answer that was sent."""
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], sent[1]["body"]


LIMITS = [(UPLOAD, MOST_UPLOAD), (f"/digits{UPLOAD}", MOST_UPLOAD), (MESSAGE, MOST_MESSAGE_BYTES)]


@pytest.mark.parametrize(("path", "most"), LIMITS)
def test_what_is_declared_too_long_never_reaches_the_application(path: str, most: int) -> None:
    async def untouched(*_: Any) -> None:
        pytest.fail("called")

    length = (b"content-length", str(most + 1).encode())
    status, why = told(asked(bounded(untouched, MOST_UPLOAD), path=path, headers=[length]))
    assert (status, why) == (413, f"A request here may have {most:,} bytes.".encode())


@pytest.mark.parametrize(("path", "most"), LIMITS)
@pytest.mark.parametrize("declared", [None, b"1", b"-5", b"many"])
def test_what_is_too_long_and_does_not_say_so_is_refused(
    path: str, most: int, declared: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    headers = [] if declared is None else [(b"content-length", declared)]
    parts = [bytes(most // 2), bytes(most - most // 2), b"x", bytes(10 * most)]
    status, why = told(asked(bounded(echo, MOST_UPLOAD), parts, path, headers))
    assert (status, why) == (413, f"A request here may have {most:,} bytes.".encode())
    assert caplog.records == []  # it is the sender's fault, and told to them


@pytest.mark.parametrize(("path", "most"), LIMITS)
def test_what_has_just_the_allowed_length_gets_its_answer(path: str, most: int) -> None:
    length = (b"content-length", str(most).encode())
    for parts in ([bytes(most)], [bytes(most - 1), b"x"], [b"", bytes(most), b""]):
        assert told(asked(bounded(echo, MOST_UPLOAD), parts, path, [length])) == (200, str(most).encode())


def test_no_more_is_read_than_is_allowed() -> None:
    handed = []

    async def greedy(scope: Message, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            handed.append(len(message.get("body", b"")))
            if message["type"] == "http.disconnect":
                return

    assert told(asked(bounded(greedy, MOST_UPLOAD), [bytes(400)] * 100, UPLOAD))[0] == 413
    assert sum(handed) <= MOST_UPLOAD


def test_an_application_that_answers_too_long_a_request_all_the_same_is_not_heard() -> None:
    async def stubborn(scope: Message, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    assert told(asked(bounded(stubborn, MOST_UPLOAD), [bytes(2000)], UPLOAD))[0] == 413


def test_an_answer_that_has_begun_is_not_followed_by_another() -> None:
    async def hasty(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()
        await send({"type": "http.response.body", "body": b"done"})

    async def breaking(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise LeftError

    assert told(asked(bounded(hasty, MOST_UPLOAD), [bytes(2000)], UPLOAD)) == (200, b"done")
    assert [message["status"] for message in asked(bounded(breaking, MOST_UPLOAD))] == [200]


async def raising(scope: Message, receive: Receive, send: Send) -> None:
    raise ValueError("secret")


async def owning_up(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 500, "headers": []})
    await send({"type": "http.response.body", "body": b"Internal secret"})


@pytest.mark.parametrize("app", [raising, owning_up])
def test_a_request_that_breaks_the_application_gets_one_sentence(
    app: AsgiApp, caplog: pytest.LogCaptureFixture
) -> None:
    status, why = told(asked(bounded(app, MOST_UPLOAD)))
    assert (status, why) == (400, b"This request cannot be understood.")
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_what_broke_it_is_logged_unless_the_visitor_left(caplog: pytest.LogCaptureFixture) -> None:
    asked(bounded(raising, MOST_UPLOAD), path=MESSAGE)
    (record,) = caplog.records
    assert f"POST {MESSAGE}: ValueError('secret')" in record.getMessage()
    caplog.clear()
    asked(bounded(echo, MOST_UPLOAD), parts=[])
    assert caplog.records == []


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_what_is_no_http_passes_untouched(kind: str) -> None:
    async def other(scope: Message, receive: Receive, send: Send) -> None:
        message = await receive()
        await send({"type": f"{kind}.seen", "length": len(message["body"])})

    app = with_headers(bounded(other, 10))
    assert asked(app, [bytes(10**7)], type=kind) == [{"type": f"{kind}.seen", "length": 10**7}]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/health",
        "/assets/index.js",
        MESSAGE,
        UPLOAD,
        "/gradio_api/file=/tmp/a.png",
        "/x/gradio_api/info",
    ],
)
def test_what_the_page_needs_is_open(path: str) -> None:
    assert told(asked(bounded(echo, MOST_UPLOAD), path=path))[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/proxy=http://example.org/",
        "/gradio_api/file=http://example.org/a.png",
        "/gradio_api/component_server",
        "/x/gradio_api/reset",
        "/gradio_api/",
        "/gradio_api//upload",
        "/gradio_api/queues",
    ],
)
def test_what_it_does_not_need_is_closed(path: str) -> None:
    assert told(asked(bounded(echo, MOST_UPLOAD), path=path)) == (404, b"There is nothing here.")


def test_every_answer_has_safe_headers_beside_its_own() -> None:
    app = with_headers(bounded(echo, MOST_UPLOAD))
    for sent, status in ((asked(app), 200), (asked(app, [bytes(2000)], UPLOAD), 413)):
        headers = dict(sent[0]["headers"])
        assert sent[0]["status"] == status
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert headers[b"referrer-policy"] == b"same-origin"
        policy = dict(rule.strip().split(b" ", 1) for rule in headers[b"content-security-policy"].split(b";"))
        assert b"http" not in b"".join(policy.values())
        assert policy[b"frame-ancestors"] == policy[b"form-action"] == policy[b"base-uri"] == b"'self'"
        assert policy[b"object-src"] == b"'none'"
    assert (b"x-app", b"1") in asked(app)[0]["headers"]
