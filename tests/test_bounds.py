"""Around the web application: refusals, that they arrive, and safe headers on every answer."""

import asyncio
import logging
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
from programs import PATIENCE

from bnn.app.bounds import MOST_MESSAGE_BYTES, AsgiApp, Message, Receive, Send, bounded, with_headers
from bnn.app.linger import lingering

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


LIMITS = [(UPLOAD, MOST_UPLOAD), (MESSAGE, MOST_MESSAGE_BYTES)]


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


def test_after_what_is_too_long_nothing_is_waited_for() -> None:
    async def asking_again(scope: Message, receive: Receive, send: Send) -> None:
        seen = [(await receive())["type"] for _ in range(3)]
        assert seen == ["http.disconnect"] * 3

    (_, *sent) = course(bounded(asking_again, MOST_UPLOAD), once_only(bytes(2000)), UPLOAD)
    assert isinstance(sent[0], dict)
    assert sent[0]["status"] == 413


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

    app = lingering(with_headers(bounded(other, 10)), 10)
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
        "/x/gradio_api/info",
        "/openapi.json",
        "/monitoring",
        "/logout",
        "/gradio_api/openapi.json",
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


CHUNKED = (b"transfer-encoding", b"chunked")
CLOSE = (b"connection", b"close")


def course(
    app: AsgiApp, pieces: AsyncIterator[bytes], path: str = MESSAGE, headers: Iterable[Any] = (CHUNKED,)
) -> list[Message | int]:
    """What happens in order: the messages that `app` sends, and the lengths of the pieces that are read."""
    happened: list[Message | int] = []

    async def receive() -> Message:
        try:
            piece = await anext(pieces)
        except StopAsyncIteration:
            return {"type": "http.disconnect"}
        happened.append(len(piece))
        return {"type": "http.request", "body": piece, "more_body": piece != b""}

    async def send(message: Message) -> None:
        happened.append(message)

    async def run() -> None:
        scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
        await asyncio.wait_for(app(scope, receive, send), PATIENCE)

    asyncio.run(run())
    return happened


async def body(*pieces: bytes, ends: bool = True) -> AsyncIterator[bytes]:
    """A request's body in `pieces`, and its end, or the sender's."""
    for piece in pieces:
        yield piece
    if ends:
        yield b""


async def once_only(piece: bytes) -> AsyncIterator[bytes]:
    yield piece
    pytest.fail("asked for more")


async def endless() -> AsyncIterator[bytes]:
    while True:
        await asyncio.sleep(0)
        yield b"x"


async def silent() -> AsyncIterator[bytes]:
    yield b"x"
    await asyncio.Event().wait()


async def rude(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 401})
    await send({"type": "http.response.body", "body": b"Who ", "more_body": True})
    await send({"type": "http.response.body", "body": b"are you?"})


REFUSALS = [
    (echo, MESSAGE, (b"content-length", b"2000001"), 413, 0),
    (echo, UPLOAD, (b"content-length", b"1001"), 413, 0),
    (echo, UPLOAD, CHUNKED, 413, 3),
    (echo, "/gradio_api/reset", CHUNKED, 404, 0),
    (raising, MESSAGE, CHUNKED, 400, 0),
    (owning_up, MESSAGE, CHUNKED, 400, 0),
    (rude, MESSAGE, CHUNKED, 401, 0),
]


@pytest.mark.parametrize(("app", "path", "header", "status", "read"), REFUSALS)
@pytest.mark.parametrize("ends", [True, False])
def test_the_whole_answer_comes_before_the_rest_is_read_and_the_end_after(
    app: AsgiApp, path: str, header: tuple[bytes, bytes], status: int, read: int, ends: bool
) -> None:
    happened = course(
        lingering(bounded(app, 1000), 10**6), body(*[bytes(400)] * 9, ends=ends), path, [header]
    )
    start, *parts, last = sent = [one for one in happened if not isinstance(one, int)]
    pieces = [400] * 9 + [0] * ends
    assert happened == [*pieces[:read], *sent[:-1], *pieces[read:], last]
    assert (start["status"], CLOSE in start["headers"]) == (status, True)
    assert all(part["more_body"] for part in parts)
    told = b"".join(part["body"] for part in parts)
    assert told
    assert dict(start["headers"]).get(b"content-length", str(len(told)).encode()) == str(len(told)).encode()
    assert last == {"type": "http.response.body"}


@pytest.mark.parametrize(
    ("header", "app"), [(None, rude), ((b"content-length", b"0"), rude), (CHUNKED, echo)]
)
def test_where_nothing_is_left_to_read_nothing_changes(
    header: tuple[bytes, bytes] | None, app: AsgiApp
) -> None:
    headers = [header] if header else []
    assert course(lingering(app, 10**6), body(b"abc"), headers=headers) == course(
        app, body(b"abc"), headers=headers
    )


def test_a_connection_is_closed_though_the_rest_was_read_between_the_answers_parts() -> None:
    async def reading(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.body", "body": b"done"})

    start, *read, end = course(lingering(reading, 0), body(b"abc", b"d"))
    assert start == {"type": "http.response.start", "status": 200, "headers": [CLOSE]}
    assert (read, end) == ([3, 1, 0], {"type": "http.response.body", "body": b"done"})


def test_no_more_than_the_bound_and_a_piece_is_read_after_an_answer() -> None:
    read = [one for one in course(lingering(rude, 1000), body(*[bytes(300)] * 10)) if isinstance(one, int)]
    assert read == [300] * 4


@pytest.mark.parametrize(
    ("bound", "sender"), [("MOST_SECONDS", endless), ("MOST_SECONDS", silent), ("MOST_SILENCE", silent)]
)
def test_who_never_ends_is_cut_off(
    bound: str, sender: Callable[[], AsyncIterator[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MOST_SECONDS", "MOST_SILENCE"):
        monkeypatch.setattr(f"bnn.app.linger.{name}", 0.05 if name == bound else 10 * PATIENCE)
    happened = course(lingering(rude, 10**12), sender())
    assert happened[-1] == {"type": "http.response.body"}
    assert 1 in happened


def test_what_is_read_after_an_answer_is_thrown_away() -> None:
    async def flood() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(10**6)

    tracemalloc.start()
    happened = course(lingering(rude, 10**9), flood())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert happened.count(10**6) == 100
    assert peak < 10 * 10**6
